from __future__ import annotations

import asyncio
import gzip
import json
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from tests.asking import UNASKED
from tests.unit.sequencer.world import (
    CLINICAL,
    FROM,
    HOSPITAL,
    IDENTITY,
    PATIENT,
    ROOT,
    World,
    document,
    encoded,
    hospital_leaves,
    signed,
)

from salus.archive.duplicates import WindowSize
from salus.archive.replay import RESTORED_HEADER
from salus.events.attribution import Attribution
from salus.events.contexts.clinical import DocumentRegistered
from salus.events.contexts.identity import RoleGranted
from salus.events.signature import sign_values
from salus.ledger.block import body_key
from salus.ledger.merkle import leaf_hash
from salus.ledger.records import SIGNATURE_HEADER
from salus.objects import RefusedError
from salus.objects.memory import MemoryObjects
from salus.sequencer.adapters.memory import MemoryClock
from salus.sequencer.errors import (
    ArchiveDamagedError,
    LogReplacedError,
    LogTruncatedError,
    PackageMissingError,
    RecordsLostError,
)
from salus.sequencer.gathering import Limits
from salus.sequencer.handlers import run

DATA = Path(__file__).parents[2] / "data"


async def test_an_empty_log_seals_nothing() -> None:
    world = World()
    await world.run_until(lambda: world.clock.elapsed_ms > 10_000)

    assert world.store.objects == {}
    assert world.announcements.announced == []


async def test_accepted_records_are_archived_with_what_they_say() -> None:
    world = World.with_hospital()
    record = world.publish(document(1))
    await world.seal_everything()

    (row,) = [r for r in world.rows() if r["topic"] == CLINICAL]
    assert row["status"] == "accepted"
    assert row["value"] == record.value
    assert row["signature"] == record.header(SIGNATURE_HEADER)
    assert (row["source"], row["id"]) == (HOSPITAL.did, "id-1")
    assert row["type"] == "salus.clinical.document-registered.v1"
    assert row["subject"] == PATIENT
    assert row["digest"] is None


async def test_blocks_close_on_count_and_cover_contiguous_ranges() -> None:
    world = World.with_hospital(limits=Limits(records_max=3))
    for number in range(10):
        world.publish(document(number), at=(CLINICAL, number % 2))
    await world.seal_everything()

    assert [header.leaves for header in world.headers()] == [3, 3, 3, 2]
    assert len(world.rows()) == 11


async def test_blocks_close_on_bytes_and_a_larger_record_gets_its_own() -> None:
    size = len(document(1))
    world = World.with_hospital(limits=Limits(bytes_max=2 * size + 10))
    for number in range(4):
        world.publish(document(number))
    world.publish(b"x" * (5 * size))
    await world.seal_everything()

    assert sum(header.leaves for header in world.headers()) == 6
    assert world.headers()[-1].leaves == 1
    assert all(header.leaves <= 3 for header in world.headers())


async def test_a_lone_record_is_sealed_once_it_is_old_enough() -> None:
    world = World.with_hospital(limits=Limits(age_ms_max=200))
    await world.seal_everything()

    assert world.clock.elapsed_ms >= 200
    assert world.headers()[0].leaves == 1


async def test_a_header_is_never_earlier_than_the_one_before() -> None:
    world = World.with_hospital()
    await world.seal_everything()
    before = world.headers()[0].time
    world.clock.time = world.clock.time.replace(year=2020)
    world.publish(document(1))
    await world.seal_everything()

    assert world.headers()[1].time == before
    assert world.statuses()[CLINICAL, 0, 0] == "accepted"


class RefusesWhileTheClockIsWrong(MemoryObjects):
    """As S3 does: a request whose time is off is refused, until somebody sets the clock right."""

    clock: MemoryClock
    right: datetime
    refused: int = 0

    async def create(self, key: str, data: bytes) -> str:
        if self.clock.now() - self.right > timedelta(minutes=15):
            self.refused += 1
            if self.refused == 3:
                self.clock.time = self.right
            raise RefusedError(key, "RequestTimeTooSkewed")
        return await super().create(key, data)


