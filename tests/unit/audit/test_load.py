"""Whoever may search the trail cannot hold it up for others, nor stop the work beside it.

Case of the third attack: sixty searches of 120 short words each used up the connections that indexing needs.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from tests.unit.audit.chain import Chain
from tests.unit.audit.samples import NOON
from tests.unit.audit.test_api import OVERSEER, World, world
from tests.unit.audit.test_indexing import documents, index_all

from salus.audit.adapters.sql import SqlTrail
from salus.audit.api import SEARCHES_OF_ONE_MAX, STREAMS_OF_ONE_MAX, WORDS_MAX, Reader, follow
from salus.audit.domain.search import Found, Question, Visibility
from salus.audit.ports import OutOfReachError
from salus.runtime.places import Places
from salus.runtime.problems import ProblemError

__all__ = ["world"]


async def test_a_search_for_too_many_words_is_refused_before_it_is_made(world: World) -> None:
    few = await world.get("/trail", q=" ".join("a" * WORDS_MAX))
    for path in ("/trail", "/trail/stream"):
        many = await world.get(path, q=" ".join("a" * (WORDS_MAX + 1)))

        assert (many.status_code, many.json()["code"]) == (422, "too-many-words")
    assert few.status_code == 200


class SlowTrail:
    """A trail whose searches wait until they may go on."""

    def __init__(self) -> None:
        self.searching = 0
        self.most = 0
        self.go = asyncio.Event()
        self.began = asyncio.Event()

    async def search(self, *_: object, **_limit: int) -> list[Found]:
        self.searching += 1
        self.most = max(self.most, self.searching)
        self.began.set()
        await self.go.wait()
        self.searching -= 1
        return []

    async def end(self) -> int:
        return 0


async def test_searches_of_one_account_take_turns_and_others_go_between(world: World) -> None:
    slow = SlowTrail()
    reading = world.reading_of(slow)
    other = Reader("did:key:z6Mkother", Visibility(everything=True))
    mine = [asyncio.create_task(reading.search(Question(), OVERSEER, limit=1)) for _ in range(20)]
    await slow.began.wait()
    slow.began.clear()
    hers = asyncio.create_task(reading.search(Question(), other, limit=1))
    await slow.began.wait()
    slow.go.set()
    await asyncio.gather(*mine, hers)

    assert slow.most == SEARCHES_OF_ONE_MAX + 1


async def test_one_account_follows_the_trail_so_many_times_and_no_more(world: World) -> None:
    async with held(world.reading.streams, STREAMS_OF_ONE_MAX, Reader(world.did, Visibility())):
        full = await world.get("/trail/stream")

    assert (full.status_code, full.json()["code"]) == (503, "busy")


@asynccontextmanager
async def held(places: Places, count: int, account: Reader) -> AsyncIterator[None]:
    if count == 0:
        yield
        return
    async with places.taken(account), held(places, count - 1, account):
        yield


@pytest.mark.parametrize("error", [OutOfReachError("away"), ProblemError(503, "busy", "too much")])
async def test_a_stream_that_cannot_go_on_ends_where_its_reader_can_resume(
    world: World, error: Exception
) -> None:
    class Away(SlowTrail):
        async def search(self, *_: object, **_limit: int) -> list[Found]:
            raise error

    stream = follow(world.reading_of(Away()), Question(), OVERSEER, start=7, stopping=lambda: False)

    assert [message async for message in stream] == ["id: 7\n: the trail\n\n"]


async def test_a_shard_of_any_id_that_an_event_can_name_is_indexed(trail: SqlTrail) -> None:
    chain = Chain(shard=2**53 - 1, origin="salus.local/dev/shard/large")
    chain.seal(documents(1))
    await index_all(chain, trail)

    assert (await trail.tip(chain.shard)).height == 1
    assert (await trail.search(Question(since=NOON - timedelta(days=1)), OVERSEER.visible, limit=1)) != []
