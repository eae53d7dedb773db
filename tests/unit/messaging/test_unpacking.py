"""Records that are unpacked a batch at a time are those that the library hands out one by one."""

from __future__ import annotations

import struct

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.consumer.fetcher import READ_COMMITTED, READ_UNCOMMITTED
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from aiokafka.record.util import calc_crc32c

import salus.messaging  # noqa: F401  # what is under test is what importing it does
from salus.ledger.records import HEADERS as HEADER_NAMES
from salus.ledger.records import Row
from salus.messaging.record import Record
from salus.messaging.unpacking import As, Rows, Unpacked, joined

AT = TopicPartition("t", 3)
CRC_AT, CRC_END = 17, 21
HEADERS = [("salus-signature", b"v1"), ("traceparent", b"00")]


def batch_of(
    count: int, *, base_offset: int = 0, compression: int = 0, transactional: int = 0, producer: int = -1
) -> bytes:
    builder = DefaultRecordBatchBuilder(2, compression, transactional, producer, 0, 0, 10**6)
    for n in range(count):
        builder.append(n, 1000 + n, b"k%d" % n, None if n == 1 else b"v%d" % n, HEADERS)
    raw = bytearray(builder.build())
    raw[0:8] = struct.pack(">q", base_offset)
    raw[CRC_AT:CRC_END] = struct.pack(">I", calc_crc32c(bytes(raw[CRC_END:])))
    return bytes(raw)


def unpacked(
    data: bytes,
    *,
    first: int = 0,
    aborted: list[tuple[int, int]] | None = None,
    isolation: int = READ_COMMITTED,
) -> tuple[list[Record], int]:
    """Return the records and the offset to go on with; as columns they say the same."""
    found, columns = (
        Unpacked(AT, fetcher.MemoryRecords(data), aborted, first, None, mark, True, isolation) for mark in As
    )
    records = [record for rows in found for record in rows.records]
    runs = [*columns]
    assert [row for run in runs for row in run] == [
        Row(r.topic, r.partition, r.offset, r.key, r.value, *map(r.header, HEADER_NAMES)) for r in records
    ]
    assert found.next_fetch_offset == columns.next_fetch_offset
    assert len(joined(runs)) <= max(1, len(runs))
    assert [row for run in joined(runs) for row in run] == [row for run in runs for row in run]
    return records, found.next_fetch_offset


@pytest.mark.parametrize("compression", [0, 1])
def test_every_part_of_a_record_arrives(compression: int) -> None:
    records, following = unpacked(batch_of(3, base_offset=7, compression=compression))

    assert records == [
        Record("t", 3, 7 + n, 1000 + n, b"k%d" % n, None if n == 1 else b"v%d" % n, tuple(HEADERS))
        for n in range(3)
    ]
    assert following == 10


def test_a_batch_that_begins_before_what_was_asked_for_is_cut() -> None:
    data = batch_of(5) + batch_of(2, base_offset=5)

    assert [record.offset for record in unpacked(data, first=3)[0]] == [3, 4, 5, 6]


@pytest.mark.parametrize("at", [CRC_AT, CRC_END, 60, -1])
@pytest.mark.parametrize("mark", As)
def test_a_batch_with_a_changed_byte_is_refused_and_those_before_it_are_not(at: int, mark: As) -> None:
    broken = bytearray(batch_of(2, base_offset=2))
    broken[at] ^= 1
    found = Unpacked(
        AT,
        fetcher.MemoryRecords(batch_of(2) + bytes(broken)),
        None,
        0,
        None,
        mark,
        True,
        READ_COMMITTED,
    )

    assert [*next(found).offsets] == [0, 1]
    with pytest.raises(CorruptRecordException):
        next(found)
    assert found.next_fetch_offset == 2


def test_records_of_aborted_transactions_are_left_out_for_readers_of_committed_ones() -> None:
    data = batch_of(2, transactional=1, producer=9) + batch_of(2, base_offset=2)

    assert [r.offset for r in unpacked(data, aborted=[(9, 0)])[0]] == [2, 3]
    assert [r.offset for r in unpacked(data, aborted=[(9, 0)], isolation=READ_UNCOMMITTED)[0]] == [0, 1, 2, 3]


def test_the_formats_before_headers_are_read_too() -> None:
    builder = LegacyRecordBatchBuilder(1, 0, 10**6)
    builder.append(0, timestamp=5, key=b"k", value=b"v")

    assert unpacked(bytes(builder.build())) == ([Record("t", 3, 0, 5, b"k", b"v", ())], 1)


def test_the_batches_of_an_answer_become_one_and_refer_to_it() -> None:
    data = batch_of(5) + batch_of(2, base_offset=5) + batch_of(2, base_offset=9, compression=1)
    found = Unpacked(AT, fetcher.MemoryRecords(data), None, 3, None, As.COLUMNS, True, READ_COMMITTED)
    first, compressed = joined([*found])

    assert first.data is data
    assert ([*first.offsets], [*compressed.offsets]) == ([3, 4, 5, 6], [9, 10])


def test_records_out_of_order_are_all_handed_out() -> None:
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, 0, 0, 10**6)
    for offset in (5, 3, 6):
        builder.append(offset, 0, b"k", b"v", [])
    raw = bytearray(builder.build())
    raw[CRC_AT:CRC_END] = struct.pack(">I", calc_crc32c(bytes(raw[CRC_END:])))

    assert [record.offset for record in unpacked(bytes(raw), first=3)[0]] == [5, 3, 6]
    assert [record.offset for record in unpacked(bytes(raw), first=4)[0]] == [5, 6]


def test_rows_are_cut_as_columns_are() -> None:
    rows = Rows.of("t", 3, [Record("t", 3, offset, 0, None, None, ()) for offset in (2, 4, 6)])

    assert [*rows.between(1, 3).offsets] == [r.offset for r in rows.between(1, 3).records] == [4, 6]
    assert [*rows.since(3).offsets] == [4, 6]
    assert rows.since(2) is rows
