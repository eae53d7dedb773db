"""How long anchoring pauses between two appends."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from salus.anchoring import resting
from salus.anchoring.metrics import Metrics
from salus.anchoring.resting import BACKLOG_LEAVES, REST_S_MAX, Rest, pause_after
from salus.anchoring.runner import Runner
from salus.archive.log import CHECKPOINT_KEY

LARGE, SMALL = BACKLOG_LEAVES, BACKLOG_LEAVES - 1


@pytest.mark.parametrize(
    ("took_s", "pause_s"),
    [
        (0.0, 0.05),
        # What is left of the interval, as long as that is more than twice what the append took.
        (0.01, 0.04),
        # On a busy machine an append takes longer, and is rarer.
        (0.04, 0.08),
        (0.09, 0.18),
        # One that was stuck holds up nobody for as long again.
        (3.0, REST_S_MAX),
    ],
)
def test_the_longer_an_append_takes_the_longer_is_the_pause(took_s: float, pause_s: float) -> None:
    assert pause_after(took_s, 0.05) == pytest.approx(pause_s)


def test_an_interval_that_an_operator_chose_is_kept() -> None:
    assert pause_after(0.1, 5.0) == pytest.approx(4.9)


@pytest.fixture
def long(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a backlog is worked off, rests end only with it."""
    monkeypatch.setattr(resting, "BACKLOG_RESTS", 1_000_000)
    monkeypatch.setattr(resting, "BACKLOG_REST_S_MAX", 3600)


async def _goes_on(waiting: asyncio.Future[Any]) -> bool:
    done, _ = await asyncio.wait([waiting], timeout=0.2)
    return not done


async def test_the_interval_is_rested() -> None:
    waiting = asyncio.create_task(Rest(3600).after(0.01))

    assert await _goes_on(waiting)

    waiting.cancel()


@pytest.mark.usefixtures("long")
@pytest.mark.parametrize("heard", [[], [SMALL], [SMALL, LARGE], [LARGE, SMALL]])
async def test_nobody_waits_for_longer_without_a_backlog(heard: list[int]) -> None:
    rest = Rest(0)
    rest.heard(LARGE)
    # What was heard before is in this append.
    rest.begin()
    for leaves in heard:
        rest.heard(leaves)

    await asyncio.wait_for(rest.after(0.01), timeout=60)


@pytest.mark.usefixtures("long")
async def test_while_all_blocks_are_large_appends_are_rare() -> None:
    rest = Rest(0)
    rest.heard(SMALL)
    rest.begin()
    rest.heard(LARGE)
    waiting = asyncio.create_task(rest.after(0.01))
    assert await _goes_on(waiting)
    rest.heard(LARGE)
    assert await _goes_on(waiting)

    rest.heard(SMALL)

    await asyncio.wait_for(waiting, timeout=60)


@pytest.mark.parametrize("took_s", [0.001, 3.0])
async def test_a_backlog_without_an_end_is_anchored_too(took_s: float) -> None:
    rest = Rest(0)
    rest.begin()
    rest.heard(LARGE)

    await asyncio.wait_for(rest.after(took_s), timeout=60)


@pytest.mark.usefixtures("long")
async def test_the_blocks_of_a_backlog_are_appended_together(world: Any) -> None:
    anchor = world.anchor()
    await anchor.stand()
    runner = Runner(anchor, Metrics(CollectorRegistry()), poll_interval_s=600, checkpoint_interval_s=0)
    await world.chains[0].seal_samples(1)
    runner.wake(shard=0, height=0, leaves=SMALL)
    world.log.hold = CHECKPOINT_KEY
    running = asyncio.create_task(runner.run())
    await asyncio.wait_for(world.log.held.wait(), timeout=60)
    await world.chains[0].seal_samples(1)
    runner.wake(shard=0, height=1, leaves=LARGE)
    world.log.hold = ""
    world.log.release.set()
    await asyncio.wait_for(runner.wait_beyond(0), timeout=60)
    assert await _goes_on(asyncio.ensure_future(runner.wait_beyond(1)))

    await world.chains[0].seal_samples(1)
    runner.wake(shard=0, height=2, leaves=SMALL)

    published = await asyncio.wait_for(runner.wait_beyond(1), timeout=60)
    assert published.head.size == 3
    running.cancel()
    await asyncio.wait([running])
