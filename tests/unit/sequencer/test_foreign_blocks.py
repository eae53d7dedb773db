"""A sequencer builds on no block that it would not have sealed (redB6, findings 3, 4 and 5)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from typing import TypeVar

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.unit.sequencer.world import (
    CLINICAL,
    HOSPITAL,
    IDENTITY,
    NOTE_KEY,
    World,
    document,
    hospital_leaves,
    new_ring,
    signed,
)

from salus.archive.body import ACCEPTED, encode_body
from salus.archive.building import SampleRecord, columns_of
from salus.archive.replay import RESTORED_HEADER
from salus.ledger.block import Handover, Header, Range, body_key, header_key, sign_header
from salus.ledger.key_periods import KeyHistory, KeyPeriod
from salus.ledger.merkle import leaf_hash, root_of
from salus.ledger.note import NoteSigner, NoteVerifier
from salus.ledger.records import SIGNATURE_HEADER
from salus.messaging import MissingRecordsError, Record
from salus.sequencer.adapters.memory import SilentObserver
from salus.sequencer.domain import Cursor, identity_position
from salus.sequencer.errors import (
    ArchiveDamagedError,
    ForeignBlockError,
    IdentityLostError,
    LogReplacedError,
    SealedRecordGoneError,
)
from salus.sequencer.foreign_blocks import BLOCKS_AT_START_MAX, BLOCKS_WHILE_RUNNING_MAX, Sealed
from salus.sequencer.handlers import Sequencer, restored, run

Rows = list[SampleRecord]
Change = Callable[[Rows], Rows]
Facts = Callable[[Header], Header]
AT = (CLINICAL, 0)
T = TypeVar("T")
NEW_KEY = NoteSigner("test/shard/0", Ed25519PrivateKey.from_private_bytes(b"M" * 32))


def as_it_is(anything: T) -> T:
    return anything


def row_of(record: Record) -> SampleRecord:
    place = record.topic, record.partition, record.offset
    signature = record.header(SIGNATURE_HEADER)
    return SampleRecord(*place, record.value, signature, timestamp_ms=record.timestamp_ms)


def forge(world: World, change: Change = as_it_is, facts: Facts = as_it_is) -> None:
    """Seal what is not sealed yet as whoever holds the shard's key can: all as accepted, and then changed."""
    last = world.headers()[-1]
    ends = {at: len(records) for at, records in world.topics.partitions.items()}
    ranges = tuple(Range(*at, first, ends[at]) for at, first in sorted(last.next_offsets.items()))
    fresh = [r for r in world.topics.records() if r.offset >= last.next_offsets[r.topic, r.partition]]
    rows = change(
        [row_of(record) for record in sorted(fresh, key=lambda r: (r.topic, r.partition, r.offset))]
    )
    columns = columns_of(rows)
    body, root = encode_body(columns), root_of(columns.leaf_hash)
    header = replace(
        last,
        height=last.height + 1,
        leaves=len(rows),
        accepted=sum(row.status == ACCEPTED for row in rows),
        root=root,
        previous=leaf_hash(world.notes()[-1]),
        body_bytes=len(body),
        body_sha256=sha256(body).digest(),
        ranges=ranges,
        identity=(*IDENTITY, ends[IDENTITY]),
    )
    header = facts(header)
    world.store.objects[body_key(0, header.height, root)] = (body, "body")
    world.store.objects[header_key(0, header.height)] = (sign_header(header, NOTE_KEY), "header")


def with_status(status: str) -> Change:
    return lambda rows: [replace(row, status=status) for row in rows]


def named(position: int) -> Facts:
    return lambda header: replace(header, identity=(*IDENTITY, position))


def gives(header: Header) -> Header:
    return replace(header, handovers=(Handover("gave", *AT, header.next_offsets[AT], "test/shard/7"),))


FORGERIES = [
    pytest.param(with_status("rejected:duplicate"), as_it_is, "as rejected:duplicate, and is accepted"),
    pytest.param(with_status("rejected:key-revoked"), as_it_is, "as rejected:key-revoked, and is accepted"),
    pytest.param(lambda rows: rows[:-1], as_it_is, "more than its 1 records"),
    pytest.param(
        lambda rows: [replace(rows[0], timestamp_ms=5), *rows[1:]], as_it_is, "0 0 is another record"
    ),
    pytest.param(
        lambda rows: [replace(rows[0], value=document(9)), *rows[1:]], as_it_is, "0 0 is another record"
    ),
    pytest.param(as_it_is, named(10**12), "names identity position 1000000000000, and that topic ends at 1"),
    pytest.param(as_it_is, named(0), "names identity position 0, the block before it 1"),
    pytest.param(as_it_is, lambda header: replace(header, accepted=1), "its root or its counts"),
    pytest.param(as_it_is, gives, "it hands partitions over, and seals records"),
]


