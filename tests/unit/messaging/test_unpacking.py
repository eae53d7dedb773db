"""Records that are unpacked a batch at a time are those that the library hands out one by one."""

from __future__ import annotations

import struct

import pytest
from aiokafka import TopicPartition
from aiokafka.codec import zstd_encode
from aiokafka.consumer import fetcher
from aiokafka.consumer.fetcher import READ_UNCOMMITTED
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from aiokafka.record.util import calc_crc32c

import salus.messaging  # noqa: F401  # what is under test is what importing it does
from salus.ledger.records import SIGNATURE_HEADER as SIGNATURE
from salus.ledger.records import TRACE_HEADER as TRACE
from salus.ledger.records import Flaw, Row
from salus.messaging.record import MESSAGE_BYTES_MAX, NOTHING_RESTORED, Record, RestoredRanges
from salus.messaging.unpacking import As, Corrupt, Mark, Missing, Rows, Unpacked, joined

AT = TopicPartition("t", 3)
CRC_AT, CRC_END, CONTROL = 17, 21, 0x20
ATTRIBUTES_AT, APPEND_TIME = 22, 0x08
HEADERS = [("salus-signature", b"v1"), ("traceparent", b"00")]


def batch_of(
    count: int,
    *,
    base_offset: int = 0,
    compression: int = 0,
    transactional: int = 0,
    producer: int = -1,
    appended: bool = True,
) -> bytes:
    builder = DefaultRecordBatchBuilder(2, compression, transactional, producer, 0, 0, 10**6)
    for n in range(count):
        builder.append(n, 1000 + n, b"k%d" % n, None if n == 1 else b"v%d" % n, HEADERS)
    raw = bytearray(builder.build())
    raw[0:8] = struct.pack(">q", base_offset)
    # The broker dates a batch by the greatest of its timestamps, in whose place it puts its own.
    raw[ATTRIBUTES_AT] |= APPEND_TIME if appended else 0
    raw[CRC_AT:CRC_END] = struct.pack(">I", calc_crc32c(bytes(raw[CRC_END:])))
    return bytes(raw)


def unpacked(
    data: bytes,
    *,
    first: int = 0,
    aborted: list[tuple[int, int]] | None = None,
    restored: RestoredRanges = NOTHING_RESTORED,
) -> tuple[list[Record], int]:
    """Return the records and the offset to go on with; as columns they say the same."""
    found, columns = (
        Unpacked(
            AT,
            fetcher.MemoryRecords(data),
            aborted,
            first,
            None,
            Mark(form, restored),
            True,
            READ_UNCOMMITTED,
        )
        for form in As
    )
    records = [record for rows in found if not isinstance(rows, Missing) for record in rows.records]
    runs = [run for run in columns if not isinstance(run, Missing)]
    assert [row for run in runs for row in run] == [
        Row(
            *(r.topic, r.partition, r.offset, r.timestamp_ms, r.key, r.value),
            r.header(SIGNATURE),
            r.header(TRACE),
            r.flaw,
        )
        for r in records
    ]
    assert found.next_fetch_offset == columns.next_fetch_offset
    rows, count = [row for run in runs for row in run], len(runs)
    together = joined(runs)
    assert len(together) <= max(1, count)
    assert [row for run in together for row in run] == rows
    return records, found.next_fetch_offset


@pytest.mark.parametrize("compression", [0, 1, 2, 3, 4])
def test_every_part_of_a_record_arrives(compression: int) -> None:
    records, following = unpacked(batch_of(3, base_offset=7, compression=compression))

    assert records == [
        Record("t", 3, 7 + n, 1002, b"k%d" % n, None if n == 1 else b"v%d" % n, tuple(HEADERS))
        for n in range(3)
    ]
    assert following == 10


def test_a_batch_that_begins_before_what_was_asked_for_is_cut() -> None:
    data = batch_of(5) + batch_of(2, base_offset=5)

    assert [record.offset for record in unpacked(data, first=3)[0]] == [3, 4, 5, 6]


