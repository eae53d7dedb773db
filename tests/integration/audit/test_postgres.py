"""The trail over PostgreSQL: everything that holds with SQLite, and case X4."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from tests.integration.postgres import new_database, running_server
from tests.unit.audit import (
    test_api,
    test_indexing,
    test_load,
    test_probing,
    test_repetition,
    test_rights_review,
)
from tests.unit.audit.chain import Chain
from tests.unit.audit.samples import AROUND, NOON
from tests.unit.audit.test_api import World, world
from tests.unit.audit.test_indexing import EVERYTHING, FakeOutputs, documents, index_all, indexer_of
from tests.unit.audit.test_rights_review import network

from salus.audit.adapters.sql import SqlTrail, open_trail
from salus.audit.domain.search import Question
from salus.audit.handlers import Alarm, Bell, Follower
from salus.audit.ports import OutOfReachError
from salus.runtime import database

__all__ = ["network", "world"]
ON_A_TRAIL = {"trail", "world", "network"}


@pytest.fixture
async def trail(postgres: str) -> AsyncIterator[SqlTrail]:
    async with open_trail(postgres) as opened:
        yield opened


# The unit tests that ask for a trail, once more with the one above.
globals().update(
    {
        name: test
        for module in (test_indexing, test_api, test_load, test_probing, test_repetition, test_rights_review)
        for name, test in vars(module).items()
        if name.startswith("test_") and ON_A_TRAIL & inspect.signature(test).parameters.keys()
    }
)


async def test_text_that_the_database_cannot_hold_is_refused(world: World) -> None:
    paths = [
        f"{path}={text}"
        for text in ("%00", "a%00b", "%1b[2J", "line%0abreak")
        for path in (
            *(f"/trail?{name}" for name in ("q", "who", "object", "patient", "type", "cursor")),
            *(f"/trail/stream?{name}" for name in ("q", "who", "object", "patient", "type")),
            "/reports/disclosures?patient",
        )
    ]
    paths += ["/trail/did:key:abc%00/x", "/trail/did:key:abc/x%00", "/trail/leaf/%00"]

    answers = {path: (await world.client.get(path)).status_code for path in paths}

    assert answers == dict.fromkeys(paths, 422)


async def test_odd_words_find_the_same_as_a_search_by_hand(world: World) -> None:
    everything = await world.trail.search(Question(), EVERYTHING, limit=100)
    for text in ("%", "_", "\\", "'; --", "\u017f", "\u0130", "木", "🏥", "\ufffe", "a" * 256):
        assert (await world.get("/trail", q=text)).status_code == 200

        found = await world.trail.search(Question(q=text), EVERYTHING, limit=100)
        words = text.lower().split()
        assert found == [each for each in everything if all(word in each.entry.words for word in words)]


async def test_indexing_has_connections_that_no_reader_can_use_up(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "POOL_CONNECTIONS", 1)
    monkeypatch.setattr(database, "POOL_CONNECTIONS_MAX", 1)
    monkeypatch.setattr(database, "POOL_WAIT_S_MAX", 0.01)
    chain = Chain()
    chain.seal(documents(1))
    async with open_trail(postgres) as trail, open_trail(postgres) as asked, holding(asked):
        with pytest.raises(OutOfReachError, match="no connection is free"):
            await asked.end()

        assert await index_all(chain, trail) == 1


@asynccontextmanager
async def holding(trail: SqlTrail) -> AsyncIterator[None]:
    """Hold the only connection, as a slow search does."""
    async with trail._reading():
        yield


async def test_indexing_waits_for_a_database_that_stops_and_does_not_end() -> None:
    chain = Chain()
    chain.seal(documents(1))
    async with AsyncExitStack() as stack:
        async with running_server() as server:
            url = server.url(await new_database(server))
            trail = await stack.enter_async_context(open_trail(url))
            alarm = Alarm(FakeOutputs(), AROUND, lambda: NOON)
            follower = Follower(indexer_of(chain, trail), alarm, announced=Bell(), grown=Bell(), poll_s=0.01)
            assert await follower.round()

        chain.seal(documents(1, start=1))
        assert not await follower.round()
        assert not await follower.round()