async def test_a_block_that_a_wrong_clock_held_back_is_judged_anew_when_it_is_right() -> None:
    store = RefusesWhileTheClockIsWrong()
    world = World.with_hospital(store=store)
    store.clock, store.right = world.clock, world.clock.time
    world.publish(document(1))
    world.clock.time += timedelta(days=2)
    await world.seal_everything()

    assert store.refused == 3
    assert all(header.time < store.right + timedelta(minutes=1) for header in world.headers())
    assert world.statuses() == {(*IDENTITY, 0): "accepted", (CLINICAL, 0, 0): "accepted"}


async def test_markers_are_covered_by_ranges_and_have_no_leaf() -> None:
    world = World.with_hospital()
    world.topics.skip(CLINICAL, 0)
    world.publish(document(1))
    world.topics.skip(CLINICAL, 0)
    await world.seal_everything()
    world.topics.skip(CLINICAL, 0)
    world.publish(document(2))
    await world.seal_everything()

    ranges = [(r.first, r.next) for h in world.headers() for r in h.ranges if r.topic == CLINICAL]
    assert ranges == [(0, 3), (0, 0), (3, 5), (0, 0)]
    assert set(world.statuses()) == {(*IDENTITY, 0), (CLINICAL, 0, 1), (CLINICAL, 0, 4)}


async def test_a_key_published_before_its_use_is_known() -> None:
    world = World.with_hospital()
    world.publish(document(1))
    await world.seal_everything()

    assert world.statuses()[CLINICAL, 0, 0] == "accepted"
    assert world.headers()[0].identity == (*IDENTITY, 1)


def _rejects(world: World) -> dict[str, bytes | None]:
    """Publish one record for each reason; return the values by reason."""
    stranger = signed(document(1), b"S" * 32)
    (tampered,) = [h for _, h in signed(document(2))]
    broken_json = b'{"specversion":"1.0","id":'
    deep = b"[" * 100_000
    unknown = document(3).replace(b"document-registered.v1", b"document-withdrawn.v1")
    extra = document(4).replace(b'"media_type"', b'"surprise":1,"media_type"')
    role = RoleGranted(did=HOSPITAL.did, role="operator", request=UNASKED)
    of_identity = encoded(role, id_="role", signer=HOSPITAL, subject=HOSPITAL.did)
    of_other = encoded(
        DocumentRegistered(patient=PATIENT, object="o", media_type="t/p"),
        id_="i",
        signer=ROOT,
        subject=PATIENT,
    )
    cases: list[tuple[str, bytes | None, dict[str, object]]] = [
        ("tombstone", None, {}),
        ("too-large", b"x" * (1024 * 1024 + 1), {}),
        ("missing-signature", document(1), {"headers": ()}),
        ("malformed-signature", document(1), {"headers": ((SIGNATURE_HEADER, b"v1 \xff garbage"),)}),
        ("unknown-key", document(1), {"headers": stranger}),
        ("bad-signature", document(1), {"headers": ((SIGNATURE_HEADER, tampered),)}),
        ("malformed-json", broken_json, {}),
        ("malformed-json:deep", deep, {}),
        ("malformed-json:utf8", document(1).replace(b"object-1", b"object\xff"), {}),
        ("invalid-envelope", b"{}", {}),
        ("wrong-source", of_other, {}),
        ("unknown-type", unknown, {}),
        ("wrong-topic", of_identity, {"key": HOSPITAL.did.encode()}),
        ("schema-violation", extra, {}),
        ("wrong-key", document(5), {"key": b"someone else"}),
    ]
    for _, value, choices in cases:
        world.publish(value, **choices)  # type: ignore[arg-type]  # a case's choices
    return {reason: value for reason, value, _ in cases}