async def overtaken(world: World, forgery: Callable[[], None]) -> SilentObserver:
    """Run a sequencer; once it has sealed all that is there, let another seal what comes next."""
    sequencer, stop = world.sequencer(), asyncio.Event()
    running = asyncio.create_task(run(sequencer, stop))
    while not world.is_everything_sealed():  # noqa: ASYNC110  # a step of the world
        await asyncio.sleep(0)
    forgery()
    world.publish(document(77))
    while not running.done() and not world.is_everything_sealed():  # noqa: ASYNC110  # a step of the world
        await asyncio.sleep(0)
    stop.set()
    await running
    assert isinstance(sequencer.observer, SilentObserver)
    return sequencer.observer


@pytest.mark.parametrize(("change", "facts", "why"), FORGERIES)
async def test_a_start_builds_on_no_block_that_it_would_not_have_sealed(
    change: Change, facts: Facts, why: str
) -> None:
    world = World.with_hospital()
    await world.seal_everything()
    for number in (1, 2):
        world.publish(document(number))
    forge(world, change, facts)
    world.publish(document(3))

    with pytest.raises(ForeignBlockError, match=why):
        await world.seal_everything()
    assert len(world.headers()) == 2


@pytest.mark.parametrize(("change", "facts", "why"), FORGERIES)
async def test_who_is_overtaken_builds_on_no_block_that_it_would_not_have_sealed(
    change: Change, facts: Facts, why: str
) -> None:
    world = World.with_hospital()

    def forgery() -> None:
        for number in (1, 2):
            world.publish(document(number))
        forge(world, change, facts)

    with pytest.raises(ForeignBlockError, match=why):
        await overtaken(world, forgery)
    assert len(world.headers()) == 2


async def test_a_record_with_a_bad_signature_is_not_accepted_by_the_next_block() -> None:
    # forgeacc.py
    world = World.with_hospital()
    await world.seal_everything()
    world.publish(document(2), headers=signed(document(1)))
    forge(world)
    world.publish(document(3))

    with pytest.raises(ForeignBlockError, match="is sealed as accepted, and is rejected:bad-signature"):
        await world.seal_everything()


async def test_an_old_identity_position_undoes_no_revocation() -> None:
    # frozen.py: the revoked key signs on, and the thief of the shard's key judges by what was known before
    world = World.with_hospital()
    world.publish(document(1))
    await world.seal_everything()
    left = hospital_leaves("compromised", time=world.clock.time)
    world.publish(left, at=IDENTITY, seed=b"R" * 32, key=HOSPITAL.did.encode())
    world.topics.time_ms += 120_000
    world.publish(document(2))
    forge(world, of_clinical, lambda header: replace(named(1)(header), ranges=unmoved(header)))

    with pytest.raises(ForeignBlockError, match=r"leaves out event 1, appended 12[0-9] s before"):
        await world.seal_everything()


def of_clinical(rows: Rows) -> Rows:
    return [row for row in rows if row.topic == CLINICAL]


def unmoved(header: Header) -> tuple[Range, ...]:
    """Cover nothing of the identity topic, as a shard that does not seal it."""
    return tuple(
        replace(range_, next=range_.first) if (range_.topic, range_.partition) == IDENTITY else range_
        for range_ in header.ranges
    )


def takes(header: Header) -> Header:
    taken = (CLINICAL, 7)
    lines = (Handover("took", *taken, 5, "test/shard/9/block/0"),)
    return replace(header, ranges=tuple(sorted((*header.ranges, Range(*taken, 5, 5)))), handovers=lines)


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        (gives, "it gives salus.clinical.events 0 to test/shard/7, against the assignment"),
        (takes, "it takes salus.clinical.events 7, which test/shard/9/block/0 did not give"),
    ],
)
async def test_no_partition_is_given_or_taken_against_the_assignment(facts: Facts, why: str) -> None:
    world = World.with_hospital()
    await world.seal_everything()
    forge(world, facts=facts)
    world.publish(document(1), at=(CLINICAL, 1))

    with pytest.raises(ForeignBlockError, match=why):
        await world.seal_everything()


