"""Says where the parts of the records of a Kafka record batch lie, and which batches nobody can read.

That is one rule for everybody who reads a topic (docs/ledger-format.md, section 3): what is refused here is
unreadable. It makes no object for each record, so a batch decides little about a reader's memory.
`native/record_batches.c` does the same as `unpack_in_python`, many times faster.
"""

from __future__ import annotations

import ctypes
import struct
from array import array
from collections.abc import Callable

from salus.ledger.hashing import LIBRARY
from salus.ledger.records import HEADERS, NONE, STRIDE, timestamp_of

# The number changes with the arguments, as in `hashing`, and with what is refused.
FUNCTION = "salus_unpack_batch_4"
HEADER_BYTES = 61
RECORD_BYTES_MIN = 7
"""One byte each for length, attributes, two deltas, key, value and the number of headers."""
RECORDS_MAX = 100_000
"""A batch of 32 MiB has no more events: with its signature none takes fewer than 336 bytes."""
HEADERS_MAX = 200_000
"""Of all records of a batch together."""
_NUMBER_BYTES_MAX, _TIMESTAMP_BYTES_MAX = 5, 10
_COUNT = struct.Struct(">I")
_COUNT_AT = 57
# What a batch of format v2 begins with: base offset, length, leader's epoch, format, checksum, attributes,
# distance of its last offset, first and greatest timestamp; producer's id, epoch and sequence; records.
_HEADER = struct.Struct(">QiibIHIqqqhiI")
_LENGTH_BEFORE, _MAGIC = 12, 2
_COMPRESSION_OR_CONTROL, _LOG_APPEND_TIME = 0x27, 0x08
_INT32_MAX, _UINT32_MAX, _INT64_MAX, _UINT64_MAX = (1 << 31) - 1, (1 << 32) - 1, (1 << 63) - 1, (1 << 64) - 1
_NAMES = tuple(name.encode() for name in HEADERS)

Unpacked = tuple["array[int]", "array[int]", "array[int]"]
"""Offsets, timestamps and spans, as `salus.ledger.records.Records` have them."""
Unpack = Callable[[bytes, int, int, int, int], Unpacked | None]
"""Takes the bytes, where the batch begins and ends, and how many records and headers at most it has."""


def unpack_batch(data: bytes, begin: int, end: int) -> Unpacked | None:
    """Return what is in the uncompressed batch `data[begin:end]`; None if it is unreadable."""
    if not 0 <= begin <= end - HEADER_BYTES <= len(data) - HEADER_BYTES:
        return None
    count: int = _COUNT.unpack_from(data, begin + _COUNT_AT)[0]
    if count > min(RECORDS_MAX, (end - begin) // RECORD_BYTES_MIN):
        return None
    return _unpack(data, begin, end, count, HEADERS_MAX)


def load(path: str = LIBRARY) -> Unpack | None:
    """Return the library's function; None if it is not there."""
    try:
        # Where others compute, giving the interpreter lock away and waiting for it costs more than the call.
        run = ctypes.PyDLL(path)[FUNCTION]
    except (OSError, AttributeError):
        return None
    address, number = ctypes.c_void_p, ctypes.c_uint64
    run.argtypes = [ctypes.c_char_p, number, number, number, number, address, address, address]

    def unpack(data: bytes, begin: int, end: int, count: int, headers_max: int) -> Unpacked | None:
        # A batch of tiny records has 72 bytes of them for each of its own 10, so they are made once.
        columns = [array("q", (0,)) * (width * count) for width in (1, 1, STRIDE)]
        places = (column.buffer_info()[0] for column in columns)
        refused = run(data, begin, end, count, headers_max, *places)
        offsets, timestamps, spans = columns
        return None if refused else (offsets, timestamps, spans)

    return unpack


class _OddError(Exception):
    """The batch is not as the grammar says."""


class _Place:
    """Where we are in `data`, and before which place we must stay."""

    __slots__ = ("at", "data", "end")

    def __init__(self, data: bytes, at: int, end: int) -> None:
        self.data, self.at, self.end = data, at, end

    def number(self, bytes_max: int = _NUMBER_BYTES_MAX) -> int:
        """Read a zigzag number of at most so many bytes."""
        found = 0
        for place, byte in enumerate(self.data[self.at : min(self.at + bytes_max, self.end)]):
            found |= (byte & 0x7F) << 7 * place
            if byte < 0x80:
                self.at += place + 1
                found &= _UINT64_MAX
                return found >> 1 ^ -(found & 1)
        raise _OddError

    def passed(self, size: int) -> tuple[int, int]:
        """Pass over so many bytes, and return where they are."""
        if not 0 <= size <= self.end - self.at:
            raise _OddError
        self.at += size
        return self.at - size, self.at

    def part(self) -> tuple[int, int]:
        """Read a length and what is so long; a length of -1 stands for none."""
        size = self.number()
        return (NONE, NONE) if size == NONE else self.passed(size)


def unpack_in_python(data: bytes, begin: int, end: int, count: int, headers_max: int) -> Unpacked | None:
    """Return what the library's function does."""
    base, length, _, magic, _, attributes, last, first_ms, greatest_ms, *_, said = _HEADER.unpack_from(
        data, begin
    )
    if (
        (length, magic, said) != (end - begin - _LENGTH_BEFORE, _MAGIC, count)
        or attributes & _COMPRESSION_OR_CONTROL
        or last > _INT32_MAX
        or base > _INT64_MAX - _UINT32_MAX
    ):
        return None
    offsets, timestamps, spans = array("q"), array("q"), array("q")
    place, before = _Place(data, begin + HEADER_BYTES, end), base - 1
    try:
        for _ in range(count):
            delta_ms, delta, parts, headers = _record(place, headers_max)
            headers_max -= headers
            if not before < base + delta <= base + last:
                return None
            before = base + delta
            offsets.append(before)
            is_appended = attributes & _LOG_APPEND_TIME
            timestamps.append(timestamp_of(greatest_ms if is_appended else first_ms + delta_ms))
            spans.extend(parts)
    except _OddError:
        return None
    return (offsets, timestamps, spans) if place.at == end else None


def _record(place: _Place, headers_max: int) -> tuple[int, int, list[int], int]:
    """Return the distances of a record's time and offset, its spans, and how many headers it has."""
    at, end = place.passed(max(place.number(), 1))
    record = _Place(place.data, at + 1, end)
    # The record's own attributes mean nothing so far.
    if place.data[at] >= 0x80:
        raise _OddError
    delta_ms, delta = record.number(_TIMESTAMP_BYTES_MAX), record.number()
    spans = [*record.part(), *record.part()]
    count, found = record.number(), dict.fromkeys(_NAMES, (NONE, NONE))
    if not 0 <= count <= headers_max:
        raise _OddError
    for _ in range(count):
        first, after = record.part()
        if first == NONE:
            raise _OddError
        name, value = place.data[first:after], record.part()
        if name in found:
            found[name] = value
    if record.at != end:
        raise _OddError
    for span in found.values():
        spans += span
    return delta_ms, delta, spans, count


_unpack = load() or unpack_in_python