async def test_every_bad_record_is_a_leaf_with_its_reason_and_its_value_is_not_kept() -> None:
    world = World.with_hospital()
    values = _rejects(world)
    await world.seal_everything()

    rows = [row for row in world.rows() if row["topic"] == CLINICAL]
    assert [row["status"] for row in rows] == [f"rejected:{name.partition(':')[0]}" for name in values]
    for row, value in zip(rows, values.values(), strict=True):
        assert row["digest"] == (bytes(32) if value is None else leaf_hash(value))
        assert {row[c] for c in ("value", "id", "source", "type", "subject", "time")} == {None}
    assert not any(b"garbage" in data for data, _ in world.store.objects.values())


async def test_rejections_are_announced_with_position_reason_and_digest() -> None:
    world = World.with_hospital()
    world.publish(None)
    await world.seal_everything()

    (block,) = world.announcements.announced
    (rejection,) = block.rejections
    assert (rejection.topic, rejection.partition, rejection.offset) == (CLINICAL, 0, 0)
    assert rejection.reason == "tombstone"
    assert (block.leaves, block.accepted) == (2, 1)


# case people.md: members could not find their rejected records
async def test_a_rejection_names_source_id_and_key_of_a_validly_signed_record() -> None:
    world = World.with_hospital()
    for _ in range(2):
        world.publish(document(1))
    await world.seal_everything()

    (rejection,) = [r for block in world.announcements.announced for r in block.rejections]
    assert rejection.reason == "duplicate"
    assert rejection.attribution.key == HOSPITAL.verification_method
    assert rejection.attribution.source == HOSPITAL.did
    assert rejection.attribution.id == json.loads(document(1))["id"]


async def test_a_revoked_key_is_refused_from_then_on() -> None:
    world = World.with_hospital()
    world.publish(document(1))
    await world.seal_everything()
    world.publish(hospital_leaves("left"), at=IDENTITY, seed=b"R" * 32, key=HOSPITAL.did.encode())
    world.publish(document(2))
    await world.seal_everything()

    assert world.statuses()[CLINICAL, 0, 0] == "accepted"
    assert world.statuses()[CLINICAL, 0, 1] == "rejected:key-revoked"


async def test_a_revocation_counts_although_the_sequencers_clock_is_behind() -> None:
    world = World.with_hospital()
    world.clock.time = FROM + timedelta(minutes=1)
    later = FROM + timedelta(minutes=4)
    value = hospital_leaves("compromised", time=later)
    world.publish(value, at=IDENTITY, seed=b"R" * 32, key=HOSPITAL.did.encode())
    world.publish(document(1))
    await world.seal_everything()

    assert world.statuses()[CLINICAL, 0, 0] == "rejected:key-revoked"


async def test_a_duplicate_is_recognised_in_the_block_and_after_a_restart() -> None:
    world = World.with_hospital()
    world.publish(document(1))
    world.publish(document(1), at=(CLINICAL, 1))
    await world.seal_everything()
    world.publish(document(7, id_="id-1"))
    await world.seal_everything()

    assert world.statuses()[CLINICAL, 0, 0] == "accepted"
    assert world.statuses()[CLINICAL, 1, 0] == "rejected:duplicate"
    assert world.statuses()[CLINICAL, 0, 1] == "rejected:duplicate"


async def test_the_window_of_duplicates_counts_accepted_events() -> None:
    world = World.with_hospital(window=WindowSize(pairs=2), limits=Limits(records_max=1))
    await world.seal_everything()
    for number in (1, 2, 1, 3, 1):
        world.publish(document(number))
        await world.seal_everything()

    statuses = [status for (topic, _, _), status in world.statuses().items() if topic == CLINICAL]
    # 1 is known while only 2 was accepted after it, and forgotten once 3 was.
    assert statuses == ["accepted", "accepted", "rejected:duplicate", "accepted", "accepted"]


async def test_the_window_of_duplicates_counts_blocks() -> None:
    world = World.with_hospital(window=WindowSize(blocks=3), limits=Limits(records_max=1))
    await world.seal_everything()
    for number in (1, 2, 1, 3, 1):
        world.publish(document(number))
        await world.seal_everything()

    statuses = [status for (topic, _, _), status in world.statuses().items() if topic == CLINICAL]
    assert statuses == ["accepted", "accepted", "rejected:duplicate", "accepted", "accepted"]