async def test_no_sequencer_signs_an_identity_position_that_it_has_not_read() -> None:
    # future.py: whatever an earlier header names
    with pytest.raises(IdentityLostError, match="judged by identity position 9"):
        identity_position(new_ring(), Cursor(1, {}, None, 9))


@pytest.mark.parametrize("left", [0, 1])
async def test_an_archive_that_has_fewer_blocks_than_this_process_sealed_is_not_built_on(left: int) -> None:
    # case B9-5, a store that is asked again after somebody else was first, and shows an older state
    world = World.with_hospital()
    sequencer = world.sequencer()
    for n in range(3):
        world.publish(document(n))
        await seal_with(sequencer, world)
    assert sequencer.sealed.to == len(world.notes()) > left + 1
    for height in range(left, len(world.notes())):
        del world.store.objects[header_key(0, height)]

    with pytest.raises(ArchiveDamagedError, match=f"headers {left} to .* were there and are gone"):
        await restored(sequencer)
    # The chain ends there: what the process sealed behind it counts for nobody.
    if left:
        ended = KeyHistory(NOTE_KEY.name, (KeyPeriod(NOTE_KEY.verifier, 0, left),))
        chain = await restored(replace(sequencer, shard=replace(sequencer.shard, verifier=ended)))
        assert chain.cursor.height == left


@pytest.mark.parametrize("is_told", [True, False])
async def test_a_leaf_that_is_gone_from_the_log_accuses_nobody(is_told: bool) -> None:  # noqa: FBT001  # a case
    # case B9-3, a topic of which compaction removed what was sealed
    world = World.with_hospital()
    for n in range(2):
        world.publish(document(n))
    await world.seal_everything()
    world.topics.partitions[AT][0] = None
    if is_told:
        world.topics.missing[AT] = MissingRecordsError(*AT, 0, 1)
    observer = SilentObserver()
    sequencer = replace(world.sequencer(), observer=observer)

    if is_told:
        assert (await restored(sequencer)).tip is not None
        assert [why for _, why in observer.doubtful] == [f"{CLINICAL} 0 0 is gone from the log"]
    else:
        with pytest.raises(ForeignBlockError, match="is sealed as accepted, and is no leaf"):
            await restored(sequencer)


@pytest.mark.parametrize("is_told", [True, False])
async def test_a_copy_of_what_is_gone_from_the_log_accuses_nobody(is_told: bool) -> None:  # noqa: FBT001  # a case
    # review B9, finding 5: compaction keeps the last record of a key, which is the copy
    world = World.with_hospital()
    for _ in range(2):
        world.publish(document(0))
    await world.seal_everything()
    world.topics.partitions[AT][0] = None
    if is_told:
        world.topics.missing[AT] = MissingRecordsError(*AT, 0, 1)
    world.publish(document(0))
    observer = SilentObserver()
    sequencer = replace(world.sequencer(), observer=observer)

    if is_told:
        await seal_with(sequencer, world)
        assert [why for _, why in observer.doubtful] == [f"{CLINICAL} 0 0 is gone from the log"]
        # The window has what the ledger says: a third copy is a duplicate, too.
        assert world.statuses()[*AT, 2] == "rejected:duplicate"
    else:
        with pytest.raises(ForeignBlockError):
            await restored(sequencer)


@pytest.mark.parametrize(
    ("numbers", "status", "why"),
    [
        ((0, 1, 2), "rejected:key-revoked", "is sealed as rejected:key-revoked, and is accepted"),
        ((0, 1, 1), ACCEPTED, "is sealed as accepted, and is rejected:duplicate"),
    ],
)
async def test_beside_what_is_gone_only_a_copy_is_excused(
    numbers: tuple[int, ...], status: str, why: str
) -> None:
    world = World.with_hospital()
    await world.seal_everything()
    for number in numbers:
        world.publish(document(number))
    forge(world, lambda rows: [*rows[:2], replace(rows[2], status=status)])
    world.topics.partitions[AT][0] = None
    world.topics.missing[AT] = MissingRecordsError(*AT, 0, 1)

    with pytest.raises(ForeignBlockError, match=f"0 2 {why}"):
        await restored(world.sequencer())


