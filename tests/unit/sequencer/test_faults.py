"""Whatever crashes, races or is lost: every record is in exactly one block, in order.

Hypothesis draws the schedule: who takes the next step, which write is lost (did not happen), late (happened,
answer lost) or slow (happens any time later, even after its writer died), and who crashes before or after
which effect. Two sequencers with clocks of their own share the shard all the while.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tests.effort import tries
from tests.unit.sequencer.world import CLINICAL, Judge, World, document

from salus.ledger.block import Header
from salus.objects.errors import AlreadyExistsError, StoreAwayError
from salus.objects.memory import MemoryObjects
from salus.objects.store import Entry
from salus.sequencer.adapters.archive import ObjectArchive
from salus.sequencer.adapters.memory import (
    MemoryAnnouncements,
    MemoryClock,
    MemoryIdentities,
    MemoryLog,
    SilentObserver,
)
from salus.sequencer.adapters.patience import Patience
from salus.sequencer.gathering import Limits
from salus.sequencer.handlers import Sequencer, run
from salus.sequencer.ports import Announcement

SCHEDULES = tries(80, long=5000)
STEPS_MAX = 20_000
RECORDS = 10


class CrashError(BaseException):
    """The process is gone: nothing after this line happens."""


@dataclass
class Storm:
    """Decides who goes next and what goes wrong; calm after `stormy_steps`."""

    random: Random
    stormy_steps: int
    steps: int = 0
    waiting: list[tuple[str, asyncio.Future[None]]] = field(default_factory=list)
    slow: list[Callable[[], Awaitable[None]]] = field(default_factory=list)
    crashed: set[str] = field(default_factory=set)
    crashes: int = 0
    races_lost: int = 0
    faults: Counter[str] = field(default_factory=Counter)

    @property
    def calm(self) -> bool:
        return self.steps >= self.stormy_steps

    def chance(self, one_in: int) -> bool:
        return not self.calm and self.random.randrange(one_in) == 0

    async def turn(self, who: str) -> None:
        """Wait to be chosen; perhaps crash there."""
        if who in self.crashed:
            raise CrashError
        chosen: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting.append((who, chosen))
        await chosen
        if who in self.crashed:
            raise CrashError
        if self.chance(25):
            self.crash(who)

    def crash(self, who: str) -> None:
        self.crashed.add(who)
        self.crashes += 1
        raise CrashError

    async def step(self) -> None:
        """Let everybody come to rest, then let one of them, or one slow write, go on."""
        quiet, seen = 0, -1
        while quiet < 4:
            await asyncio.sleep(0)
            quiet, seen = (quiet + 1, seen) if len(self.waiting) == seen else (0, len(self.waiting))
        self.steps += 1
        if self.slow and (self.calm or self.random.randrange(4) == 0):
            await self.slow.pop(self.random.randrange(len(self.slow)))()
        self.waiting = [(who, chosen) for who, chosen in self.waiting if not chosen.done()]
        if self.waiting:
            _, chosen = self.waiting.pop(self.random.randrange(len(self.waiting)))
            chosen.set_result(None)


class StormyObjects(MemoryObjects):
    """One sequencer's way to the shared store: every step waits its turn, every write may go wrong."""

    def __init__(self, store: MemoryObjects, storm: Storm, who: str) -> None:
        super().__init__(objects=store.objects)
        self._etags = store._etags  # one store, several ways to it
        self._storm = storm
        self._who = who

    async def get(self, key: str, *, bytes_max: int) -> bytes:
        await self._storm.turn(self._who)
        return await super().get(key, bytes_max=bytes_max)

    async def head(self, key: str) -> Entry:
        await self._storm.turn(self._who)
        return await super().head(key)

    async def create(self, key: str, data: bytes) -> str:
        storm = self._storm
        await storm.turn(self._who)
        if storm.chance(8):
            raise self._away(key, "lost")
        if storm.chance(8):
            storm.slow.append(lambda: self._land(key, data))
            raise self._away(key, "slow")
        etag = await super().create(key, data)
        if storm.chance(25):
            storm.crash(self._who)
        if storm.chance(8):
            raise self._away(key, "late")
        return etag

    def _away(self, key: str, fault: str) -> StoreAwayError:
        self._storm.faults[fault] += 1
        return StoreAwayError(key, fault)

    async def _land(self, key: str, data: bytes) -> None:
        with suppress(AlreadyExistsError):
            await super().create(key, data)


class StormyAnnouncements(MemoryAnnouncements):
    """Announcing may crash before or after it happened."""

    def __init__(self, shared: list[Announcement], storm: Storm, who: str) -> None:
        super().__init__(shared, lambda: storm.turn(who))
        self._storm = storm
        self._who = who

    async def announce(self, block: Announcement) -> None:
        await super().announce(block)
        if self._storm.chance(25):
            self._storm.crash(self._who)


def sequencer_in(world: World, storm: Storm, who: str, clock: MemoryClock) -> Sequencer:
    calm = world.sequencer()
    identities = calm.identities
    assert isinstance(identities, MemoryIdentities)
    return replace(
        calm,
        archive=ObjectArchive(StormyObjects(world.store, storm, who), Patience(pause_first_s=0)),
        log=MemoryLog(world.topics, clock, lambda: storm.turn(who)),
        identities=replace(identities, turn=lambda: storm.turn(who)),
        announcements=StormyAnnouncements(world.announcements.announced, storm, who),
        clock=clock,
        offload=Judge(lambda _: storm.turn(who)),
    )


