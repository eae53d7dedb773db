"""Fixtures of the archive's tests."""

from __future__ import annotations

import pytest
from tests.unit.archive.small_ledger import SmallLedger


@pytest.fixture
async def small_ledger() -> SmallLedger:
    ledger = SmallLedger()
    await ledger.fill()
    return ledger
