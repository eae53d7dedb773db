"""Lets the client library make our records, a whole record batch at once.

It asks for its records one by one, makes each a dataclass of eleven fields, and computes CRC-32C in tables;
for a sequencer that is half of what reading costs. Only consumers that ask for it by a mark are served so:
what they get for each partition is a list of what is in each batch, as `Rows` or as `Records`, with what
keeps all of it from being accepted; or `Corrupt`, and nothing after that.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property
from struct import error as StructError  # noqa: N812  # it is a class
from typing import Any, NamedTuple

import msgspec
from aiokafka import TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.errors import KafkaError

from salus.ledger.record_batches import unpack_batch
from salus.ledger.records import Flaw, Records
from salus.messaging.record import NOTHING_RESTORED, Record, RestoredRanges, is_restored
from salus.messaging.tolerant import Batch


class As(Enum):
    """What the messages of a consumer are to be."""

    ROWS = "Rows"
    COLUMNS = "Records"
    """They have two of the headers."""


class Mark(NamedTuple):
    """Marks a consumer, as its `value_deserializer`."""

    form: As
    restored: RestoredRanges = NOTHING_RESTORED


# Measured, about: what the objects of a record and of a header take beside their bytes.
_RECORD_OBJECT_BYTES, _HEADER_OBJECT_BYTES = 270, 140


@dataclass(frozen=True)
class Rows:
    """Records of one partition, one by one, in the order of their offsets; with the offset of each."""

    topic: str
    partition: int
    records: Sequence[Record]
    offsets: Sequence[int]

    @classmethod
    def of(cls, topic: str, partition: int, records: Sequence[Record]) -> Rows:
        """Return these records."""
        return cls(topic, partition, records, [record.offset for record in records])

    def __len__(self) -> int:
        return len(self.records)

    @property
    def data(self) -> bytes:
        """Nothing: each record has bytes of its own."""
        return b""

    @cached_property
    def own_bytes(self) -> int:
        """How much memory the records take, about; they do not change, and it is asked for twice."""
        size = _RECORD_OBJECT_BYTES * len(self.records)
        for record in self.records:
            size += len(record.key or b"") + len(record.value or b"")
            for _, value in record.headers:
                size += _HEADER_OBJECT_BYTES + len(value or b"")
        return size

    def between(self, first: int, end: int) -> Rows:
        """Return those from the `first` on and before `end`."""
        return Rows(self.topic, self.partition, self.records[first:end], self.offsets[first:end])

    def since(self, offset: int) -> Rows:
        """Return those from this offset on."""
        first = bisect_left(self.offsets, offset)
        return self if first == 0 else self.between(first, len(self))


@dataclass(frozen=True, slots=True)
class Corrupt:
    """In the place of a batch whose checksum is wrong, or whose offsets cannot be those it has in the log."""

    topic: str
    partition: int
    offset: int
    """The first one that was asked for and did not come."""


@dataclass(frozen=True, slots=True)
class Missing:
    """In the place of records that were there: the partition gave offsets that no record and no marker has.

    The broker takes no batch with fewer records than offsets, and leaves none out between two: so somebody
    had them removed, by compaction or by hand.
    """

    topic: str
    partition: int
    first: int
    end: int


class Unpacked(fetcher.PartitionRecords):  # type: ignore[misc]  # the library has no types
    """The records of one partition in one answer of the broker.

    For marked consumers nothing here raises but MemoryError: what the library has handed out of other
    partitions in the same moment would be lost, and their positions would be past it.
    """

    next_fetch_offset: int

    def _unpack_records(self) -> Iterator[Any]:
        mark = self._value_deserializer
        return self._runs(mark) if isinstance(mark, Mark) else super()._unpack_records()

    def _runs(self, mark: Mark) -> Iterator[Rows | Records | Missing | Corrupt]:
        tp = self._tp
        while self._records.has_next():
            batch = _intact(self._records)
            # A batch that ends before what was asked for has not the offsets that it says.
            if batch is None or batch.next_offset <= self.next_fetch_offset:
                yield Corrupt(tp.topic, tp.partition, self.next_fetch_offset)
                return
            # Control batches, which end transactions, hold no records of anybody.
            run = None if batch.is_control_batch else _run(batch, tp, mark, self.next_fetch_offset)
            yield from _missing(batch, run, tp, self.next_fetch_offset)
            self.next_fetch_offset = max(self.next_fetch_offset, batch.next_offset)
            if run:
                yield run


def _intact(records: Any) -> Batch | None:
    """Return the next batch; None if its checksum is wrong, or what it says of its offsets."""
    try:
        batch: Batch = records.next_batch()
        return batch if batch.has_right_checksum() and batch.has_offsets else None
    except (KafkaError, AssertionError, ValueError, IndexError, StructError):
        return None


def _run(batch: Batch, at: TopicPartition, mark: Mark, first: int) -> Rows | Records:
    """Return what is in a batch from the offset `first` on; it may begin before what was asked for."""
    is_wide, is_dated = mark.form is As.COLUMNS, _is_dated(batch, at, mark.restored)
    flaw = None if is_dated else Flaw.CREATE_TIME
    if batch.is_transactional:
        flaw = Flaw.TRANSACTIONAL
    try:
        run = _columns(batch, at, flaw, first) if is_wide else _rows(batch, at, flaw).since(first)
    except MemoryError:
        raise
    # Whatever the libraries of the codecs raise: the checksum is right, so a second look would not help.
    except Exception:  # noqa: BLE001  # as above
        rows = _unreadable(batch, at)
        return _as_columns(rows, Flaw.UNREADABLE) if is_wide else rows
    return run if is_dated else _undated(run)


def _missing(batch: Batch, run: Rows | Records | None, at: TopicPartition, asked: int) -> Iterator[Missing]:
    """Yield what is missing before a batch and in it, from the offset on that was asked for.

    Of the formats before v2 only the last offset of a batch is certain, and no broker of today writes them.
    """
    if not batch.is_v2:
        return
    if batch.base_offset > asked:
        yield Missing(at.topic, at.partition, asked, batch.base_offset)
    first, end = max(asked, batch.base_offset), batch.next_offset
    if run is not None and len(run) < end - first and not _is_unreadable(run):
        yield Missing(at.topic, at.partition, first, end)


def _is_unreadable(run: Rows | Records) -> bool:
    """Tell whether one record stands for all of the batch."""
    if isinstance(run, Records):
        return run.flaw is Flaw.UNREADABLE
    return any(record.flaw is Flaw.UNREADABLE for record in run.records)


def _is_dated(batch: Batch, at: TopicPartition, restored: RestoredRanges) -> bool:
    """Tell whether the time of its records is when a broker appended them, this one or the one before it."""
    if batch.is_dated_by_broker:
        return True
    first = batch.base_offset if batch.is_v2 else batch.next_offset - 1
    return is_restored(restored, (at.topic, at.partition), first, batch.next_offset)


def _undated(run: Rows | Records) -> Rows | Records:
    """Return the same records without the time that their sender made up: it is nobody's evidence."""
    if isinstance(run, Records):
        return replace(run, timestamps=array("q", bytes(run.timestamps.itemsize * len(run))))
    records = [msgspec.structs.replace(record, timestamp_ms=0) for record in run.records]
    return Rows.of(run.topic, run.partition, records)


