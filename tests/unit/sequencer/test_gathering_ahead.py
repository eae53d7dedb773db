"""The next batch is gathered while one is judged, and nothing of that shows in the chain."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from tests.unit.sequencer.test_handing_over import Running
from tests.unit.sequencer.test_handover_faults import Shards
from tests.unit.sequencer.world import (
    CLINICAL,
    FOUNDING,
    HOSPITAL,
    IDENTITY,
    NEWCOMER,
    PARTITIONS,
    PATIENT,
    ROOT,
    Judge,
    World,
    document,
    encoded,
    hospital_leaves,
    public_key,
)

from salus.events.contexts.clinical import DocumentRegistered
from salus.events.contexts.identity import PartyRegistered
from salus.events.keyring import KeyRing
from salus.sequencer.adapters.memory import MemoryClock, MemoryReader, MemoryTopics, SilentObserver, at_once
from salus.sequencer.domain import Cursor, Draft
from salus.sequencer.errors import HaltError, RecordsLostError
from salus.sequencer.gathering import IDLE_POLL_MS, UNWANTED_POLL_MS, Gatherer, Limits
from salus.sequencer.handing_over import LOOK_EVERY_MS, Watch
from salus.sequencer.handlers import Sequencer, run
from salus.sequencer.ports import Announcement, Identities, PastIdentities

FIRST = (CLINICAL, 0)


async def turns(number: int = 50) -> None:
    """Let everybody else do what there is to do."""
    for _ in range(number):
        await asyncio.sleep(0)


async def runs_until(sequencer: Sequencer, condition: Callable[[], bool]) -> None:
    """Run the sequencer until it came to that; each step of the loop is a step of the world."""
    stop = asyncio.Event()
    running = asyncio.create_task(run(sequencer, stop))
    while not condition():
        assert not running.done()
        await asyncio.sleep(0)
    stop.set()
    await running


def others() -> set[asyncio.Task[Any]]:
    return {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}


def revocation() -> bytes:
    return hospital_leaves("left")


def newcomer_joins_and_signs(world: World) -> None:
    """Publish a party's key, and then the first record that it signed."""
    joins = PartyRegistered(did=NEWCOMER.did, kind="member", keys=(public_key(NEWCOMER),), request=FOUNDING)
    value = encoded(joins, id_="newcomer", signer=ROOT, subject=NEWCOMER.did)
    world.publish(value, at=IDENTITY, seed=b"R" * 32, key=NEWCOMER.did.encode())
    data = DocumentRegistered(patient=PATIENT, object="its first", media_type="text/plain")
    first = encoded(data, id_="its first", signer=NEWCOMER, subject=PATIENT)
    world.publish(first, at=(CLINICAL, 1), seed=b"W" * 32)


@dataclass
class Ages(SilentObserver):
    """Remembers how old each block was when it was sealed."""

    ages_ms: list[float] = field(default_factory=list)

    def sealed(self, block: Announcement, draft: Draft, *, age_ms: float) -> None:  # noqa: ARG002  # the port's shape
        self.ages_ms.append(age_ms)


class Endless:
    """A stretch that does not end."""

    looks = 0

    def is_set(self) -> bool:
        return False

    async def look(self) -> None:
        self.looks += 1


@dataclass
class Alone:
    """A gatherer of one partition, whatever it is for."""

    limits: Limits
    topics: MemoryTopics = field(default_factory=lambda: MemoryTopics({FIRST: []}))
    clock: MemoryClock = field(default_factory=MemoryClock)
    stretch: Endless = field(default_factory=Endless)

    def __post_init__(self) -> None:
        self.reader = MemoryReader(self.topics, {FIRST: 0}, self.clock, at_once)
        self.gatherer = Gatherer(self.reader, self.clock, self.limits, self.stretch)

    def publish(self, records: int = 1) -> None:
        for _ in range(records):
            self.topics.append(*FIRST, key=None, value=b"value")


async def test_no_identities_are_read_while_records_are_judged() -> None:
    async def meanwhile(judged: int) -> None:
        if judged == 0:
            world.publish(revocation(), at=IDENTITY, seed=b"R" * 32, key=HOSPITAL.did.encode())
            world.publish(document(2))
        look_at_ms = world.clock.elapsed_ms + LOOK_EVERY_MS
        await turns(200)
        assert world.clock.elapsed_ms > look_at_ms, "there was no time to look"

    world = World.with_hospital(offload=Judge(meanwhile))
    for number in range(2):
        world.publish(document(number))
    await world.seal_everything()

    assert [header.identity[2] for header in world.headers()[:2]] == [1, 2]
    assert [world.statuses()[*FIRST, offset] for offset in range(3)] == [
        "accepted",
        "accepted",
        "rejected:key-revoked",
    ]


@dataclass
class ThenPublishes:
    """Identities that are read to their end; right after that, once, there is more to know."""

    identities: Identities
    world: World
    reads: int

    def past(self) -> AbstractAsyncContextManager[PastIdentities]:
        return self.identities.past()

    async def catch_up(self) -> KeyRing:
        ring = await self.identities.catch_up()
        self.reads -= 1
        if self.reads == 0:
            newcomer_joins_and_signs(self.world)
        return ring


