"""What is announced says where to look, and nothing else."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from salus.anchoring.metrics import Metrics
from salus.anchoring.runner import Runner
from salus.devkit.waiting import until
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

    async def counting(key: str, *, bytes_max: int) -> bytes:
        asked.append(key)
        return bytes(await get(key, bytes_max=bytes_max))

    monkeypatch.setattr(world.ledger, "get", counting)

    assert await anchor.append({0: 0}) == 1

    assert sorted(asked) == [header_key(0, 0), header_key(1, 0)]


async def test_nothing_more_is_looked_for_once_the_log_has_all_that_was_announced(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = Runner(
        world.anchor(), Metrics(CollectorRegistry()), poll_interval_s=600, checkpoint_interval_s=0
    )
    for chain in world.chains.values():
        await chain.seal_samples(1)
    running = asyncio.create_task(runner.run())
    assert await until(lambda: runner.caught_up, deadline_s=60)
    looks, get = 0, world.ledger.get

    async def counting(key: str, *, bytes_max: int) -> bytes:
        nonlocal looks
        # Each look asks for the next block of the other shard, too.
        looks += key == header_key(1, 1)
        return bytes(await get(key, bytes_max=bytes_max))

    monkeypatch.setattr(world.ledger, "get", counting)
    for height in (1, 2, 3):
        await world.chains[0].seal_samples(1)
        # Both at once: while nothing was heard of a shard, one looks until nothing is found.
        runner.wake(shard=1, height=0)
        runner.wake(shard=0, height=height)
        await asyncio.wait_for(runner.wait_beyond(height + 1), timeout=60)
        # Turns in which one more look would be taken.
        for _ in range(100):
            await asyncio.sleep(0)

    assert looks == 3
    running.cancel()
    await asyncio.wait([running])


async def test_what_nobody_announced_is_found_behind_what_somebody_did(world: Any) -> None:
    runner = Runner(
        world.anchor(), Metrics(CollectorRegistry()), poll_interval_s=600, checkpoint_interval_s=0
    )
    running = asyncio.create_task(runner.run())
    assert await until(lambda: runner.caught_up, deadline_s=60)
    for chain in world.chains.values():
        await chain.seal_samples(1)
        await chain.seal_samples(1)
    runner.wake(shard=0, height=0)

    # Of shard 1 nothing was heard, so one looks until nothing is found.
    await asyncio.wait_for(runner.wait_beyond(3), timeout=60)

    running.cancel()
    await asyncio.wait([running])


async def test_of_shards_that_do_not_exist_nothing_is_kept(world: Any) -> None:
    """Case LOW 14 of red team B: announcements are not signed by a shard, and each number took memory."""
    runner = Runner(
        world.anchor(), Metrics(CollectorRegistry()), poll_interval_s=0.01, checkpoint_interval_s=0
    )
    for shard in range(1000):
        runner.wake(shard=shard, height=5)

    assert runner._announced.keys() == {0, 1}
    assert runner.lag_blocks == 12


async def test_what_is_announced_beyond_the_archive_is_forgotten(world: Any) -> None:
    """Case B6: one unsigned record announced block 999,999,999, and the log was behind by it for ever."""
    runner = Runner(
        world.anchor(), Metrics(CollectorRegistry()), poll_interval_s=600, checkpoint_interval_s=0
    )
    for chain in world.chains.values():
        await chain.seal_samples(1)
    running = asyncio.create_task(runner.run())
    assert await until(lambda: runner.caught_up, deadline_s=60)
    runner.wake(shard=0, height=999_999_999)

    assert await until(lambda: runner.lag_blocks == 0, deadline_s=60)
    await world.chains[0].seal_samples(1)
    runner.wake(shard=0, height=1)
    await asyncio.wait_for(runner.wait_beyond(2), timeout=60)
    running.cancel()
    await asyncio.wait([running])