@pytest.mark.parametrize("at", [16, CRC_AT, CRC_END, 60, -1])
@pytest.mark.parametrize("form", As)
def test_a_damaged_batch_ends_what_is_read_and_says_where(at: int, form: As) -> None:
    broken = bytearray(batch_of(2, base_offset=2))
    broken[at] ^= 1
    data = batch_of(2) + bytes(broken) + batch_of(2, base_offset=4)
    found = Unpacked(AT, fetcher.MemoryRecords(data), None, 0, None, Mark(form), True, READ_UNCOMMITTED)

    first, damaged = found

    assert [*first.offsets] == [0, 1]
    assert damaged == Corrupt("t", 3, 2)
    assert found.next_fetch_offset == 2


@pytest.mark.parametrize("form", As)
def test_an_answer_that_has_not_even_one_whole_batch_passes_over_nothing(form: As) -> None:
    found = Unpacked(
        AT, fetcher.MemoryRecords(batch_of(2)[:-1]), None, 0, None, Mark(form), True, READ_UNCOMMITTED
    )

    assert [*found] == [Corrupt("t", 3, 0)]
    assert found.next_fetch_offset == 0


@pytest.mark.parametrize("compression", [0, 1, 2, 3, 4])
def test_records_of_transactions_come_with_a_flaw_whatever_becomes_of_them(compression: int) -> None:
    # cases SEC4, K2
    data = batch_of(2, transactional=1, producer=9, compression=compression) + batch_of(2, base_offset=2)

    records, following = unpacked(data, aborted=[(9, 0)])

    assert [(r.offset, r.flaw) for r in records] == [
        (0, Flaw.TRANSACTIONAL),
        (1, Flaw.TRANSACTIONAL),
        (2, None),
        (3, None),
    ]
    assert following == 4


@pytest.mark.parametrize("compression", [0, 1, 2, 3, 4])
def test_what_its_sender_dated_has_a_flaw_and_no_time(compression: int) -> None:
    # Red team B6, 1: the setting was another for a tenth of a second.
    data = batch_of(2, compression=compression, appended=False) + batch_of(2, base_offset=2)

    records, following = unpacked(data)

    assert [(r.offset, r.flaw, r.timestamp_ms) for r in records] == [
        (0, Flaw.CREATE_TIME, 0),
        (1, Flaw.CREATE_TIME, 0),
        (2, None, 1001),
        (3, None, 1001),
    ]
    assert following == 4


@pytest.mark.parametrize("compression", [0, 4])
def test_no_flaw_of_another_kind_leaves_a_time_that_its_sender_made_up(compression: int) -> None:
    data = batch_of(2, transactional=1, producer=9, compression=compression, appended=False)

    assert {(r.flaw, r.timestamp_ms) for r in unpacked(data)[0]} == {(Flaw.TRANSACTIONAL, 0)}


@pytest.mark.parametrize("compression", [0, 4])
@pytest.mark.parametrize(
    ("restored", "taken"),
    [
        ({("t", 3): [(0, 4)]}, True),
        ({("t", 3): [(0, 1), (2, 4)]}, True),
        ({("t", 3): [(0, 3)]}, False),
        ({("t", 3): [(3, 9)]}, False),
        ({("t", 3): [(4, 9)]}, False),
        ({("t", 3): [(0, 3), (3, 4)]}, False),
        ({("t", 2): [(0, 9)], ("u", 3): [(0, 9)]}, False),
    ],
)
def test_a_restored_batch_keeps_its_time_and_no_other_does(
    compression: int, restored: RestoredRanges, *, taken: bool
) -> None:
    data = batch_of(2, base_offset=2, compression=compression, appended=False)

    found = [(r.flaw, r.timestamp_ms) for r in unpacked(data, first=2, restored=restored)[0]]

    assert found == ([(None, 1000), (None, 1001)] if taken else [(Flaw.CREATE_TIME, 0)] * 2)


