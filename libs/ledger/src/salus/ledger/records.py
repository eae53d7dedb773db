"""Records of a log as columns: spans into the bytes as they came, and no object for each.

`native/records.c` puts the cells of a column together; without it Python does the same, cell by cell.
"""

from __future__ import annotations

import ctypes
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import IntEnum, StrEnum
from functools import lru_cache
from itertools import accumulate, groupby
from typing import NamedTuple, Protocol, cast

from salus.ledger.hashing import ASTRAY, LIBRARY

# The numbers change with the arguments, as in `hashing`.
FUNCTIONS = ("salus_place_cells_1", "salus_copy_cells_1", "salus_cell_bytes_1")
SIGNATURE_HEADER = "salus-signature"
TRACE_HEADER = "traceparent"
"""W3C Trace Context, as the client library sends it."""
HEADERS = (SIGNATURE_HEADER, TRACE_HEADER)
NONE = -1
TIMESTAMP_MS_MAX = 253_402_214_400_000
"""9999-12-31T00:00:00Z, the last day that every calendar knows."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
UNBOUNDED = (1 << 63) - 1


class Part(IntEnum):
    """Which part of a record a span is of."""

    KEY = 0
    VALUE = 1
    SIGNATURE = 2
    TRACE = 3


STRIDE = 2 * len(Part)
"""How many numbers the spans of a record are."""


class Flaw(StrEnum):
    """Why no record of a record batch can be accepted, whatever is in it; the names are those of reasons."""

    UNREADABLE = "unreadable"
    """Nobody can tell its records: they are one record, whose value is what the batch's checksum is over."""
    TRANSACTIONAL = "transactional"
    """Its records belong to a Kafka transaction."""
    CREATE_TIME = "create-time"
    """Its sender dated it (Kafka's CreateTime), so nobody knows when it was appended."""


def timestamp_of(said_ms: int) -> int:
    """Return the time of a record in milliseconds since 1970 UTC, as readers take what Kafka says of it.

    It says -1 where there is none. Of a batch that its sender dated readers take 0, see `Flaw.CREATE_TIME`.
    """
    return min(max(said_ms, 0), TIMESTAMP_MS_MAX)


# Records that are appended together have the same time.
@lru_cache(maxsize=256)
def appended_at(said_ms: int) -> datetime:
    """Return when the broker appended a record, by what Kafka says: the moment by which it is judged."""
    return _EPOCH + timedelta(milliseconds=timestamp_of(said_ms))


def timestamp_at(appended: datetime) -> int:
    """Return the whole milliseconds since 1970 UTC of a moment: what `appended_at` was made of."""
    return (appended - _EPOCH) // timedelta(milliseconds=1)


class Found(Protocol):
    """A record by itself."""

    @property
    def offset(self) -> int: ...  # noqa: D102  # plain data
    @property
    def timestamp_ms(self) -> int: ...  # noqa: D102
    @property
    def key(self) -> bytes | None: ...  # noqa: D102
    @property
    def value(self) -> bytes | None: ...  # noqa: D102
    def header(self, name: str) -> bytes | None:
        """Return the last header of that name."""


class Placed(Found, Protocol):
    """A record by itself that says where it was found."""

    @property
    def topic(self) -> str: ...  # noqa: D102  # plain data
    @property
    def partition(self) -> int: ...  # noqa: D102
    @property
    def flaw(self) -> Flaw | None: ...  # noqa: D102


class Unkept(NamedTuple):
    """What is known of a value that is too large to be kept: its length and RFC 6962 leaf hash."""

    size: int
    digest: bytes


