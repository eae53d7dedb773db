"""A fold whose database has no room says so at once, and goes on by itself when there is (issue 12)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.full_databases import writes_nothing
from tests.unit.contracts.backlogs import AT, COUNT, TopicOfBatches, backlog, follower_on, running

from salus.contracts import fold
from salus.contracts.fold_store import open_fold_store
from salus.messaging import MessagingError


async def test_a_full_disk_of_a_fold_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits, told = asyncio.Event(), set[str]()

    def failed(why: str) -> None:
        told.add(why)
        waits.set()

    monkeypatch.setattr(fold, "failed", failed)
    monkeypatch.setattr(fold, "RETRY_S", 0)
    async with open_fold_store(f"sqlite+aiosqlite:///{tmp_path}/folded.db") as store:
        follower = await follower_on(store, TopicOfBatches(backlog()))
        async with running(follower), asyncio.timeout(60):
            with writes_nothing(store.engine):
                await waits.wait()
                with pytest.raises(MessagingError, match="waits: DatabaseRefusesError: its disk is full"):
                    await follower.check()
            assert await follower._waits.until(lambda: follower._is_rebuilt, seconds=60)
            await follower.check()
        assert await store.positions() == {AT: COUNT}
    assert told == {"DatabaseRefusesError: its disk is full"}