@pytest.mark.parametrize("restarts", [False, True])
async def test_garbage_pushes_nothing_out_of_the_window_of_duplicates(*, restarts: bool) -> None:
    # case B1 of red team B
    world = World.with_hospital(window=WindowSize(blocks=3), limits=Limits(records_max=1))
    world.publish(document(1))
    for number in range(5):
        world.publish(b"garbage %d" % number, at=(CLINICAL, 1))
        if restarts:
            await world.seal_everything()
    await world.seal_everything()
    world.publish(document(1))
    await world.seal_everything()

    assert world.statuses()[CLINICAL, 0, 1] == "rejected:duplicate"


async def test_a_sequencer_that_never_stopped_has_the_window_of_one_that_did() -> None:
    numbers = (1, 2, 1, 3, 1, 2, 2, 4, 1, 3)
    windows = [WindowSize(blocks=3), WindowSize(pairs=2), WindowSize()]
    for window in windows:
        at_once = World.with_hospital(window=window, limits=Limits(records_max=1))
        piecemeal = World.with_hospital(window=window, limits=Limits(records_max=1))
        await at_once.seal_everything()
        await piecemeal.seal_everything()
        for number in numbers:
            at_once.publish(document(number))
            piecemeal.publish(document(number))
            await piecemeal.seal_everything()
        await at_once.seal_everything()

        assert list(at_once.statuses().values()) == list(piecemeal.statuses().values())


async def test_the_same_records_and_state_give_the_same_bytes() -> None:
    worlds = [World.with_hospital(), World.with_hospital()]
    for world in worlds:
        for number in range(20):
            world.publish(document(number), at=(CLINICAL, number % 2))
        _rejects(world)
        await world.seal_everything()

    assert worlds[0].notes() == worlds[1].notes()
    assert {k: v[0] for k, v in worlds[0].store.objects.items()} == {
        k: v[0] for k, v in worlds[1].store.objects.items()
    }


async def test_whole_signed_batches_and_parts_of_them_are_accepted() -> None:
    world = World.with_hospital(limits=Limits(records_max=100))
    values = [document(number) for number in range(64)]
    for number, (value, header) in enumerate(zip(values, sign_values(values, HOSPITAL), strict=True)):
        world.publish(value, at=(CLINICAL, number % 2), headers=((SIGNATURE_HEADER, header),))
    await world.seal_everything()
    other = [document(number) for number in range(100, 107)]
    for value, header in list(zip(other, sign_values(other, HOSPITAL), strict=True))[2:5]:
        world.publish(value, headers=((SIGNATURE_HEADER, header),))
    await world.seal_everything()

    assert set(world.statuses().values()) == {"accepted"}


async def test_the_last_block_is_announced_again_on_restart() -> None:
    world = World.with_hospital(limits=Limits(records_max=1))
    world.publish(b"{")
    await world.seal_everything()
    first = list(world.announcements.announced)
    world.announcements.announced.clear()
    await world.run_until(lambda: bool(world.announcements.announced))

    (again,) = world.announcements.announced
    assert again.height == first[-1].height
    assert again.header_key == first[-1].header_key
    assert [r.reason for r in again.rejections] == [r.reason for r in first[-1].rejections]
    assert [r.digest for r in again.rejections] == [r.digest for r in first[-1].rejections]


async def test_a_rejection_that_is_announced_again_names_the_key_that_the_archive_has() -> None:
    world = World.with_hospital()
    for _ in range(2):
        world.publish(document(1))
    await world.seal_everything()
    world.announcements.announced.clear()
    await world.run_until(lambda: bool(world.announcements.announced))

    (again,) = world.announcements.announced
    assert [r.attribution for r in again.rejections] == [Attribution(HOSPITAL.verification_method)]


