"""Fixtures of the archive's tests."""

from __future__ import annotations

import pytest
from tests.unit.archive.small_ledger import SmallLedger

from salus.archive.quick_rows import QuickRows, load


@pytest.fixture
async def small_ledger() -> SmallLedger:
    ledger = SmallLedger()
    await ledger.fill()
    return ledger


@pytest.fixture(scope="module")
def quick() -> QuickRows:
    loaded = load()
    if loaded is None:
        pytest.skip("no C compiler, or a processor without vector lanes")
    return loaded
