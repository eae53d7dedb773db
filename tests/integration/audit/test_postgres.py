"""The trail over PostgreSQL: everything that holds with SQLite, and case X4."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator

import pytest
from tests.unit.audit import test_api, test_indexing
from tests.unit.audit.test_api import World, world
from tests.unit.audit.test_indexing import EVERYTHING

from salus.audit.adapters.sql import SqlTrail, open_trail
from salus.audit.domain.search import Question

__all__ = ["world"]


@pytest.fixture
async def trail(postgres: str) -> AsyncIterator[SqlTrail]:
    async with open_trail(postgres) as opened:
        yield opened


# The unit tests that ask for a trail, once more with the one above.
globals().update(
    {
        name: test
        for module in (test_indexing, test_api)
        for name, test in vars(module).items()
        if name.startswith("test_") and {"trail", "world"} & inspect.signature(test).parameters.keys()
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
