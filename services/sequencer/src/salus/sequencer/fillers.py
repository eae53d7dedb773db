"""What stands in a log that was filled again from the ledger where the ledger has no record to put there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pyarrow as pa

from salus.archive.replay import is_filler
from salus.ledger.records import Placed, Records, records_of
from salus.messaging import MissingRecordsError, RestoredRanges, is_restored
from salus.sequencer.domain import Partition
from salus.sequencer.ports import Log, LogReader, SingleLogReader

Place = tuple[str, int, int]
PLACE = ("topic", "partition", "offset")
Spans = Mapping[Partition, tuple[int, int]]
"""By partition, the first offset and the one after the last."""


def is_from_refill(record: Placed, restored: RestoredRanges) -> bool:
    """Tell whether a record is a filler at an offset that network.json says was filled again.

    Anybody may send one that looks like it; above what was filled again it is a record like any other.
    """
    at = record.topic, record.partition
    return is_filler(record) and is_restored(restored, at, record.offset, record.offset + 1)


@asynccontextmanager
async def open_without_fillers(
    log: Log, spans: Spans, block: pa.Table, fillers: set[Place]
) -> AsyncIterator[LogReader]:
    """Open a log where the spans begin, without fillers where a block has no leaf: nobody sent those.

    `fillers` gets the places of its leaves where one was read: each stands for a record that was rejected.
    """
    starts = {at: first for at, (first, _) in spans.items()}
    restored = {at: log.restored[at] for at in spans if at in log.restored}
    if any(begin < spans[at][1] and spans[at][0] < end for at in restored for begin, end in restored[at]):
        # Columns have no header that tells a filler.
        async with log.open_one_by_one(starts) as reader:
            leaves = {*zip(*(block[name].to_pylist() for name in PLACE), strict=True)}
            yield _UnfilledReader(reader, restored, leaves, fillers)
    else:
        async with log.open(starts) as columns:
            yield columns


@dataclass(frozen=True, slots=True)
class _UnfilledReader:
    """A `LogReader` of what `open_without_fillers` says."""

    reader: SingleLogReader
    restored: RestoredRanges
    leaves: Collection[Place]
    fillers: set[Place]

    @property
    def damaged(self) -> Mapping[Partition, int]:
        """Where a batch is damaged, by partition."""
        return self.reader.damaged

    @property
    def missing(self) -> Mapping[Partition, MissingRecordsError]:
        """Where records are gone, by partition."""
        return self.reader.missing

    @property
    def seen_ends(self) -> Mapping[Partition, int]:
        """Where each partition ended at least, as the log said when it last handed out records."""
        return self.reader.seen_ends

    async def positions(self) -> dict[Partition, int]:
        """Return the next offset to be read of each partition."""
        return await self.reader.positions()

    async def beginnings(self) -> dict[Partition, int]:
        """Return the first offset that the log still has of each partition."""
        return await self.reader.beginnings()

    async def ends(self) -> dict[Partition, int]:
        """Return the offset after the last record of each partition."""
        return await self.reader.ends()

    async def poll(self, *, max_records: int, timeout_ms: int) -> list[Records]:
        """Return the next records; none if none came in time, or none but such fillers."""
        found = await self.reader.poll(max_records=max_records, timeout_ms=timeout_ms)
        return records_of(record for record in found if not self._leaves_out(record))

    def _leaves_out(self, record: Placed) -> bool:
        if not is_from_refill(record, self.restored):
            return False
        place = record.topic, record.partition, record.offset
        if place in self.leaves:
            self.fillers.add(place)
        return place not in self.leaves
