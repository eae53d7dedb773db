"""Where the records of a batch stand is for the broker to say; who says otherwise sent no records."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

import pytest
from aiokafka import TopicPartition
from aiokafka.codec import zstd_encode
from aiokafka.consumer import fetcher
from aiokafka.consumer.fetcher import READ_COMMITTED, READ_UNCOMMITTED
from aiokafka.record.util import calc_crc32c, encode_varint
from hypothesis import example, given
from hypothesis import strategies as st

import salus.messaging  # noqa: F401  # what is under test is what importing it does
from salus.ledger import record_batches
from salus.ledger.records import Flaw
from salus.messaging import tolerant
from salus.messaging.record import MESSAGE_BYTES_MAX
from salus.messaging.unpacking import As, Corrupt, Mark, Missing, Unpacked

AT = TopicPartition("t", 3)
# A signature header has more than 100 characters behind its name of 15, and a CloudEvent more than 221.
RECORD_BYTES_LEAST = 15 + 100 + 221
CRC_AT, CHECKED_FROM, ATTRIBUTES_AT, RECORDS_AT = 17, 21, 21, 61
ZSTD, LOG_APPEND_TIME, TRANSACTIONAL, CONTROL, DELETE_HORIZON = 4, 0x08, 0x10, 0x20, 0x40
INT32 = st.integers(-(1 << 31), (1 << 31) - 1)

Row = tuple[int, bytes | None, Flaw | None]
"""Offset, value and flaw of a record."""
Seen = list[Row] | None
"""What was read; None: it is damaged."""


def varint(number: int) -> bytes:
    made = bytearray()
    encode_varint(number, made.append)
    return bytes(made)


def record(delta: int, value: bytes, header: bytes, time: bytes = b"\0") -> bytes:
    parts = (b"k", value)
    body = b"\0" + time + varint(delta) + b"".join(varint(len(part)) + part for part in parts)
    body += varint(1) + varint(len(header)) + header + varint(-1)
    return varint(len(body)) + body


def batch(  # what a header says, each of which may be a lie
    deltas: Sequence[int],
    *,
    base: int = 0,
    last: int | None = None,
    count: int | None = None,
    attributes: int = LOG_APPEND_TIME,
    header: bytes = b"h",
    time: bytes = b"\0",
) -> bytes:
    """Return a batch of format v2 with the right checksum, whatever it says."""
    return framed(
        b"".join(record(delta, b"%d" % row, header, time) for row, delta in enumerate(deltas)),
        last=len(deltas) - 1 if last is None else last,
        count=len(deltas) if count is None else count,
        base=base,
        attributes=attributes,
    )


def framed(
    records: bytes, *, last: int, count: int, base: int = 0, attributes: int = LOG_APPEND_TIME
) -> bytes:
    if attributes & 7 == ZSTD:
        records = zstd_encode(records)
    checked = struct.pack(">hiqqqhii", attributes, last, 0, 0, -1, -1, -1, count) + records
    behind = struct.pack(">ibI", 0, 2, calc_crc32c(checked)) + checked
    return struct.pack(">qi", base, len(behind)) + behind


def seen(data: bytes, form: As, *, first: int = 0) -> tuple[Seen, int]:
    """Return what a reader is given, and where it goes on."""
    found = Unpacked(AT, fetcher.MemoryRecords(data), None, first, None, Mark(form), True, READ_UNCOMMITTED)
    rows: list[Row] = []
    for run in found:
        if isinstance(run, Corrupt):
            return None, found.next_fetch_offset
        if isinstance(run, Missing):
            continue
        if form is As.ROWS:
            rows += [(r.offset, r.value, r.flaw) for r in run.records]
        else:
            rows += [(r.offset, r.value, r.flaw) for r in run]
    return rows, found.next_fetch_offset


def seen_alike(data: bytes, *, first: int = 0) -> tuple[Seen, int]:
    """Return what every way to read it gives: they all give the same."""
    fast, slow = (seen(data, form, first=first) for form in (As.COLUMNS, As.ROWS))
    with pytest.MonkeyPatch.context() as without_library:
        without_library.setattr(record_batches, "_unpack", record_batches.unpack_in_python)
        slow_columns = seen(data, As.COLUMNS, first=first)
    assert fast == slow == slow_columns
    return slow


def one_leaf(data: bytes, offset: int) -> list[Row]:
    return [(offset, data[CHECKED_FROM:], Flaw.UNREADABLE)]


# What Kafka takes from anybody who may write to a topic, with the right checksum and lastOffsetDelta.
LIES = {
    "far beyond": [1000],
    "repeated": [0, 0],
    "backwards": [1, 0],
    "at the next position": [1],
    "negative": [-3],
    "one far": [0, 1000],
    "as far as can be said": [(1 << 31) - 1],
    "beyond what can be said": [1 << 31],
    "as far back as can be said": [-(1 << 31)],
}


@pytest.mark.parametrize("header", [b"h", b"\xff"], ids=["a name", "no UTF-8"])
@pytest.mark.parametrize("attributes", [LOG_APPEND_TIME, LOG_APPEND_TIME | ZSTD], ids=["plain", "zstd"])
@pytest.mark.parametrize("deltas", LIES.values(), ids=LIES)
def test_records_that_stand_elsewhere_are_one_unreadable_record_at_the_batchs_end(
    deltas: list[int], attributes: int, header: bytes
) -> None:
    # case F5
    data = batch(deltas, base=12, attributes=attributes, header=header)
    rows, following = seen_alike(data + batch([0], base=12 + len(deltas)), first=12)

    end = 12 + len(deltas)
    assert rows == [*one_leaf(data, end - 1), (end, b"0", None)]
    assert following == end + 1


def missing(data: bytes, *, first: int) -> list[tuple[int, int]]:
    """Return which offsets lack records without a reason; as columns they are the same."""
    forms = [
        [
            (run.first, run.end)
            for run in Unpacked(
                AT, fetcher.MemoryRecords(data), None, first, None, Mark(form), True, READ_UNCOMMITTED
            )
            if isinstance(run, Missing)
        ]
        for form in (As.ROWS, As.COLUMNS)
    ]
    assert forms[0] == forms[1]
    return forms[0]


def test_where_records_were_removed_is_said_and_nowhere_else() -> None:
    # case B9-2, by compaction for half a minute, which nobody noticed
    whole = batch([0, 1], base=10, last=1) + batch([0], base=12, last=0)

    assert missing(whole, first=10) == missing(whole, first=11) == []
    assert missing(whole, first=7) == [(7, 10)]
    assert missing(batch([2, 5], base=10, last=9), first=10) == [(10, 20)]
    assert missing(batch([2, 5], base=10, last=9), first=15) == [(15, 20)]
    assert missing(batch([], base=10, last=3, count=0), first=10) == [(10, 14)]
    assert missing(batch([0], base=10, last=0) + batch([0], base=14, last=0), first=10) == [(11, 14)]
    # What nobody can read is one record for all of its offsets.
    assert missing(batch([0, 1000], base=12), first=12) == []


def test_records_that_the_broker_removed_leave_holes_and_nothing_more() -> None:
    data = batch([2, 5], base=10, last=9)

    assert seen_alike(data, first=10) == ([(12, b"0", None), (15, b"1", None)], 20)
    assert seen_alike(data, first=13) == ([(15, b"1", None)], 20)
    assert seen_alike(batch([], base=10, last=3, count=0), first=10) == ([], 14)


@pytest.mark.parametrize("last", [-1, -(1 << 31)])
def test_a_batch_without_an_offset_is_damaged(last: int) -> None:
    assert seen_alike(batch([0], base=7, last=last), first=7) == (None, 7)


def test_a_batch_before_the_beginning_or_before_what_was_asked_for_is_damaged() -> None:
    assert seen_alike(batch([0], base=-1)) == (None, 0)
    assert seen_alike(batch([0, 1], base=5), first=7) == (None, 7)
    assert seen_alike(batch([0, 1], base=5) + batch([0], base=6), first=5) == (None, 7)


def test_a_flaw_of_offsets_goes_before_that_of_transactions() -> None:
    data = batch([7], attributes=TRANSACTIONAL | LOG_APPEND_TIME)

    assert seen_alike(data) == (one_leaf(data, 0), 1)


@pytest.mark.parametrize("deltas", LIES.values(), ids=LIES)
def test_a_consumer_of_the_library_passes_over_what_cannot_be_read(deltas: list[int]) -> None:
    # Faust, for one, knows of no flaw: what is raised stops it for ever.
    data = batch([0], base=11) + batch(deltas, base=12) + batch([0], base=12 + len(deltas))
    found = Unpacked(AT, fetcher.MemoryRecords(data), None, 11, None, None, True, READ_COMMITTED)

    assert [record.offset for record in found] == [11, 12 + len(deltas)]
    assert found.next_fetch_offset == 13 + len(deltas)


# Brokers take a record's time in ten bytes; the last has one bit that counts.
TIMES = {"ten bytes": b"\x80" * 9 + b"\1", "ten bytes and more than counts": b"\x80" * 9 + b"\x7f"}


@pytest.mark.parametrize("attributes", [0, ZSTD, LOG_APPEND_TIME, LOG_APPEND_TIME | ZSTD])
@pytest.mark.parametrize("time", TIMES.values(), ids=TIMES)
def test_a_time_may_have_ten_bytes(time: bytes, attributes: int) -> None:
    flaw = None if attributes & LOG_APPEND_TIME else Flaw.CREATE_TIME

    assert seen_alike(batch([0, 1], time=time, attributes=attributes)) == (
        [(0, b"0", flaw), (1, b"1", flaw)],
        2,
    )


def test_what_no_reader_of_ours_can_tell_is_unreadable_and_makes_no_object(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def made(*_: object) -> None:
        raise AssertionError("the library made records before the batch was judged")

    monkeypatch.setattr(tolerant, "DefaultRecordBatch", made)
    monkeypatch.setattr(tolerant, "_TolerantBatch", made)
    for time in (b"\x80" * 10 + b"\0", b"\x80" * 9 + b"\x81"):
        assert seen_alike(data := batch([0, 1], time=time)) == (one_leaf(data, 1), 2)
    assert seen_alike(data := batch([1, 1])) == (one_leaf(data, 1), 2)


def tiny(count: int, time: bytes) -> bytes:
    """Return records of nothing, of which the first has this time."""
    bodies = (b"\0" + (b"\0" if row else time) + varint(row) + b"\1\1\0" for row in range(count))
    return b"".join(varint(len(body)) + body for body in bodies)


def with_headers(count: int, time: bytes) -> bytes:
    """Return a record of nothing but headers without name and value."""
    body = b"\0" + time + b"\0\1\1" + varint(count) + b"\0\1" * count
    return varint(len(body)) + body


@pytest.mark.parametrize("attributes", [LOG_APPEND_TIME, LOG_APPEND_TIME | ZSTD], ids=["plain", "zstd"])
@pytest.mark.parametrize("time", [b"\0", TIMES["ten bytes"]], ids=["usual", "odd"])
def test_a_batch_has_so_many_records_and_headers_and_no_more(
    time: bytes, attributes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_batches, "RECORDS_MAX", 20)
    monkeypatch.setattr(record_batches, "HEADERS_MAX", 30)

    for count in (20, 21):
        data = framed(tiny(count, time), last=count - 1, count=count, attributes=attributes)
        found = one_leaf(data, 20) if count > 20 else [(row, None, None) for row in range(20)]
        assert seen_alike(data) == (found, count)
    for count in (30, 31):
        data = framed(with_headers(count, time), last=0, count=1, attributes=attributes)
        assert seen_alike(data) == (one_leaf(data, 0) if count > 30 else [(0, None, None)], 1)
    two = with_headers(15, time) + with_headers(16, time).replace(b"\0\1\1", b"\2\1\1", 1)
    data = framed(two, last=1, count=2, attributes=attributes)
    assert seen_alike(data) == (one_leaf(data, 1), 2)


def test_the_bounds_are_above_what_a_batch_of_events_has() -> None:
    assert RECORD_BYTES_LEAST * record_batches.RECORDS_MAX > MESSAGE_BYTES_MAX


class Said(NamedTuple):
    """What a batch says, right or wrong."""

    deltas: list[int]
    base: int = 12
    last: int | None = None
    records: int | None = None
    attributes: int = LOG_APPEND_TIME
    header: bytes = b"h"
    time: bytes = b"\0"


SAID = st.builds(
    Said,
    deltas=st.lists(st.integers(-2, 8) | INT32, max_size=6) | st.integers(0, 6).map(lambda n: [*range(n)]),
    base=st.integers(0, 1 << 62) | st.integers(0, 3),
    last=st.none() | st.integers(-2, 9) | INT32,
    records=st.none() | st.integers(-1, 7),
    attributes=st.integers(0, 0x7F),
    header=st.sampled_from([b"h", b"\xff", b""]),
    time=st.sampled_from([b"\0", *TIMES.values(), b"\x80" * 10 + b"\0"]),
)


@given(SAID, st.integers(-2, 3))
@example(Said([1000]), 0)
@example(Said([0, 1], attributes=DELETE_HORIZON, header=b"\xff"), 0)
@example(Said([0], attributes=CONTROL), 0)
def test_whatever_a_header_says_all_ways_to_read_it_agree_and_stay_within_the_batch(
    said: Said, behind: int
) -> None:
    # case F5
    deltas, base, last, count, attributes, header, time = said
    data = batch(deltas, base=base, last=last, count=count, attributes=attributes, header=header, time=time)
    first = max(0, base + behind)
    rows, following = seen_alike(data, first=first)

    last = len(deltas) - 1 if last is None else last
    assert following in (first, base + last + 1)
    offsets = [offset for offset, _, _ in rows or ()]
    assert offsets == sorted(set(offsets))
    assert all(max(first, base) <= offset < following for offset in offsets)
    if rows and rows[0][2] is Flaw.UNREADABLE:
        assert rows == one_leaf(data, base + last)
