"""Whether the log is still the one that was sealed: offsets of another log would mean other records."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass

from salus.archive.body import ACCEPTED
from salus.ledger.block import NO_DIGEST, Header
from salus.ledger.merkle import leaf_hash
from salus.ledger.records import Placed, timestamp_at, timestamp_of
from salus.messaging import RestoredRanges
from salus.sequencer.domain import Partition, Tip
from salus.sequencer.errors import LogReplacedError, SealedRecordGoneError
from salus.sequencer.fillers import is_from_refill
from salus.sequencer.ports import Archive, Log
from salus.sequencer.restoring import Shard, read_rows, read_tip

# How far back the last leaf of a partition is looked for; one that was idle for longer is not compared.
BLOCKS_BACK_MAX = 16
POLL_MS = 200
# Each takes as much memory as the largest record batch, twice.
PARTITIONS_AT_ONCE = 2
_COLUMNS = ("topic", "partition", "offset", "timestamp", "status", "digest", "value")


@dataclass(frozen=True, slots=True)
class LastLeaf:
    """The last leaf of a partition among the last blocks."""

    offset: int
    timestamp_ms: int
    accepted: bool
    digest: bytes


async def require_same_log(
    archive: Archive, shard: Shard, tip: Tip | None, log: Log, *, without: Collection[int] = ()
) -> None:
    """Raise unless the last sealed record of each partition stands where it stood.

    Blocks of the heights `without` say nothing, for they are forged.

    A topic that was created anew and has grown beyond what is sealed looks like the old one by its offsets.
    What retention removed is not compared, nor what is damaged, nor a topic that ends before, of which
    `require_nothing_lost` tells.

    Raises:
        LogReplacedError: another record stands there; SealedRecordGoneError: none does.
        ArchiveDamagedError: a block cannot be read.
    """
    leaves = await last_leaves(archive, shard, tip, without=without)
    places = asyncio.Semaphore(PARTITIONS_AT_ONCE)

    async def look_in_turn(at: Partition, leaf: LastLeaf) -> type[LogReplacedError] | None:
        async with places:
            return await _objection(log, at, leaf)

    found = await asyncio.gather(*(look_in_turn(at, leaf) for at, leaf in leaves.items()))
    for (topic, partition), leaf, objection in zip(leaves, leaves.values(), found, strict=True):
        if objection is not None:
            raise objection(topic=topic, partition=partition, offset=leaf.offset)


async def last_leaves(
    archive: Archive, shard: Shard, tip: Tip | None, *, without: Collection[int] = ()
) -> dict[Partition, LastLeaf]:
    """Return the last leaf of each partition that the last blocks have any of."""
    found: dict[Partition, LastLeaf] = {}
    for _ in range(BLOCKS_BACK_MAX):
        if tip is None:
            break
        header = tip.header
        seals = any((r.topic, r.partition) not in found and r.first < r.next for r in header.ranges)
        if seals and header.height not in without:
            found = await _leaves_of(archive, shard, header) | found
        tip = await read_tip(archive, shard, header.height - 1) if header.height else None
    return found


async def _leaves_of(archive: Archive, shard: Shard, header: Header) -> dict[Partition, LastLeaf]:
    table = await read_rows(archive, shard, header, _COLUMNS)
    every = zip(table["topic"].to_pylist(), table["partition"].to_pylist(), strict=True)
    last = {at: row for row, at in enumerate(every)}
    rows = table.take(list(last.values()))
    return {
        at: LastLeaf(
            row["offset"],
            timestamp_at(row["timestamp"]),
            row["status"] == ACCEPTED,
            row["digest"] if row["value"] is None else leaf_hash(row["value"]),
        )
        for at, row in zip(last, rows.to_pylist(), strict=True)
    }


async def _objection(log: Log, at: Partition, leaf: LastLeaf) -> type[LogReplacedError] | None:
    async with log.open_one_by_one({at: leaf.offset}) as reader:
        beginnings, ends = await reader.beginnings(), await reader.ends()
        if beginnings[at] > leaf.offset or ends[at] <= leaf.offset:
            return None
        while True:
            polled = await reader.poll(max_records=1, timeout_ms=POLL_MS)
            if polled and polled[0].offset == leaf.offset:
                return None if _is_same(polled[0], leaf, log.restored) else LogReplacedError
            if (await reader.positions())[at] > leaf.offset:
                gap = reader.missing.get(at)
                is_gone = gap is not None and gap.first <= leaf.offset < gap.end
                return SealedRecordGoneError if is_gone else LogReplacedError
            if reader.damaged:
                return None


def _is_same(record: Placed, leaf: LastLeaf, restored: RestoredRanges) -> bool:
    if timestamp_of(record.timestamp_ms) != leaf.timestamp_ms:
        # The ledger judged by another moment than whoever folds this topic would.
        return False
    if not leaf.accepted and is_from_refill(record, restored):
        return True
    digest = NO_DIGEST if record.value is None else leaf_hash(record.value)
    return digest == leaf.digest