def _columns(batch: Batch, at: TopicPartition, flaw: Flaw | None, first: int) -> Records:
    if batch.is_v2:
        data, begin, end = batch.plain()
        found = unpack_batch(data, begin, end)
        if found is None:
            return _as_columns(_unreadable(batch, at), Flaw.UNREADABLE)
        offsets, timestamps, spans = found
        return Records(at.topic, at.partition, offsets, timestamps, data, spans, flaw).since(first)
    return _as_columns(_rows(batch, at, flaw).since(first), flaw)


def _as_columns(rows: Rows, flaw: Flaw | None) -> Records:
    return Records.of(rows.topic, rows.partition, rows.records, flaw=flaw)


def _rows(batch: Batch, at: TopicPartition, flaw: Flaw | None) -> Rows:
    topic, partition = at.topic, at.partition
    rows = [
        Record(topic, partition, r.offset, r.timestamp or 0, r.key, r.value, tuple(r.headers), flaw)
        for r in batch.records()
    ]
    return Rows.of(topic, partition, rows)


def _unreadable(batch: Batch, at: TopicPartition) -> Rows:
    """Return one record for all that is in the batch: at its last offset, which no reader begins after."""
    offset, value = batch.next_offset - 1, bytes(batch.checked)
    row = Record(at.topic, at.partition, offset, 0, None, value, (), Flaw.UNREADABLE)
    return Rows.of(at.topic, at.partition, [row])


def joined(runs: Sequence[Records]) -> list[Records]:
    """Return the same records in as few `Records` as there are answers that they came in.

    The runs are used up: of those that are put together the first one takes what the others have.
    """
    made: list[Records] = []
    for run in runs:
        if made and made[-1].data is run.data and made[-1].flaw is run.flaw:
            made[-1].offsets.extend(run.offsets)
            made[-1].timestamps.extend(run.timestamps)
            made[-1].spans.extend(run.spans)
        else:
            made.append(run)
    return made


def install() -> None:
    """Make the client library of this process do so."""
    fetcher.PartitionRecords = Unpacked  # the library has no hook for it