@pytest.mark.parametrize("reads", range(1, 8))
async def test_a_key_is_known_to_what_was_gathered_after_it(reads: int) -> None:
    world = World.with_hospital(limits=Limits(records_max=2), offload=Judge(lambda _: turns()))
    for number in range(3):
        world.publish(document(number))
    sequencer = world.sequencer()
    sequencer = replace(sequencer, identities=ThenPublishes(sequencer.identities, world, reads))
    await runs_until(
        sequencer, lambda: len(world.topics.partitions[IDENTITY]) == 2 and world.is_everything_sealed()
    )

    assert world.statuses()[CLINICAL, 1, 0] == "accepted"


async def test_what_is_gathered_meanwhile_is_judged_by_what_is_known_then() -> None:
    async def meanwhile(judged: int) -> None:
        if judged == 0:
            newcomer_joins_and_signs(world)
        await turns()

    world = World.with_hospital(limits=Limits(records_max=2), offload=Judge(meanwhile))
    world.publish(document(1))
    await world.seal_everything()

    assert world.headers()[0].leaves == 2
    assert world.statuses()[CLINICAL, 1, 0] == "accepted"


async def test_a_batch_fills_until_it_can_be_judged_and_blocks_are_as_old_as_their_own_records() -> None:
    began_ms, judged_ms = 0.0, 0.0

    async def meanwhile(judged: int) -> None:
        nonlocal began_ms, judged_ms
        if judged:
            return
        began_ms = world.clock.elapsed_ms
        for number in range(1, 6):
            world.publish(document(number))
            await turns(60)
        judged_ms = world.clock.elapsed_ms

    world = World.with_hospital(limits=Limits(age_ms_max=100), offload=Judge(meanwhile))
    world.publish(document(0))
    ages = Ages()
    await runs_until(
        replace(world.sequencer(), observer=ages),
        lambda: world.is_everything_sealed() and len(ages.ages_ms) == len(world.notes()),
    )

    assert judged_ms - began_ms > 500, "no batch would have been cut early"
    assert [header.leaves for header in world.headers()] == [2, 5]
    assert ages.ages_ms[0] >= 100 + judged_ms - began_ms
    assert ages.ages_ms[1] >= judged_ms - began_ms - IDLE_POLL_MS, "it arrived while the first was judged"


async def test_a_batch_that_is_old_enough_is_cut_as_soon_as_it_is_asked_for() -> None:
    alone = Alone(Limits(age_ms_max=100))
    async with alone.gatherer:
        alone.publish()
        first = await alone.gatherer.next_batch()
        await turns()
        arrived_ms = alone.clock.elapsed_ms
        alone.publish()
        await turns(100)
        asked_ms = alone.clock.elapsed_ms
        second = await alone.gatherer.next_batch()

    assert first is not None
    assert second is not None
    assert first.began_ms == 0
    assert arrived_ms <= second.began_ms < arrived_ms + UNWANTED_POLL_MS < asked_ms - 100
    assert alone.clock.elapsed_ms <= asked_ms + UNWANTED_POLL_MS


async def test_a_batch_that_is_asked_for_early_is_cut_when_it_is_old_enough() -> None:
    alone = Alone(Limits(age_ms_max=100))
    async with alone.gatherer:
        alone.publish()
        await alone.gatherer.next_batch()
        alone.publish()
        second = await alone.gatherer.next_batch()

    assert second is not None
    assert alone.clock.elapsed_ms == second.began_ms + 100


async def test_one_batch_and_no_more_is_gathered_ahead_and_nobody_looks_meanwhile() -> None:
    alone = Alone(Limits(records_max=10))
    async with alone.gatherer:
        alone.publish(100)
        first = await alone.gatherer.next_batch()
        looks = alone.stretch.looks
        await turns(500)
        positions = await alone.reader.positions()

    assert first is not None
    assert sum(map(len, first.batch.records)) == 10
    assert positions == {FIRST: 20}
    assert looks > 0
    assert alone.stretch.looks == looks


async def test_what_was_gathered_and_not_judged_is_lost_if_the_log_lost_it() -> None:
    async def meanwhile(judged: int) -> None:
        await turns()
        if judged == 0:
            for number in (6, 7):
                world.publish(document(number))
            world.topics.retire(*FIRST, beginning=7)
            await turns()

    world = World.with_hospital(limits=Limits(records_max=4))
    await world.seal_everything()
    world.offload = Judge(meanwhile)
    for number in range(6):
        world.publish(document(number))

    with pytest.raises(RecordsLostError) as lost:
        await run(world.sequencer(), asyncio.Event())
    assert (lost.value.sealed_to, lost.value.beginning) == (4, 7)
    assert others() == set()


