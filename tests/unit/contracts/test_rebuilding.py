"""What is there at a start is folded however long that takes: no deadline ends it; it says how far it is."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal, cast

import pytest
from tests.databases import Databases
from tests.unit.contracts.test_rebuilt_state import CONSENT_TOPIC, View, founded, seconds

from salus.contracts import fold
from salus.contracts.fold import Follower, RebuildingError
from salus.contracts.fold_store import open_fold_store
from salus.events.effect import Refused
from salus.messaging import Position, Reader, Record
from salus.runtime.identity_view import IdentityView

AT = (CONSENT_TOPIC, 0)
NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)


class Topic:
    """A topic of records that nobody accepts; a batch comes when it is let come."""

    partitions = (AT,)

    def __init__(self, count: int) -> None:
        self._waiting = [
            Record(*AT, n, int(seconds(n).timestamp() * 1000), b"k", b"?", ()) for n in range(count)
        ]
        self._position = 0
        self.seen_ends = {AT: count}
        self.comes = asyncio.Event()

    async def poll(self, *, max_records: int, timeout_ms: int) -> Sequence[Record]:
        await self.comes.wait()
        self.comes.clear()
        first, self._position = self._position, self._position + 2
        assert max_records > 2
        assert timeout_ms
        return self._waiting[first : first + 2]

    async def end_offsets(self) -> dict[tuple[str, int], int]:
        return {AT: len(self._waiting)}

    async def position(self, *_: Any) -> int:
        return self._position

    def require_whole(self, _: Any) -> None:
        """Nothing is gone."""

    def require_whole_topics(self) -> None:
        pass

    def seek(self, at: Position) -> None:
        self._position = at.offset


async def test_who_asks_hears_how_far_it_is_until_all_is_folded(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fold, "LOOK_S", 0.001)
    # What is written together is told of together.
    monkeypatch.setattr(fold, "BATCHES_AT_ONCE_MAX", 1)
    topic, view = Topic(4), View(founded())
    async with open_fold_store(await databases.url("a")) as store:
        follower = Follower(
            cast("Reader", topic), store=store, identity=cast("IdentityView", view), contracts=[]
        )
        running = asyncio.create_task(follower.run())
        told: list[str] = []
        for _ in range(2):
            while True:
                with pytest.raises(Exception, match=r"folded|begun") as looked:
                    await follower.check_rebuilt()
                if isinstance(looked.value, RebuildingError) and looked.value.folded == len(told) * 2:
                    break
            with pytest.raises(RebuildingError):
                await follower.check()
            told.append(str(looked.value))
            topic.comes.set()
        monkeypatch.setattr(fold, "LOOK_S", 60)
        await follower.check_rebuilt()
        await follower.check()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    assert told == ["folded 0 of 4 records that were there", "folded 2 of 4 records that were there"]


async def test_what_was_read_ahead_of_a_batch_that_failed_is_read_again(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the records of that batch would be passed over."""
    monkeypatch.setattr(fold, "RETRY_S", 0)
    topic, view = Topic(6), View(founded())
    topic.comes = AlwaysSet()
    async with open_fold_store(await databases.url("a")) as store:
        write, failures = store.set_outcomes, ["the database is away"]

        async def written(connection: Any, outcomes: Any) -> None:
            if failures:
                raise OSError(failures.pop())
            await write(connection, outcomes)

        monkeypatch.setattr(store, "set_outcomes", written)
        follower = Follower(
            cast("Reader", topic), store=store, identity=cast("IdentityView", view), contracts=[]
        )
        running = asyncio.create_task(follower.run())
        async with asyncio.timeout(60):
            assert await follower._waits.until(lambda: follower._is_rebuilt, seconds=60)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        wanted = [Position(*AT, offset) for offset in range(6)]
        async with store.engine.connect() as connection:
            outcomes = await store.outcomes(connection, wanted)

    assert not failures
    assert [*map(type, outcomes.values())] == [Refused] * 6


class AlwaysSet(asyncio.Event):
    """A batch comes whenever it is asked for."""

    async def wait(self) -> Literal[True]:
        await asyncio.sleep(0)
        return True
