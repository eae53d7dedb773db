"""What is over is told at once, not when all there is to do has been done."""

from __future__ import annotations

import asyncio

from prometheus_client import CollectorRegistry
from tests.unit.anchoring.world import World

from salus.anchoring.metrics import Metrics
from salus.anchoring.runner import Runner
from salus.devkit.waiting import until


async def test_trouble_is_over_with_the_first_append_not_with_the_last() -> None:
    world = World(with_bodies=True)
    await world.chains[0].seal_samples(2)
    # Long between two appends, so what is seen is a log that has not caught up yet.
    runner = Runner(
        world.anchor(), Metrics(CollectorRegistry()), poll_interval_s=0.01, checkpoint_interval_s=3600
    )
    assert runner.trouble is not None
    running = asyncio.create_task(runner.run())

    await asyncio.wait_for(runner.wait_beyond(0), timeout=60)

    assert await until(lambda: runner.trouble is None, deadline_s=60)
    assert not runner.caught_up
    running.cancel()
    await asyncio.wait([running])