def test_a_marker_is_no_record_and_is_passed_over() -> None:
    marker = bytearray(batch_of(1, transactional=1, producer=9))
    marker[CRC_END + 1] |= CONTROL
    marker[CRC_AT:CRC_END] = struct.pack(">I", calc_crc32c(bytes(marker[CRC_END:])))

    assert unpacked(bytes(marker)) == ([], 1)


def unreadable_by(change: str) -> bytes:
    """Return a batch of three records from offset 5 on, whose checksum is right and which nobody can read."""
    raw = bytearray(batch_of(3, base_offset=5, compression=4 if change != "structure" else 0))
    if change == "codec":
        raw[CRC_END + 1] |= 0x07
    elif change == "content":
        raw[70] ^= 0xFF
    elif change == "bomb":
        raw[61:] = zstd_encode(b"\0" * (MESSAGE_BYTES_MAX + 1))
        raw[8:12] = struct.pack(">i", len(raw) - 12)
    else:
        raw[61] = 0x02
    raw[CRC_AT:CRC_END] = struct.pack(">I", calc_crc32c(bytes(raw[CRC_END:])))
    return bytes(raw)


@pytest.mark.parametrize("change", ["codec", "content", "bomb", "structure"])
def test_what_nobody_can_read_is_one_record_of_its_bytes_and_stops_nobody(change: str) -> None:
    # case K3
    broken = unreadable_by(change)

    records, following = unpacked(batch_of(5) + broken + batch_of(2, base_offset=8))

    assert [r.offset for r in records] == [0, 1, 2, 3, 4, 7, 8, 9]
    assert [r.offset for r in records if r.flaw] == [7]
    assert (records[5].flaw, records[5].key, records[5].headers) == (Flaw.UNREADABLE, None, ())
    assert records[5].value == broken[CRC_END:]
    assert following == 10


def test_a_batch_that_becomes_unreadable_half_way_is_not_passed_over() -> None:
    records, _ = unpacked(unreadable_by("codec"), first=7)

    assert [r.offset for r in records] == [7]


def test_the_formats_before_headers_are_read_too() -> None:
    builder = LegacyRecordBatchBuilder(1, 0, 10**6)
    builder.append(0, timestamp=5, key=b"k", value=b"v")

    assert unpacked(bytes(builder.build())) == ([Record("t", 3, 0, 0, b"k", b"v", (), Flaw.CREATE_TIME)], 1)


def test_compressed_they_are_not_read_for_nothing_bounds_what_they_expand_to() -> None:
    builder = LegacyRecordBatchBuilder(1, 1, 10**6)
    builder.append(0, timestamp=5, key=b"k", value=b"v")
    raw = bytes(builder.build())

    assert unpacked(raw) == ([Record("t", 3, 0, 0, None, raw[16:], (), Flaw.UNREADABLE)], 1)


def test_the_batches_of_an_answer_become_one_and_refer_to_it() -> None:
    data = batch_of(5) + batch_of(2, base_offset=5) + batch_of(2, base_offset=7, compression=1)
    found = Unpacked(AT, fetcher.MemoryRecords(data), None, 3, None, Mark(As.COLUMNS), True, READ_UNCOMMITTED)
    first, compressed = joined([*found])

    assert first.data is data
    assert ([*first.offsets], [*compressed.offsets]) == ([3, 4, 5, 6], [7, 8])


def test_rows_are_cut_as_columns_are() -> None:
    rows = Rows.of("t", 3, [Record("t", 3, offset, 0, None, None, ()) for offset in (2, 4, 6)])

    assert [*rows.between(1, 3).offsets] == [r.offset for r in rows.between(1, 3).records] == [4, 6]
    assert [*rows.since(3).offsets] == [4, 6]
    assert rows.since(2) is rows
