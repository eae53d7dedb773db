"""What is unpacked reads as the client library reads it, with the compiled function and without."""

from __future__ import annotations

import struct
from array import array
from typing import TypeAlias

import pytest
from aiokafka.errors import KafkaError
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from hypothesis import example, given
from hypothesis import strategies as st

from salus.ledger import record_batches
from salus.ledger.record_batches import RECORD_BYTES_MIN, unpack_batch, unpack_in_python
from salus.ledger.records import (
    NONE,
    SIGNATURE_HEADER,
    STRIDE,
    TRACE_HEADER,
    Part,
    Records,
    Row,
    timestamp_of,
)
from salus.messaging.record import Record
from salus.messaging.tolerant import Batch, _TolerantBatch

Headers: TypeAlias = list[tuple[str, bytes | None]]
Made: TypeAlias = tuple[int, bytes | None, bytes | None, Headers]

HEADER_BYTES, COUNT_AT = 61, 57
NAMES = st.sampled_from(
    [SIGNATURE_HEADER, TRACE_HEADER, "", "salus-signaturf", "traceparen", "salus-signature ", "möglich"]
)
CELLS = st.none() | st.binary(max_size=20) | st.binary(min_size=60, max_size=300)
RECORDS = st.lists(
    st.tuples(st.integers(1, 3), CELLS, CELLS, st.lists(st.tuples(NAMES, CELLS), max_size=5)), max_size=12
)
BASES = st.integers(0, 1 << 62)
FULL: list[Made] = [
    (1, b"k", b"v" * 200, [("salus-signature", b"s"), ("traceparent", b"t")]),
    (2, None, None, []),
]


def batch_of(made: list[Made], base: int = 0, *, compression: int = 0, attributes: int = 0) -> bytes:
    """Return a batch as it is fetched; `made` says how much greater than the one before each offset is."""
    builder = DefaultRecordBatchBuilder(2, compression, 0, -1, -1, 0, 10**6)
    delta = -1
    for step, key, value, headers in made:
        delta += step
        builder.append(delta, 1000 + delta, key, value, headers)
    raw = bytearray(builder.build())
    struct.pack_into(">q", raw, 0, base)
    raw[22] |= attributes
    return bytes(raw)


def by_the_library(raw: bytes) -> list[Row]:
    batch = DefaultRecordBatch(memoryview(raw))
    return rows_of(Batch(batch, memoryview(raw), raw, len(raw)).records())


def by_the_one_that_never_reads_beyond(raw: bytes) -> list[Row] | None:
    """Return the records; None if they are refused."""
    if struct.unpack_from(">iib", raw, 8)[::2] != (len(raw) - 12, 2):
        return None
    batch = _TolerantBatch(raw)
    try:
        return None if batch.is_control_batch else rows_of(batch)
    except (KafkaError, OSError, RuntimeError, struct.error):
        return None


def rows_of(batch: object) -> list[Row]:
    records = [
        Record("t", 3, r.offset, timestamp_of(r.timestamp), r.key, r.value, tuple(r.headers))
        for r in batch  # type: ignore[attr-defined]  # the library has no types
    ]
    return [
        Row(
            *(r.topic, r.partition, r.offset, r.timestamp_ms),
            *(r.key, r.value, r.header(SIGNATURE_HEADER), r.header(TRACE_HEADER)),
        )
        for r in records
    ]


def unpacked(data: bytes, begin: int = 0, end: int | None = None) -> list[Row] | None:
    place = data, begin, len(data) if end is None else end
    found = unpack_batch(*place)
    with pytest.MonkeyPatch.context() as without_library:
        without_library.setattr(record_batches, "_unpack", unpack_in_python)
        assert unpack_batch(*place) == found
    return None if found is None else [*Records("t", 3, *found[:2], data, found[2])]


@given(RECORDS, BASES, st.binary(max_size=9), st.binary(max_size=9), st.sampled_from([0, 8, 0x10, 0x40]))
@example(FULL, 7, b"", b"", 0)
def test_a_batch_reads_as_the_library_reads_it(
    made: list[Made], base: int, before: bytes, behind: bytes, attributes: int
) -> None:
    raw = batch_of(made, base, attributes=attributes)
    found = unpacked(before + raw + behind, len(before), len(before) + len(raw))

    assert found == by_the_library(raw) == by_the_one_that_never_reads_beyond(raw)
    assert found is not None
    assert [(row.key, row.value) for row in found] == [(key, value) for _, key, value, _ in made]


@given(RECORDS, st.data())
def test_what_is_spoiled_is_refused_or_reads_as_the_library_reads_it(
    made: list[Made], data: st.DataObject
) -> None:
    raw = bytearray(batch_of([*made, *FULL]))
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    found = unpacked(bytes(raw))

    assert found is None or found == by_the_one_that_never_reads_beyond(bytes(raw))


def test_every_changed_byte_is_refused_or_reads_as_the_library_reads_it() -> None:
    raw = batch_of(FULL, 300)
    accepted = 0
    for at in range(len(raw)):
        for byte in {raw[at] ^ 1, raw[at] ^ 0x80, (raw[at] + 2) % 256, (raw[at] - 2) % 256, 0, 1, 0x7F, 0xFF}:
            spoiled = raw[:at] + bytes([byte]) + raw[at + 1 :]
            found = unpacked(spoiled)
            accepted += found is not None
            assert found is None or found == by_the_one_that_never_reads_beyond(spoiled), (at, byte)

    assert accepted > len(raw)


