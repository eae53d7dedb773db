"""No block is dated by a wrong clock. Case: "A sequencer's wrong clock is found, not prevented"."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from tests.unit.sequencer.world import CLINICAL, IDENTITY, World, document

from salus.ledger.records import Records, records_of, timestamp_at
from salus.messaging import Record
from salus.objects.memory import MemoryObjects
from salus.sequencer.adapters.memory import MemoryClock, SilentObserver
from salus.sequencer.clock_check import CLOCK_OFF_MAX, ClockCheck, clock_off
from salus.sequencer.handlers import Progress, run

NOW = MemoryClock.time
MINUTE = timedelta(minutes=1)


def appended(*times: datetime) -> list[Records]:
    return records_of([Record("t", 0, n, timestamp_at(at), None, b"", ()) for n, at in enumerate(times)])


@pytest.mark.parametrize(
    ("store", "records", "off"),
    [
        (NOW, [NOW], None),
        (NOW - CLOCK_OFF_MAX, [], None),
        (None, [], None),
        (None, [NOW + 90 * MINUTE], None),
        # The broker's clock alone stops nothing, and records may have waited.
        (NOW, [NOW + 90 * MINUTE], None),
        (NOW, [NOW - 90 * MINUTE], None),
        # The store's clock is wrong: what was appended a moment ago says so.
        (NOW - 10 * MINUTE, [NOW - 90 * MINUTE, NOW], None),
        (NOW + 10 * MINUTE, [NOW], None),
        # Ours is: nobody agrees.
        (NOW - 10 * MINUTE, [NOW - 10 * MINUTE], 10 * MINUTE),
        (NOW - 10 * MINUTE, [], 10 * MINUTE),
        (NOW + 10 * MINUTE, [NOW + 10 * MINUTE], -10 * MINUTE),
        (NOW - 2 * MINUTE, [NOW - 90 * MINUTE], 2 * MINUTE),
    ],
)
def test_a_clock_is_off_if_neither_store_nor_a_fresh_record_agrees_with_it(
    store: datetime | None, records: list[datetime], off: timedelta | None
) -> None:
    assert clock_off(NOW, store=store, parts=appended(*records)) == off


def world_with_a_store_of_its_own_clock() -> World:
    world = World.with_hospital()
    right = MemoryClock()
    world.store.shows = lambda: right.time + timedelta(milliseconds=world.clock.elapsed_ms)
    return world


@pytest.mark.parametrize("ahead", [10 * MINUTE, -10 * MINUTE])
async def test_no_block_is_dated_by_a_wrong_clock_until_it_is_set_right(ahead: timedelta) -> None:
    world = world_with_a_store_of_its_own_clock()
    world.publish(document(1))
    world.clock.time += ahead
    sequencer, stop = replace(world.sequencer(), progress=Progress()), asyncio.Event()
    running = asyncio.create_task(run(sequencer, stop))
    while world.clock.elapsed_ms < 300_000:  # noqa: ASYNC110  # each step of the loop is a step of the world
        await asyncio.sleep(0)
    assert not world.store.objects
    assert "set the clock that is wrong" in (sequencer.progress.clock_off or "")
    world.clock.time -= ahead
    while not world.is_everything_sealed():  # noqa: ASYNC110
        await asyncio.sleep(0)
    stop.set()
    await running

    assert sequencer.progress.clock_off is None
    assert isinstance(sequencer.observer, SilentObserver)
    assert sequencer.observer.off == [ahead.total_seconds(), 0]
    assert all(abs(header.time - NOW) < 10 * MINUTE for header in world.headers())
    assert world.statuses() == {(*IDENTITY, 0): "accepted", (CLINICAL, 0, 0): "accepted"}


async def test_a_broker_whose_clock_is_far_ahead_stops_no_shard() -> None:
    world = world_with_a_store_of_its_own_clock()
    world.topics.time_ms += 365 * 24 * 3600 * 1000
    world.publish(document(1))
    await world.seal_everything()

    assert all(header.time < NOW + MINUTE for header in world.headers())


async def test_a_stop_ends_the_wait_for_a_clock() -> None:
    world = world_with_a_store_of_its_own_clock()
    world.clock.time += 10 * MINUTE
    await world.run_until(lambda: world.clock.elapsed_ms > 10_000)

    assert not world.store.objects


async def test_a_machine_that_slept_is_compared_with_what_the_store_says_now() -> None:
    # Its monotonic clock stood still meanwhile, so what was counted on from before is of the past.
    clock, asked = MemoryClock(), []
    archive = MemoryObjects(shows=lambda: asked.append(clock.time) or clock.time)  # type: ignore[func-returns-value]  # counts
    check = ClockCheck()
    assert await check.look(archive, clock) == (NOW, None)  # type: ignore[arg-type]  # as much of it as is asked
    assert await check.look(archive, clock) == (NOW, None)  # type: ignore[arg-type]
    assert len(asked) == 1
    clock.time += timedelta(hours=1)

    assert await check.look(archive, clock) == (clock.time, None)  # type: ignore[arg-type]
    assert len(asked) == 2
