"""Nobody who waits for a checkpoint waits for what is done after it."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import CollectorRegistry
from tests.unit.anchoring.world import World

from salus.anchoring.metrics import Metrics
from salus.anchoring.runner import Runner
from salus.devkit.waiting import until


async def test_a_checkpoint_is_told_before_anything_is_tidied_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(with_bodies=True)
    tidying, never = asyncio.Event(), asyncio.Event()

    async def delete(_key: str) -> None:
        tidying.set()
        await never.wait()

    anchor = world.anchor()
    for _ in range(255):
        await world.chains[0].seal([])
    await anchor.append()
    # A store on which clearing away takes for ever; the next entry makes a tile full, and the partial one of
    # before is cleared away.
    monkeypatch.setattr(world.log, "delete", delete)
    runner = Runner(anchor, Metrics(CollectorRegistry()), poll_interval_s=0.01, checkpoint_interval_s=0)
    await world.chains[0].seal_samples(2)
    running = asyncio.create_task(runner.run())

    published = await asyncio.wait_for(runner.wait_beyond(255), timeout=30)

    await asyncio.wait_for(tidying.wait(), timeout=30)
    assert published.head.size == 256
    running.cancel()
    await asyncio.wait([running])


async def test_trouble_is_over_with_the_first_append_not_with_the_last() -> None:
    world = World(with_bodies=True)
    await world.chains[0].seal_samples(2)
    # Long between two appends, so what is seen is a log that has not caught up yet.
    runner = Runner(
        world.anchor(), Metrics(CollectorRegistry()), poll_interval_s=0.01, checkpoint_interval_s=3600
    )
    assert runner.trouble is not None
    running = asyncio.create_task(runner.run())

    await asyncio.wait_for(runner.wait_beyond(0), timeout=30)

    assert await until(lambda: runner.trouble is None, deadline_s=30)
    assert not runner.caught_up
    running.cancel()
    await asyncio.wait([running])