def test_nothing_is_looked_for_beyond_the_end() -> None:
    raw = batch_of(FULL)

    for end in range(len(raw)):
        cut = bytearray(raw[:end])
        if end >= HEADER_BYTES:
            struct.pack_into(">i", cut, 8, end - 12)
        assert unpacked(bytes(cut)) is None
        assert unpacked(raw, 0, end) is None
    for begin, end in ((-1, len(raw)), (0, len(raw) + 1), (len(raw), 0), (1 << 62, (1 << 62) + 100)):
        assert unpacked(raw, begin, end) is None


def patched(form: str, at: int, *numbers: int, raw: bytes = batch_of(FULL)) -> bytes:
    made = bytearray(raw)
    struct.pack_into(form, made, at, *numbers)
    return bytes(made)


def record(*, body: bytes, size: bytes | None = None) -> bytes:
    """Return a batch of one record, from behind its timestamp on; all numbers are below 64."""
    whole = b"\0\0" + body
    raw = batch_of([(1, None, None, [])])[:HEADER_BYTES] + (size or bytes([2 * len(whole)])) + whole
    return patched(">i", 8, len(raw) - 12, raw=raw)


NULL, HUGE = b"\x01", b"\xfe\xff\xff\xff\x0f"
REFUSED = {
    "compressed": batch_of(FULL, compression=1),
    "control": batch_of(FULL, attributes=0x20),
    "another format": patched(">b", 16, 3),
    "another length": patched(">i", 8, len(batch_of(FULL)) - 13),
    "one record less": patched(">i", COUNT_AT, 1),
    "one record more": patched(">i", COUNT_AT, 3),
    "as many records as can be said": patched(">I", COUNT_AT, 0xFFFFFFFF),
    "an offset below 0": patched(">q", 0, -1),
    "offsets beyond what there can be": patched(">q", 0, (1 << 63) - 1),
    "the same offset twice": batch_of([(1, b"k", None, []), (0, None, None, [])]),
    "an offset before the batch": record(body=NULL + NULL + NULL + b"\0"),
    "a length below none": record(body=b"\0\x03" + NULL + b"\0"),
    "a key beyond the record": record(body=b"\0\x08" + NULL + b"\0"),
    "a key beyond everything": record(body=b"\0" + HUGE + NULL + b"\0"),
    "a value beyond everything": record(body=b"\0" + NULL + HUGE + b"\0"),
    "fewer headers than said": record(body=b"\0" + NULL + NULL + b"\2"),
    "more headers than said": record(body=b"\0" + NULL + NULL + b"\2\2a\2b\2c\2d"),
    "headers below none": record(body=b"\0" + NULL + NULL + b"\1"),
    "a header without a name": record(body=b"\0" + NULL + NULL + b"\2\1\2b"),
    "a header's name beyond the record": record(body=b"\0" + NULL + NULL + b"\2\x1e"),
    "a number that goes on beyond the record": record(body=b"\0" + NULL + NULL + b"\2\x9e"),
    "a record beyond everything": record(body=b"\0" + NULL + NULL + b"\2\x1e", size=b"\x7e"),
    "an offset that is not of this batch": record(body=b"\x80\x80\x80\x80\x20" + NULL + NULL + b"\0"),
    "a number too long": record(body=b"\x80\x80\x80\x80\x80\0" + NULL + NULL + b"\0"),
    "a record's attributes of two bytes": record(body=b"\0" + NULL + NULL + b"\0").replace(
        b"\x0c\0\0\0", b"\x0c\x80\0\0"
    ),
    "a length of nothing": record(body=b"", size=b"\0"),
    "a length below nothing": record(body=b"\0" + NULL + NULL + b"\0", size=b"\x01"),
    "a record that ends before its length": record(body=b"\0" + NULL + NULL + b"\0x"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_not_as_the_grammar_says_is_refused(what: str) -> None:
    assert unpacked(REFUSED[what]) is None


def test_the_plainest_record_is_unpacked() -> None:
    found = unpack_batch(raw := record(body=b"\0" + NULL + NULL + b"\0"), 0, len(raw))

    assert found == (array("q", [0]), array("q", [1000]), array("q", [NONE] * STRIDE))
    assert len(raw) == HEADER_BYTES + RECORD_BYTES_MIN
    assert len(Part) * 2 == STRIDE


@pytest.mark.parametrize("size", [63, 64, 8191, 8192, 1 << 20])
def test_parts_may_be_large_and_times_far_apart(size: int) -> None:
    part = bytes(size)
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, 0, 1 << 30)
    for offset, timestamp in enumerate((0, size, 1 << 61, -(1 << 61))):
        assert builder.append(offset * size, timestamp, part, part, [("traceparent", part)])
    raw = bytes(builder.build())

    assert unpacked(raw) == by_the_library(raw)


def test_a_header_name_that_is_not_utf8_is_one_that_nobody_looks_for() -> None:
    raw = batch_of([(1, b"k", b"v", [("salus-signature", b"s"), ("?" * 15, b"t")])]).replace(
        b"?" * 15, b"\xff" * 15
    )

    assert unpacked(raw) == by_the_library(raw) == [Row("t", 3, 0, 1000, b"k", b"v", b"s", None)]


def test_without_the_library_python_does_it() -> None:
    assert record_batches.load("/nowhere") is None
    assert record_batches._unpack is not unpack_in_python