async def test_retention_that_ate_unsealed_records_stops_the_sequencer() -> None:
    world = World.with_hospital()
    for number in range(3):
        world.publish(document(number))
    world.topics.retire(CLINICAL, 0, beginning=2)

    with pytest.raises(RecordsLostError) as lost:
        await world.seal_everything()
    assert (lost.value.partition, lost.value.sealed_to, lost.value.beginning) == (0, 0, 2)
    assert world.store.objects == {}


async def test_retention_that_ate_unsealed_records_while_running_stops_the_sequencer() -> None:
    world = World.with_hospital()
    sequencer = world.sequencer()
    running = asyncio.create_task(run(sequencer, asyncio.Event()))
    while world.clock.elapsed_ms < 1000:  # noqa: ASYNC110  # each step of the loop is a step of the world
        await asyncio.sleep(0)
    for number in range(3):
        world.publish(document(number))
    world.topics.retire(CLINICAL, 0, beginning=2)

    with pytest.raises(RecordsLostError):
        await running


async def test_retention_of_sealed_records_is_fine() -> None:
    world = World.with_hospital()
    world.publish(document(1))
    await world.seal_everything()
    world.topics.retire(CLINICAL, 0, beginning=1)
    world.publish(document(2))
    await world.seal_everything()

    assert len(world.statuses()) == 3


async def test_a_topic_that_was_created_anew_stops_the_sequencer() -> None:
    world = World.with_hospital()
    world.publish(document(1))
    await world.seal_everything()
    world.topics.partitions[CLINICAL, 0].clear()

    with pytest.raises(LogTruncatedError):
        await run(world.sequencer(), asyncio.Event())


async def sealed_and_created_anew() -> World:
    """Three records are sealed; then the topic is another one, with as many records and more."""
    world = World.with_hospital()
    for number in range(3):
        world.publish(document(number) if number < 2 else b"garbage")
    await world.seal_everything()
    world.topics.partitions[CLINICAL, 0].clear()
    for number in range(10, 15):
        world.publish(document(number))
    return world


async def test_a_topic_that_was_created_anew_and_has_grown_stops_the_sequencer() -> None:
    world = await sealed_and_created_anew()

    with pytest.raises(LogReplacedError, match=f"{CLINICAL} 0: the record at offset 2"):
        await run(world.sequencer(), asyncio.Event())


async def test_a_topic_that_was_filled_again_from_the_ledger_is_the_same() -> None:
    world = World.with_hospital()
    world.publish(document(1))
    world.publish(b"garbage")
    await world.seal_everything()
    refused = world.topics.partitions[CLINICAL, 0].pop()
    assert refused is not None
    world.topics.time_ms = refused.timestamp_ms - 1
    world.publish(None, headers=[(RESTORED_HEADER, b"rejected:missing-signature")])
    world.restored = {(CLINICAL, 0): ((1, 2),)}
    world.publish(document(2))
    await world.seal_everything()

    assert world.statuses()[CLINICAL, 0, 2] == "accepted"


async def test_a_topic_that_was_filled_with_other_timestamps_is_another_one() -> None:
    world = World.with_hospital()
    world.publish(document(1))
    await world.seal_everything()
    record = world.topics.partitions[CLINICAL, 0].pop()
    assert record is not None
    world.topics.append(CLINICAL, 0, key=record.key, value=record.value, headers=record.headers)

    with pytest.raises(LogReplacedError):
        await run(world.sequencer(), asyncio.Event())


async def test_only_a_rejected_record_may_be_replaced_by_what_stands_for_it() -> None:
    world = World.with_hospital()
    world.publish(document(1))
    await world.seal_everything()
    world.topics.partitions[CLINICAL, 0].pop()
    world.publish(None, headers=[(RESTORED_HEADER, b"accepted")])
    world.restored = {(CLINICAL, 0): ((0, 1),)}

    with pytest.raises(LogReplacedError):
        await run(world.sequencer(), asyncio.Event())


async def test_what_retention_removed_is_not_compared() -> None:
    world = await sealed_and_created_anew()
    world.topics.beginnings[CLINICAL, 0] = 3
    await world.seal_everything()

    assert world.statuses()[CLINICAL, 0, 4] == "accepted"


