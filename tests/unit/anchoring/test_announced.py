"""What is announced says where to look, and nothing else."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from salus.ledger.block import header_key


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seals=st.lists(st.integers(0, 1), max_size=20),
    told=st.lists(st.dictionaries(st.integers(0, 2), st.integers(-1, 30)), min_size=1, max_size=8),
)
def test_whatever_is_announced_every_header_is_appended_once(
    make_world: Any, seals: list[int], told: list[dict[int, int]]
) -> None:
    world = make_world()

    async def grow() -> None:
        for which in seals:
            await world.chains[which].seal([])
        anchor = world.anchor()
        for announced in told:
            await anchor.append(announced)
        while await anchor.append(told[-1]):
            pass

    asyncio.run(grow())

    asyncio.run(world.require_whole())


async def test_the_block_that_was_announced_is_all_that_is_read(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    anchor = world.anchor()
    await anchor.append()
    await world.chains[0].seal_samples(1)
    asked, get = [], world.ledger.get

    async def counting(key: str) -> bytes:
        asked.append(key)
        return bytes(await get(key))

    monkeypatch.setattr(world.ledger, "get", counting)

    assert await anchor.append({0: 0}) == 1

    assert sorted(asked) == [header_key(0, 0), header_key(1, 0)]
