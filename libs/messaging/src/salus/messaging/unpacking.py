"""Lets the client library make our records, a whole record batch at once, and check batches in hardware.

It asks for its records one by one, makes each a dataclass of eleven fields, and computes CRC-32C in tables;
for a sequencer that is half of what reading costs. Only consumers that ask for it by a mark are served so:
what they get for each partition is a list of what is in each batch, as `Rows` or as `Records`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from aiokafka import TopicPartition
from aiokafka.consumer import fetcher
from crc32c import crc32c

from salus.ledger.record_batches import unpack_batch
from salus.ledger.records import Records
from salus.messaging.record import Record
from salus.messaging.tolerant import Batch

# Where a batch of format v2 has its checksum, and where what it is over begins.
_CRC = slice(17, 21)
_CHECKED = slice(21, None)


class As(Enum):
    """Marks a consumer, as its `value_deserializer`, by what its messages are to be."""

    ROWS = "Rows"
    COLUMNS = "Records"
    """They have two of the headers and no times."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Records of one partition, one by one; with the offset of each."""

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

    def between(self, first: int, end: int) -> Rows:
        """Return those from the `first` on and before `end`."""
        return Rows(self.topic, self.partition, self.records[first:end], self.offsets[first:end])

    def since(self, offset: int) -> Rows:
        """Return those from this offset on."""
        if self.offsets and min(self.offsets) >= offset:
            return self
        return Rows.of(self.topic, self.partition, [r for r in self.records if r.offset >= offset])


class _Whole:
    """All records of a batch, in the place of its last one."""

    def __init__(self, run: Rows | Records) -> None:
        self.run = run
        self.offset = run.offsets[-1]


class _WholeBatch:
    """A batch that has at most one message: all of it."""

    def __init__(self, batch: Any, tp: TopicPartition, mark: As) -> None:
        self._batch = batch
        self._tp = tp
        self._mark = mark
        # What the library asks of each; the formats before v2 have no producers.
        self.is_control_batch: bool = batch.is_control_batch
        self.is_transactional: bool = batch.is_transactional
        self.producer_id: int | None = batch.producer_id
        self.base_offset: int | None = None if self.producer_id is None else batch.base_offset
        self.next_offset: int = batch.next_offset

    def __next__(self) -> Any:
        return next(self._batch)

    def __iter__(self) -> Iterator[_Whole]:
        run = self._run()
        return iter([_Whole(run)] if run else [])

    def _run(self) -> Rows | Records:
        topic, partition, batch = self._tp.topic, self._tp.partition, self._batch
        if self._mark is As.COLUMNS and isinstance(batch, Batch):
            found = unpack_batch(batch.answer, batch.end - len(batch.raw), batch.end)
            if found is not None:
                offsets, spans = found
                return Records(topic, partition, offsets, batch.answer, spans)
        rows = [
            Record(topic, partition, r.offset, r.timestamp, r.key, r.value, tuple(r.headers)) for r in batch
        ]
        return Rows.of(topic, partition, rows)

    def validate_crc(self) -> bool:
        if not isinstance(self._batch, Batch):
            return bool(self._batch.validate_crc())
        raw = self._batch.raw
        return crc32c(raw[_CHECKED]) == int.from_bytes(raw[_CRC], "big")


class _WholeBatches:
    """The batches of one answer of the broker, each with at most one message."""

    def __init__(self, records: Any, tp: TopicPartition, mark: As) -> None:
        self._records = records
        self._tp = tp
        self._mark = mark

    def has_next(self) -> bool:
        return bool(self._records.has_next())

    def next_batch(self) -> _WholeBatch:
        return _WholeBatch(self._records.next_batch(), self._tp, self._mark)


class Unpacked(fetcher.PartitionRecords):  # type: ignore[misc]  # the library has no types
    """The records of one partition in one answer of the broker."""

    def __init__(self, tp: TopicPartition, records: Any, *others: Any, **named: Any) -> None:
        super().__init__(tp, records, *others, **named)
        self._is_whole = isinstance(self._value_deserializer, As)
        if self._is_whole:
            self._records = _WholeBatches(records, tp, self._value_deserializer)

    def _consumer_record(self, tp: TopicPartition, record: Any) -> Any:
        if not self._is_whole:
            return super()._consumer_record(tp, record)
        # A batch may begin before what was asked for.
        run = record.run.since(self.next_fetch_offset)
        if self._value_deserializer is As.COLUMNS and isinstance(run, Rows):
            return Records.of(run.topic, run.partition, run.records)
        return run


def joined(runs: Sequence[Records]) -> list[Records]:
    """Return the same records in as few `Records` as there are answers that they came in."""
    made: list[Records] = []
    for run in runs:
        if made and made[-1].data is run.data:
            made[-1].offsets.extend(run.offsets)
            made[-1].spans.extend(run.spans)
        else:
            made.append(Records(run.topic, run.partition, run.offsets[:], run.data, run.spans[:]))
    return made


def install() -> None:
    """Make the client library of this process do so."""
    fetcher.PartitionRecords = Unpacked  # the library has no hook for it