@pytest.mark.parametrize("gap", [range(2, 3), range(1, 3), range(3), None])
async def test_where_the_last_sealed_record_is_gone_this_is_said(gap: range | None) -> None:
    # review B9, finding 12: it was called another log
    world = World.with_hospital()
    for n in range(3):
        world.publish(document(n))
    await world.seal_everything()
    for offset in gap or (2,):
        world.topics.partitions[AT][offset] = None
    if gap is not None:
        world.topics.missing[AT] = MissingRecordsError(*AT, gap.start, gap.stop)
    world.publish(document(9))

    with pytest.raises(LogReplacedError) as refused:
        await restored(world.sequencer())
    assert type(refused.value) is (LogReplacedError if gap is None else SealedRecordGoneError)
    assert "0: the record at offset 2 " in str(refused.value)
    assert ("is gone" in str(refused.value)) == (gap is not None)


async def seal_with(sequencer: Sequencer, world: World) -> None:
    stop = asyncio.Event()
    running = asyncio.create_task(run(sequencer, stop))
    async with asyncio.timeout(60):
        while not world.is_everything_sealed() and not running.done():  # noqa: ASYNC110  # a step of the world
            await asyncio.sleep(0)
    stop.set()
    await running


async def test_what_another_sealed_as_it_is_is_built_on() -> None:
    world = World.with_hospital()

    def another_seals() -> None:
        for number in (1, 2):
            world.publish(document(number))
        forge(world)

    observer = await overtaken(world, another_seals)

    assert observer.races_lost == 1
    assert observer.doubtful == []
    assert set(world.statuses().values()) == {"accepted"}


async def test_after_the_key_is_retired_the_chain_goes_on_behind_what_it_forged() -> None:
    # the way out: the operator retires the stolen key behind the forged block, and says so in an event
    world = World.with_hospital()
    await world.seal_everything()
    for number in (1, 2):
        world.publish(document(number))
    forge(world, with_status("rejected:duplicate"), named(10**12))
    retire_behind(world, 2)
    world.publish(document(1))
    world.publish(document(2))
    sequencer, stop = world.sequencer(), asyncio.Event()
    running = asyncio.create_task(run(sequencer, stop))
    while not running.done() and len(world.notes()) < 3:  # noqa: ASYNC110  # a step of the world
        await asyncio.sleep(0)
    stop.set()
    await running

    assert isinstance(sequencer.observer, SilentObserver)
    assert len(sequencer.observer.passed) == 1
    assert [header.identity[2] for header in world.headers()] == [1, 10**12, 1]
    # What was sealed as a duplicate was none, and counts now that it is sent again.
    assert {world.statuses()[*AT, offset] for offset in (2, 3)} == {"accepted"}


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: [*rows[:-1], replace(rows[-1], value=document(9))],
        lambda rows: [*rows[:-1], replace(rows[-1], timestamp_ms=5)],
    ],
)
async def test_a_forged_last_row_does_not_make_the_log_another_one_behind_a_retired_key(
    change: Change,
) -> None:
    # redB7, finding 1
    world = World.with_hospital()
    await world.seal_everything()
    world.publish(document(1))
    forge(world, change)
    retire_behind(world, 2)
    world.publish(document(2))
    await world.seal_everything()
    assert world.statuses()[*AT, 1] == "accepted"


async def test_behind_a_retired_key_too_another_log_is_called_so() -> None:
    world = World.with_hospital()
    world.publish(document(1))
    await world.seal_everything()
    world.publish(document(2), at=(CLINICAL, 1))
    forge(world, with_status("rejected:duplicate"))
    retire_behind(world, 2)
    world.topics.partitions[AT].clear()
    for number in (3, 4):
        world.publish(document(number), at=AT)
    with pytest.raises(LogReplacedError):
        await world.seal_everything()


async def test_a_forged_position_makes_no_later_block_wrong_once_the_topic_has_it() -> None:
    world = World.with_hospital()
    await world.seal_everything()
    world.publish(document(1))
    forge(world, facts=named(3))
    retire_behind(world, 2)
    world.publish(document(2))
    await world.seal_everything()
    for number in range(3):
        world.publish(b"not an event", at=IDENTITY)
        world.publish(document(3 + number))
        await world.seal_everything()

    assert [header.identity[2] for header in world.headers()] == [1, 3, 1, 2, 3, 4]


