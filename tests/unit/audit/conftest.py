"""A trail in SQLite, for the unit tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from salus.audit.adapters.sql import SqlTrail, open_trail


@pytest.fixture
async def trail(tmp_path: Path) -> AsyncIterator[SqlTrail]:
    async with open_trail(f"sqlite+aiosqlite:///{tmp_path}/audit.db") as opened:
        yield opened