async def life(world: World, storm: Storm, who: str, stop: asyncio.Event) -> None:
    """Run a sequencer, and a new one whenever it crashed, as an orchestrator does."""
    skew = timedelta(seconds=storm.random.randrange(-60, 60))
    clock = MemoryClock(world.clock.time + skew)
    while not stop.is_set():
        try:
            sequencer = sequencer_in(world, storm, who, clock)
            await run(sequencer, stop)
        except CrashError:
            storm.crashed.discard(who)
        assert isinstance(sequencer.observer, SilentObserver)
        storm.races_lost += sequencer.observer.races_lost


def publish_something(world: World, storm: Storm, number: int) -> None:
    """Append a good, bad or repeated record, perhaps after a transaction marker."""
    at = (CLINICAL, storm.random.randrange(2))
    if storm.random.randrange(6) == 0:
        world.topics.skip(*at)
    kind = storm.random.randrange(6)
    if kind == 0:
        world.publish(None, at=at)
    elif kind == 1:
        world.publish(document(storm.random.randrange(RECORDS)), at=at)
    else:
        world.publish(document(number), at=at)


async def play(random: Random) -> tuple[World, Storm]:
    """Play one schedule until every record is sealed and announced."""
    storm = Storm(random, stormy_steps=random.randrange(50, 400))
    limits = Limits(
        records_max=random.randrange(1, 5),
        bytes_max=random.choice([10, len(document(0)) + 10, 16 * 1024 * 1024]),
        age_ms_max=300,
        in_flight_max=random.randrange(1, 4),
    )
    world = World.with_hospital(limits=limits)
    stop = asyncio.Event()
    lives = [asyncio.create_task(life(world, storm, who, stop)) for who in ("A", "B")]
    published = 0
    while not stop.is_set() or not all(task.done() for task in lives):
        if published < RECORDS and (storm.calm or random.randrange(3) == 0):
            publish_something(world, storm, published)
            published += 1
        await storm.step()
        assert storm.steps < STEPS_MAX, "the sequencers did not come to an end"
        assert not any(task.done() and task.exception() for task in lives)
        if published == RECORDS and not storm.slow and world.is_everything_sealed() and is_announced(world):
            stop.set()
    await asyncio.gather(*lives)
    return world, storm


def is_announced(world: World) -> bool:
    headers = sum(key.endswith("/header") for key in world.store.objects)
    return {block.height for block in world.announcements.announced} == set(range(headers))


def expected_statuses(world: World, headers: Iterable[Header], places: list[Any]) -> list[str]:
    """Judge the records again, block after block, in each as they were appended."""
    records = {(r.topic, r.partition, r.offset): r for r in world.topics.records()}
    seen: set[bytes] = set()
    statuses: dict[Any, str] = {}
    waiting = iter(places)
    for header in headers:
        block = [next(waiting) for _ in range(header.leaves)]
        for place in sorted(block, key=lambda place: (records[place].timestamp_ms, place)):
            value = records[place].value
            if value is None:
                statuses[place] = "rejected:tombstone"
            else:
                statuses[place] = "rejected:duplicate" if value in seen else "accepted"
                seen.add(value)
    return [statuses[place] for place in places]


def require_laws(world: World) -> None:
    rows = world.rows()
    places: list[Any] = [(row["topic"], row["partition"], row["offset"]) for row in rows]
    records = {(r.topic, r.partition, r.offset): r for r in world.topics.records()}
    assert len(places) == len(set(places)), "a record is in two blocks"
    assert set(places) == set(records), "a record was lost or made up"
    by_partition = sorted(places, key=lambda place: place[:2])
    assert by_partition == sorted(places), "a record was moved"
    assert [row["status"] for row in rows] == expected_statuses(world, world.headers(), places)
    for row, place in zip(rows, places, strict=True):
        assert row["value"] == (records[place].value if row["status"] == "accepted" else None)
    announced = {block.height: block for block in world.announcements.announced}
    for header in world.headers():
        block = announced[header.height]
        assert (block.leaves, block.accepted) == (header.leaves, header.accepted)
        assert len(block.rejections) == header.leaves - header.accepted


@pytest.mark.timeout(1800)
@settings(
    max_examples=SCHEDULES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
)
@given(seed=st.integers(min_value=0, max_value=2**32))
def test_every_record_is_in_exactly_one_block_whatever_crashes_races_or_is_lost(seed: int) -> None:
    world, _ = asyncio.run(play(Random(seed)))

    require_laws(world)


def test_the_schedules_do_what_they_are_for() -> None:
    """A fault model in which nobody crashes or loses a race proves nothing."""
    storms = [asyncio.run(play(Random(seed)))[1] for seed in range(20)]

    assert sum(storm.crashes for storm in storms) >= 10
    assert sum(storm.races_lost for storm in storms) >= 10
    assert sum(storm.faults["lost"] for storm in storms) >= 10
    assert sum(storm.faults["late"] for storm in storms) >= 10
    assert sum(storm.faults["slow"] for storm in storms) >= 10