def retire_behind(world: World, height: int) -> None:
    """Let the stolen key count no more from a height on, and another one sign."""
    stolen, held = (NoteVerifier.from_vkey(key.vkey) for key in (NOTE_KEY, NEW_KEY))
    keys = KeyHistory(NOTE_KEY.name, (KeyPeriod(stolen, 0, height), KeyPeriod(held, height)))
    world.seals, world.note_key = replace(world.shard, verifier=keys), NEW_KEY


async def test_a_key_that_still_signs_vouches_for_nothing() -> None:
    world = World.with_hospital()
    await world.seal_everything()
    world.publish(document(1))
    forge(world, with_status("rejected:duplicate"))
    stolen, held = (NoteVerifier.from_vkey(key.vkey) for key in (NOTE_KEY, NEW_KEY))
    keys = KeyHistory(NOTE_KEY.name, (KeyPeriod(stolen), KeyPeriod(held, 2)))
    world.seals, world.note_key = replace(world.shard, verifier=keys), NEW_KEY
    world.publish(document(2))

    with pytest.raises(ForeignBlockError):
        await world.seal_everything()


async def test_a_block_whose_records_are_gone_is_said_to_be_not_judged() -> None:
    world = World.with_hospital()
    for number in (1, 2):
        world.publish(document(number))
    await world.seal_everything()
    world.topics.retire(*AT, beginning=1)
    sequencer, stop = world.sequencer(), asyncio.Event()
    stop.set()
    await restored(sequencer)

    assert isinstance(sequencer.observer, SilentObserver)
    assert [height for height, _ in sequencer.observer.doubtful] == [0]


@pytest.mark.parametrize("status", ["rejected:unknown-type", "rejected:schema-violation"])
async def test_what_other_packages_may_have_judged_is_said_and_stops_nobody(status: str) -> None:
    # Replicas are upgraded one after the other, and anybody may send an event of the next release.
    world = World.with_hospital()

    def another_seals() -> None:
        world.publish(document(1))
        forge(world, with_status(status))

    observer = await overtaken(world, another_seals)

    assert observer.doubtful == [(1, f"salus.clinical.events 0 0: {status} there, accepted here")]
    assert world.statuses()[*AT, 1] == "accepted"


async def test_beside_what_packages_may_explain_a_false_verdict_is_found() -> None:
    world = World.with_hospital()
    await world.seal_everything()
    for number in (1, 2):
        world.publish(document(number))
    forge(
        world,
        lambda rows: [
            replace(rows[0], status="rejected:unknown-type"),
            replace(rows[1], status="rejected:duplicate"),
        ],
    )
    world.publish(document(3))

    with pytest.raises(ForeignBlockError, match="0 1 is sealed as rejected:duplicate"):
        await world.seal_everything()


async def test_what_stands_for_a_rejected_record_after_a_loss_of_kafka_is_no_difference() -> None:
    world = World.with_hospital()
    bad = world.publish(b"not an event")
    world.publish(document(1))
    await world.seal_everything()
    filler = msgspec.structs.replace(
        bad, key=b"salus-restored", value=None, headers=((RESTORED_HEADER, b"x"),)
    )
    world.topics.partitions[AT][0] = filler
    world.restored = {AT: ((0, 2),)}
    world.publish(document(2))

    await world.seal_everything()

    assert world.statuses()[*AT, 2] == "accepted"


async def test_no_block_names_less_of_the_identity_topic_than_the_one_before_it() -> None:
    world = World.with_hospital()
    await world.seal_everything()
    del world.topics.partitions[IDENTITY][:]
    world.publish(document(1))

    with pytest.raises((ForeignBlockError, IdentityLostError), match="identity position 1, and that topic"):
        await world.seal_everything()


def test_a_start_judges_the_newest_blocks_and_whoever_is_overtaken_those_of_others() -> None:
    assert Sealed().first_foreign(3) == 0
    assert Sealed().first_foreign(100) == 101 - BLOCKS_AT_START_MAX
    assert Sealed(100).first_foreign(100) == 100
    assert Sealed(101).first_foreign(100) == 101
    assert Sealed(100).first_foreign(9999) == 10_000 - BLOCKS_WHILE_RUNNING_MAX
