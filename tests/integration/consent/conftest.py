"""The town on real Kafka."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.integration.consent.town import Town, founded_town

from salus.devkit.addresses import Addresses


@pytest.fixture
async def town(parts: Addresses, tmp_path: Path) -> Town:
    return await founded_town(parts, tmp_path)