async def test_a_last_header_that_nobody_signed_stops_the_sequencer() -> None:
    world = World.with_hospital()
    await world.seal_everything()
    key = "shard/0/000000000000/header"
    note, etag = world.store.objects[key]
    world.store.objects[key] = (note.replace(b"accepted 1", b"accepted 0"), etag)

    with pytest.raises(ArchiveDamagedError):
        await run(world.sequencer(), asyncio.Event())


async def test_a_body_of_another_encoder_version_stays_and_is_named_by_the_header() -> None:
    world = World.with_hospital()
    await world.seal_everything()
    header = world.headers()[0]
    key = body_key(0, 0, header.root)
    body = world.store.objects[key][0]

    # The same rows in other bytes, as a rival with another Parquet library would have written them.
    other = _rewritten(body)
    fresh = World.with_hospital()
    fresh.store.objects[key] = (other, "etag")
    await fresh.seal_everything()

    assert other != body
    assert fresh.store.objects[key][0] == other
    assert fresh.headers()[0].body_bytes == len(other)
    assert len(fresh.rows()) == 1


async def test_other_rows_under_a_block_s_name_stop_the_sequencer() -> None:
    world = World.with_hospital()
    await world.seal_everything()
    key = body_key(0, 0, world.headers()[0].root)
    fresh = World.with_hospital()
    fresh.store.objects[key] = (b"PAR1 not really", "etag")

    with pytest.raises(ArchiveDamagedError):
        await fresh.seal_everything()


async def test_any_json_test_case_becomes_a_leaf() -> None:
    folder = DATA / "abuse" / "JSONTestSuite"
    files = sorted(folder.iterdir())
    values = [gzip.decompress(f.read_bytes()) if f.suffix == ".gz" else f.read_bytes() for f in files]
    world = World.with_hospital()
    for value in values:
        world.publish(value)
        # The same inside an otherwise good event.
        world.publish(document(1).replace(b'"object-1"', value))
    await world.seal_everything()

    assert len(files) > 200
    assert len(world.rows()) == 2 * len(values) + 1


def _rewritten(body: bytes) -> bytes:
    import pyarrow as pa  # noqa: PLC0415  # this test alone plays another encoder
    import pyarrow.parquet as pq  # noqa: PLC0415

    sink = pa.BufferOutputStream()
    pq.write_table(pq.read_table(pa.BufferReader(body)), sink, compression="none", store_schema=False)
    return bytes(sink.getvalue().to_pybytes())


async def test_records_are_not_judged_where_a_package_of_the_network_is_missing() -> None:  # issue 13
    world = World.with_hospital()
    world.publish(document(1))
    sequencer = world.sequencer()
    (await sequencer.identities.catch_up()).lacking.add("coldchain")

    with pytest.raises(PackageMissingError, match="roles coldchain, which no installed package declares"):
        await run(sequencer, asyncio.Event())

    assert world.store.objects == {}


@pytest.mark.parametrize("later_ms", [-1, 0, 1])
async def test_a_copy_in_a_lower_partition_of_the_same_block_is_the_duplicate(later_ms: int) -> None:
    # Red team B6, 10: 20 of 20 originals were duplicates of what a member's account copied at once.
    world = World.with_hospital()
    original, copy = (world.publish(document(1), at=(CLINICAL, number)) for number in (1, 0))
    for record, appended_ms in ((original, 10), (copy, 10 + later_ms)):
        world.topics.partitions[CLINICAL, record.partition][-1] = msgspec.structs.replace(
            record, timestamp_ms=original.timestamp_ms + appended_ms
        )
    await world.seal_everything()

    found = [(row["partition"], row["status"]) for row in world.rows() if row["topic"] == CLINICAL]
    # Of the same millisecond the place decides.
    first = 1 if later_ms > 0 else 0
    assert found == [(number, "accepted" if number == first else "rejected:duplicate") for number in (0, 1)]