async def test_what_was_gathered_when_it_is_stopped_is_sealed_by_the_next_one() -> None:
    async def meanwhile(_: int) -> None:
        await turns()
        stop.set()

    stop = asyncio.Event()
    world = World.with_hospital(limits=Limits(records_max=2), offload=Judge(meanwhile))
    for number in range(5):
        world.publish(document(number))
    await run(world.sequencer(), stop)
    stopped = [header.leaves for header in world.headers()]
    await world.seal_everything()

    assert stopped == [2]
    assert set(world.statuses().values()) == {"accepted"}
    assert len(world.rows()) == 6
    assert others() == set()


async def test_what_was_gathered_of_a_partition_that_is_given_away_is_sealed_by_who_takes_it() -> None:
    async def meanwhile(judged: int) -> None:
        await turns()
        if judged == 0:
            shards.assign(dict.fromkeys(PARTITIONS, 0) | {FIRST: 1})
            await turns()

    shards = Shards(World.with_hospital(limits=Limits(records_max=2)))
    shards.views[0] = replace(shards.views[0], offload=Judge(meanwhile))
    for number in range(4):
        shards.world.publish(document(number), at=FIRST)
    await Running(shards).until(lambda: shards.sealed().get(FIRST) == (1, 4), of=(0, 1))

    first, gave = shards.headers(0)[:2]
    given_at = first.next_offsets[FIRST]
    assert (first.leaves, gave.leaves) == (2, 0)
    assert gave.handed("gave") == {FIRST: given_at}
    assert shards.headers(1)[0].handed("took") == {FIRST: given_at}


@dataclass
class Gift:
    """A lookout on a chain that gave something, of which no assignment tells any more."""

    unsettled: bool = True
    has_ended: bool = False

    def is_news(self, ring: KeyRing) -> bool:  # noqa: ARG002  # as `Lookout` has it
        return False

    async def takes(self, cursor: Cursor, ring: KeyRing) -> Sequence[str]:  # noqa: ARG002  # as `Lookout` has it
        return ["something"]


async def test_what_others_gave_is_found_although_no_block_is_waited_for() -> None:
    world = World.with_hospital()
    identities = world.sequencer().identities
    watch = Watch(Gift(), Cursor.after(None), asyncio.Event(), identities, world.clock)  # type: ignore[arg-type]  # as much of it as is asked
    await watch.catch_up()
    early = watch.is_set()
    world.clock.elapsed_ms += LOOK_EVERY_MS
    await watch.catch_up()

    assert not early
    assert watch.is_set()


async def fails_judging(world: World) -> None:
    """Run a sequencer whose judge ends with an error, and let the event loop complain of what was left."""
    with pytest.raises(HaltError, match="the judge is ill"):
        await run(world.sequencer(), asyncio.Event())
    left = others()
    gc.collect()
    await turns()
    assert left == set()


async def test_nothing_goes_on_gathering_after_an_error(complaints: list[dict[str, object]]) -> None:
    async def meanwhile(_: int) -> None:
        await turns()
        assert others(), "nobody gathers"
        raise HaltError("the judge is ill")

    world = World.with_hospital(offload=Judge(meanwhile))

    await fails_judging(world)
    assert complaints == []


async def test_an_error_of_gathering_that_came_behind_another_is_not_forgotten_about(
    complaints: list[dict[str, object]],
) -> None:
    async def meanwhile(_: int) -> None:
        world.publish(document(1))
        world.topics.retire(*FIRST, beginning=1)
        await turns()
        raise HaltError("the judge is ill")

    world = World.with_hospital(offload=Judge(meanwhile))

    await fails_judging(world)
    assert complaints == []
    with pytest.raises(RecordsLostError):
        await run(world.sequencer(), asyncio.Event())


async def test_nothing_goes_on_gathering_after_a_cancellation() -> None:
    judging = asyncio.Event()

    async def meanwhile(_: int) -> None:
        judging.set()
        await asyncio.Event().wait()

    world = World.with_hospital(offload=Judge(meanwhile))
    running = asyncio.create_task(run(world.sequencer(), asyncio.Event()))
    await judging.wait()
    await turns()
    gathering = others() - {running}
    running.cancel()
    await asyncio.wait([running])

    assert running.cancelled()
    assert gathering
    assert others() == set()


async def test_who_is_overtaken_while_the_next_is_gathered_starts_over() -> None:
    async def meanwhile(judged: int) -> None:
        await turns()
        if judged == 0:
            await rival.seal_everything()

    world = World.with_hospital(limits=Limits(records_max=2), offload=Judge(meanwhile))
    rival = replace(world, offload=World().offload)
    for number in range(5):
        world.publish(document(number))
    observer = SilentObserver()

    def has_sealed_anew() -> bool:
        if observer.races_lost and len(world.topics.records()) == 6:
            world.publish(document(10))
        return len(world.topics.records()) == 7 and world.is_everything_sealed()

    await runs_until(replace(world.sequencer(), observer=observer), has_sealed_anew)

    assert observer.races_lost == 1
    assert len(world.rows()) == 7
    assert set(world.statuses().values()) == {"accepted"}
    assert others() == set()