class Row(NamedTuple):
    """One of `Records`, by itself; if its value is not kept, `value` is empty and `unkept` tells of it."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    signature: bytes | None
    trace: bytes | None = None
    flaw: Flaw | None = None
    unkept: Unkept | None = None

    def header(self, name: str) -> bytes | None:
        """Return the header of that name, if it is one of `HEADERS`."""
        return {SIGNATURE_HEADER: self.signature, TRACE_HEADER: self.trace}.get(name)


@dataclass(frozen=True, slots=True)
class Cells:
    """The cells of a column, joined.

    `places` (type code Q) says where each begins and the last one ends. `valid` has a bit for each, from the
    lowest of the first byte on as in Apache Arrow, which is not set where there is none; None: all are there.
    """

    data: bytes
    places: array[int]
    valid: bytes | None = None

    def __len__(self) -> int:
        return len(self.places) - 1

    def __getitem__(self, row: int) -> bytes | None:
        """Return the cell of a row, which is not counted from the end; None if there is none."""
        if self.valid is not None and not self.valid[row >> 3] >> (row & 7) & 1:
            return None
        return self.data[self.places[row] : self.places[row + 1]]

    def __iter__(self) -> Iterator[bytes | None]:
        return (self[row] for row in range(len(self)))


@dataclass(frozen=True, slots=True)
class Records:
    """Records of one partition, in the order of their offsets, all with the same flaw if any has one.

    `offsets` (type code q) ascend, and `timestamps` (type code q) are what `timestamp_of` gives for each.
    `spans` (type code q) are `STRIDE` numbers for each record: where each `Part` begins and ends in `data`,
    or twice `NONE` where it has none. `unkept` tells of values that are not in `data`, by offset; their spans
    are empty.
    """

    topic: str
    partition: int
    offsets: array[int]
    timestamps: array[int]
    data: bytes
    spans: array[int]
    flaw: Flaw | None = None
    unkept: Mapping[int, Unkept] | None = None

    @classmethod
    def of(cls, topic: str, partition: int, records: Iterable[Found], *, flaw: Flaw | None = None) -> Records:
        """Return records that were read one by one."""
        offsets, timestamps, spans, parts, size = array("q"), array("q"), array("q"), [], 0
        for record in records:
            offsets.append(record.offset)
            timestamps.append(timestamp_of(record.timestamp_ms))
            for part in (record.key, record.value, *map(record.header, HEADERS)):
                spans.extend((NONE, NONE) if part is None else (size, size + len(part)))
                if part is not None:
                    parts.append(part)
                    size += len(part)
        return cls(topic, partition, offsets, timestamps, b"".join(parts), spans, flaw)

    def __len__(self) -> int:
        return len(self.offsets)

    def __getitem__(self, row: int) -> Row:
        """Return one record, which is not counted from the end."""
        spans = self.spans[row * STRIDE : (row + 1) * STRIDE]
        key, value, signature, trace = [
            None if start == NONE else self.data[start:end]
            for start, end in zip(spans[::2], spans[1::2], strict=True)
        ]
        offset = self.offsets[row]
        unkept = self.unkept.get(offset) if self.unkept else None
        place = self.topic, self.partition, offset, self.timestamps[row]
        return Row(*place, key, value, signature, trace, self.flaw, unkept)

    def __iter__(self) -> Iterator[Row]:
        return (self[row] for row in range(len(self)))

    @property
    def own_bytes(self) -> int:
        """How much memory the columns take beside `data`, which others may share."""
        return sum(column.itemsize * len(column) for column in (self.offsets, self.timestamps, self.spans))

    def between(self, first: int, end: int) -> Records:
        """Return the rows from `first` on and before `end`."""
        return replace(
            self,
            offsets=self.offsets[first:end],
            timestamps=self.timestamps[first:end],
            spans=self.spans[first * STRIDE : end * STRIDE],
        )

    def since(self, offset: int) -> Records:
        """Return those from this offset on."""
        first = bisect_left(self.offsets, offset)
        return self if first == 0 else self.between(first, len(self))

    def bytes_of(self, part: Part) -> int:
        """Return how many bytes they have of a part."""
        if _library is not None:
            return _library.cell_bytes(self.spans, part)
        at = 2 * part
        return sum(self.spans[at + 1 :: STRIDE]) - sum(self.spans[at::STRIDE])


def records_of(rows: Iterable[Placed]) -> list[Records]:
    """Return single records in their order, those of a partition and flaw that follow each other together."""
    runs = groupby(rows, key=lambda row: (row.topic, row.partition, row.flaw))
    return [Records.of(topic, partition, run, flaw=flaw) for (topic, partition, flaw), run in runs]


def rows_at(parts: Sequence[Records], rows: Iterable[int]) -> Iterator[tuple[int, Row]]:
    """Yield rows and their records, counted through all parts."""
    ends = [*accumulate(map(len, parts))]
    for row in rows:
        part = bisect_right(ends, row)
        yield row, parts[part][row - ends[part] + len(parts[part])]


class _Source(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_char_p),
        ("size", ctypes.c_uint64),
        ("spans", ctypes.c_void_p),
        ("rows", ctypes.c_uint64),
    )


Spans = tuple[bytes, "array[int]"]
"""Bytes, and the spans of cells in them (type code q or Q), some numbers for each row."""


def gather(sources: Sequence[Spans], part: int, *, stride: int = STRIDE, size_max: int = UNBOUNDED) -> Cells:
    """Return one part of the rows of all sources as a column; what has more than `size_max` bytes is empty.

    Raises:
        ValueError: spans that go backwards or beyond their bytes.
    """
    if _library is None:
        return cells_of(_parts(sources, part, stride, size_max))
    return _library.gather(sources, part, stride, size_max)


def cells_of(parts: Iterable[bytes | None]) -> Cells:
    """Return cells as a column."""
    cells = list(parts)
    if None not in cells:
        whole = cast("list[bytes]", cells)
        return Cells(b"".join(whole), array("Q", accumulate(map(len, whole), initial=0)), None)
    places = array("Q", accumulate((len(cell or b"") for cell in cells), initial=0))
    valid = bytearray((len(cells) + 7) // 8)
    for row, cell in enumerate(cells):
        valid[row >> 3] |= (cell is not None) << (row & 7)
    return Cells(b"".join(cell or b"" for cell in cells), places, bytes(valid))


def _parts(sources: Sequence[Spans], part: int, stride: int, size_max: int) -> Iterator[bytes | None]:
    for data, spans in sources:
        pairs = zip(spans[2 * part :: stride], spans[2 * part + 1 :: stride], strict=True)
        for start, end in pairs:
            if start < 0:
                yield None
            elif not start <= end <= len(data):
                raise ValueError(ASTRAY)
            else:
                yield data[start:end] if end - start <= size_max else b""


def unwritten(size: int) -> bytes:
    """Return bytes that nobody has written yet: whoever asked fills them before anybody else sees them."""
    # The interpreter's documented way to make bytes in place (Python/C API, `PyBytes_FromStringAndSize`).
    made: bytes = _unwritten(None, size)
    return made


_unwritten = ctypes.pythonapi.PyBytes_FromStringAndSize
_unwritten.restype = ctypes.py_object
_unwritten.argtypes = [ctypes.c_void_p, ctypes.c_ssize_t]


class Library:
    """The compiled functions; they release the interpreter lock while they run."""

    def __init__(self, path: str = LIBRARY) -> None:
        """Raise OSError or AttributeError if the library is not there or not of this version."""
        library = ctypes.CDLL(path)
        address, count = ctypes.c_void_p, ctypes.c_uint64
        self._place, self._copy, self._bytes = (library[name] for name in FUNCTIONS)
        self._place.argtypes = [address, count, count, count, address, address]
        self._place.restype = ctypes.c_int64
        self._copy.argtypes = [address, count, count, address, ctypes.c_char_p]
        self._bytes.argtypes = [address, count, count]
        self._bytes.restype = ctypes.c_int64

    def gather(self, sources: Sequence[Spans], part: int, stride: int, size_max: int) -> Cells:
        """Return what `gather` does."""
        rows = [len(spans) // stride for _, spans in sources]
        held = (_Source * len(sources))(
            *(
                _Source(data, len(data), spans.buffer_info()[0] + 2 * part * spans.itemsize, count)
                for (data, spans), count in zip(sources, rows, strict=True)
            )
        )
        places, valid = array("Q", bytes(8 * (sum(rows) + 1))), array("B", bytes((sum(rows) + 7) // 8))
        where = held, len(sources), stride
        missing = self._place(*where, size_max, places.buffer_info()[0], valid.buffer_info()[0])
        if missing < 0:
            raise ValueError(ASTRAY)
        data = unwritten(places[-1])
        self._copy(*where, places.buffer_info()[0], data)
        return Cells(data, places, valid.tobytes() if missing else None)

    def cell_bytes(self, spans: array[int], part: int) -> int:
        """Return how many bytes the cells of a part have together."""
        first = spans.buffer_info()[0] + 2 * part * spans.itemsize
        bytes_there: int = self._bytes(first, len(spans) // STRIDE, STRIDE)
        return bytes_there


def load(path: str = LIBRARY) -> Library | None:
    """Return the library; None if it is not there."""
    try:
        return Library(path)
    except (OSError, AttributeError):
        return None


_library = load()
