"""After Kafka was lost and filled again an honest sequencer calls no honest block forged (case redB8 7)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import msgspec
import pytest
from tests.unit.sequencer.test_foreign_blocks import AT, Rows, forge
from tests.unit.sequencer.world import CLINICAL, World, document

from salus.archive.replay import RESTORED_HEADER, SealedBlock
from salus.ledger.block import body_key
from salus.ledger.records import SIGNATURE_HEADER, Flaw
from salus.messaging import Record
from salus.sequencer.adapters.memory import SilentObserver
from salus.sequencer.errors import ForeignBlockError, LogReplacedError
from salus.sequencer.handlers import restored

FILLER = ((RESTORED_HEADER, b"no-record"),)


def transaction(world: World) -> None:
    """A member's committed transaction: a record that is refused, and a marker that is none."""
    sent = world.publish(document(100))
    world.topics.partitions[AT][-1] = msgspec.structs.replace(sent, flaw=Flaw.TRANSACTIONAL)
    world.topics.skip(*AT)


def odd_batch(world: World) -> None:
    """A member's batch that nobody can read: one leaf, at the last of its offsets."""
    for _ in range(2):
        world.topics.skip(*AT)
    offset = len(world.topics.partitions[AT])
    batch = Record(*AT, offset, 0, None, b"the batch", (), Flaw.UNREADABLE)
    world.topics.partitions[AT].append(batch)


def hole(world: World) -> None:
    """What compaction, or the offsets that a sender made up, leave."""
    for _ in range(50):
        world.topics.skip(*AT)
    world.publish(document(101))


def rejected(world: World) -> None:
    world.publish(b"garbage")


def lose_and_fill_again(world: World) -> None:
    """Put into the topics what `salus ledger restore-topics` does, and nothing else."""
    ends: dict[tuple[str, int], int] = {}
    for records in world.topics.partitions.values():
        records.clear()
    for header in world.headers():
        body, _ = world.store.objects[body_key(0, header.height, header.root)]
        for record in SealedBlock(0, header, body).records():
            headers = (
                (SIGNATURE_HEADER, record.signature)
                if record.value is not None and record.signature is not None
                else (RESTORED_HEADER, (record.status or "no-record").encode())
            )
            at = record.topic, record.partition
            assert record.offset == len(world.topics.partitions[at])
            key = b"salus-restored" if record.subject is None else record.subject.encode()
            there = Record(*at, record.offset, record.timestamp_ms, key, record.value, (headers,))
            world.topics.partitions[at].append(there)
            ends[at] = record.offset + 1
    world.restored = {at: ((0, end),) for at, end in ends.items()}


async def doubts(world: World) -> list[tuple[int, str, bool]]:
    """Return which blocks a start cannot judge, why, and whether packages may be the reason."""
    told: list[tuple[int, str, bool]] = []

    class Listener(SilentObserver):
        def doubted(self, *, height: int, why: str, differs: bool) -> None:
            told.append((height, why, differs))

    await restored(replace(world.sequencer(), observer=Listener()))
    return told


async def lost_after(*kinds: Callable[[World], None]) -> World:
    """Return a world whose Kafka was lost after such records were sealed, and filled again."""
    world = World.with_hospital()
    world.publish(document(1))
    await world.seal_everything()
    for kind in kinds:
        kind(world)
    world.publish(document(2))
    await world.seal_everything()
    lose_and_fill_again(world)
    return world


@pytest.mark.parametrize("kinds", [(transaction,), (odd_batch,), (hole,), (rejected,), (hole, odd_batch)])
async def test_an_honest_sequencer_goes_on_after_its_topics_were_filled_again(
    kinds: tuple[Callable[[World], None], ...],
) -> None:
    # case redB8 7, "its ranges hold more than its N records" of blocks that nobody forged
    world = await lost_after(*kinds)
    world.publish(document(3))

    await world.seal_everything()

    assert world.statuses()[*AT, len(world.topics.partitions[AT]) - 1] == "accepted"


async def test_where_no_leaf_stood_a_filled_block_is_right_and_beside_a_rejected_one_no_difference() -> None:
    # case redB8 7, what was lost is no sign of a theft, so nobody is told to look for one
    assert await doubts(await lost_after(hole)) == []

    [(_, why, differs)] = await doubts(await lost_after(odd_batch))

    assert (why, differs) == (f"{CLINICAL} 0 3 stands for a record that was lost", False)


@pytest.mark.parametrize("status", ["rejected:unknown-type", "rejected:schema-violation"])
async def test_what_other_packages_refused_and_kafka_lost_is_no_difference_either(status: str) -> None:
    world = World.with_hospital()
    await world.seal_everything()
    world.publish(document(1))
    forge(world, lambda rows: [replace(row, status=status, value=None) for row in rows])
    lose_and_fill_again(world)

    assert [differs for _, _, differs in await doubts(world)] == [False]


FORGERIES: list[tuple[Callable[[Rows], Rows], str]] = [
    (lambda rows: rows[:-1], "more than its 3 records"),
    (lambda rows: rows[:1] + rows[2:], "more than its 3 records"),
    (lambda rows: [replace(rows[0], status="rejected:duplicate"), *rows[1:]], "as rejected:duplicate, and"),
    (lambda rows: [rows[0], replace(rows[1], timestamp_ms=5), *rows[2:]], "5 is another record"),
    (
        lambda rows: [*rows[:3], replace(rows[3], offset=rows[3].offset - 1), rows[3]],
        "as accepted, and is no",
    ),
]


def as_judged(rows: Rows) -> Rows:
    """Give the record without a value the verdict that it has."""
    return [row if row.value is not None else replace(row, status="rejected:tombstone") for row in rows]


@pytest.mark.parametrize(("change", "why"), FORGERIES)
async def test_above_the_restored_end_a_thief_may_leave_out_and_add_nothing(
    change: Callable[[Rows], Rows], why: str
) -> None:
    # case redB8 7, a record that looks like a filler is one like any other there
    world = await lost_after(transaction)
    world.publish(document(7))
    world.publish(None, headers=FILLER)
    world.publish(document(8))
    world.topics.skip(*AT)
    world.publish(document(9))
    forge(world, lambda rows: change(as_judged(rows)))

    with pytest.raises(ForeignBlockError, match=why):
        await restored(world.sequencer())


async def test_what_was_filled_again_makes_no_false_acceptance_right() -> None:
    # case redB8 7, what a chain sealed is sealed again by another shard, once the first has ended
    world = World.with_hospital()
    await world.seal_everything()
    world.publish(None, headers=FILLER)
    world.restored = {AT: ((0, 1),)}
    forge(world, lambda rows: [replace(row, value=document(5)) for row in rows])

    with pytest.raises(ForeignBlockError, match="0 0 is sealed as accepted, and is rejected"):
        await restored(world.sequencer())


async def test_what_another_shard_sealed_again_of_a_filled_topic_is_right() -> None:
    world = World.with_hospital()
    world.publish(None, headers=FILLER)
    world.publish(document(1))
    world.restored = {AT: ((0, 2),)}
    await world.seal_everything()

    assert await doubts(world) == []


async def test_a_filler_is_none_where_network_json_names_no_restored_offsets() -> None:
    # case redB8 7, topics that somebody made anew by other means are not those that were sealed
    world = await lost_after(rejected)
    world.restored = {}

    with pytest.raises((ForeignBlockError, LogReplacedError)):
        await restored(world.sequencer())
