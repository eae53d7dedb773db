"""Makes receipts out of the archive: the leaf's path in its block, the header's path in the log."""

from __future__ import annotations

import asyncio
from array import array
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from salus.archive.blocks import BlockArchive
from salus.archive.check_body import digests
from salus.archive.columns import columns_of_body
from salus.archive.errors import BodyError, DamagedError, MissingError, NoSuchRecordError
from salus.archive.log import LogReader
from salus.ledger.block import Header, Leaf, body_key, header_key
from salus.ledger.checkpoint import Checkpoint
from salus.ledger.errors import BlockError, InclusionError
from salus.ledger.merkle import leaf_hash, levels_of, path_in, verify_inclusion
from salus.ledger.receipt import build_receipt
from salus.ledger.tiles import tiles_for_inclusion

# A cached leaf takes about 300 bytes and its signature header.
LEAVES_CACHED_MAX = 100_000
PATHS_CACHED_MAX = 10_000
# A body takes its own memory several times over while it is decoded, and anybody may ask for any of them.
BLOCKS_AT_ONCE_MAX = 4


@dataclass(frozen=True, slots=True)
class RecordPosition:
    """Where a record stands on its input topic."""

    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class DecodedBlock:
    """A block ready to prove its leaves: its header, its tree, and where each partition's rows are."""

    note: bytes
    header: Header
    levels: list[list[bytes]]
    rows: dict[tuple[str, int], tuple[int, int]]
    offsets: array[int]
    timestamps: array[int]
    statuses: list[str]
    signatures: list[bytes | None]
    digests: list[bytes]

    def find(self, record: RecordPosition) -> int:
        """Return the row of a record.

        Raises:
            NoSuchRecordError: no row has that position.
        """
        start, end = self.rows.get((record.topic, record.partition), (0, 0))
        row = bisect_left(self.offsets, record.offset, start, end)
        if row == end or self.offsets[row] != record.offset:
            raise NoSuchRecordError(topic=record.topic, partition=record.partition, offset=record.offset)
        return row

    def record(self, row: int) -> RecordPosition:
        """Return where the record of a row stands on its topic.

        Raises:
            IndexError: the block has no such row.
        """
        for (topic, partition), (start, end) in self.rows.items():
            if start <= row < end:
                return RecordPosition(topic, partition, self.offsets[row])
        raise IndexError(row)

    def leaf(self, record: RecordPosition, row: int) -> Leaf:
        """Return the leaf of a record in the row that `find` gave."""
        return Leaf(
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            timestamp_ms=self.timestamps[row],
            status=self.statuses[row],
            digest=self.digests[row],
            signature=self.signatures[row],
        )


@dataclass(frozen=True, slots=True)
class Anchored:
    """Where a block stands: its shard and height in the archive, its header's index in the log."""

    shard: int
    height: int
    index: int


class ReceiptMaker:
    """Makes receipts, keeping lately used blocks decoded."""

    def __init__(
        self,
        blocks: BlockArchive,
        log: LogReader,
        *,
        open_note: Callable[[int, bytes], Header],
        leaves_cached_max: int = LEAVES_CACHED_MAX,
    ) -> None:
        self._blocks = blocks
        self._log = log
        self._open_note = open_note
        self._leaves_cached_max = leaves_cached_max
        self._cached: OrderedDict[tuple[int, int], DecodedBlock] = OrderedDict()
        self._paths_of: Checkpoint | None = None
        self._paths: dict[int, list[bytes]] = {}
        self._under_way: dict[tuple[int, int], asyncio.Task[DecodedBlock]] = {}
        self._loading = asyncio.Semaphore(BLOCKS_AT_ONCE_MAX)

    async def receipt(
        self, record: RecordPosition, at: Anchored, *, checkpoint: Checkpoint, checkpoint_note: bytes
    ) -> bytes:
        """Return the receipt of one record, under a published checkpoint that covers its block.

        Raises:
            NoSuchRecordError: no record stands at that offset.
            DamagedError: an object that the receipt needs is not what it should be.
        """
        block = await self.block(at)
        row = block.find(record)
        leaf = block.leaf(record, row).data()
        if leaf_hash(leaf) != block.levels[0][row]:
            key = body_key(at.shard, at.height, block.header.root)
            raise DamagedError(key, f"row {row} does not hash to its leaf hash")
        log_path = await self._log_path(block, at, checkpoint)
        return build_receipt(
            leaf, row, path_in(block.levels, row), block.note, at.index, log_path, checkpoint_note
        )

    async def _log_path(self, block: DecodedBlock, at: Anchored, checkpoint: Checkpoint) -> list[bytes]:
        """Return the header's path in the log, which receipts of one block under one checkpoint share.

        Raises:
            DamagedError: the log does not have exactly this header: nobody is given a receipt that fails.
        """
        if self._paths_of != checkpoint:
            self._paths_of, self._paths = checkpoint, {}
        path = self._paths.get(at.index)
        if path is not None:
            return path
        path = await self._log.inclusion_path(index=at.index, size=checkpoint.size)
        try:
            verify_inclusion(
                leaf=leaf_hash(block.note),
                index=at.index,
                tree_size=checkpoint.size,
                path=path,
                expected_root=checkpoint.root,
            )
        except InclusionError as error:
            # Once the object is repaired, the next receipt is made of that.
            self._cached.pop((at.shard, at.height), None)
            self._log.forget(tiles_for_inclusion(at.index, checkpoint.size))
            key = header_key(at.shard, at.height)
            raise DamagedError(key, "header or tiles are not those that the checkpoint covers") from error
        if self._paths_of == checkpoint and len(self._paths) < PATHS_CACHED_MAX:
            self._paths[at.index] = path
        return path

    async def block(self, at: Anchored) -> DecodedBlock:
        """Return a decoded block; several callers who want the same one wait for one reading.

        Raises:
            DamagedError: header or body are missing or not what the sequencer signed.
        """
        key = (at.shard, at.height)
        cached = self._cached.get(key)
        if cached is not None:
            self._cached.move_to_end(key)
            return cached
        task = self._under_way.get(key)
        if task is None:
            task = self._under_way[key] = asyncio.create_task(self._load(at))
            task.add_done_callback(lambda _: self._under_way.pop(key, None))
        return await asyncio.shield(task)

    async def _load(self, at: Anchored) -> DecodedBlock:
        async with self._loading:
            return await self._read(at)

    async def _read(self, at: Anchored) -> DecodedBlock:
        note = await self._blocks.header(at.shard, at.height)
        if note is None:
            raise MissingError(header_key(at.shard, at.height), "the header is missing")
        try:
            header = self._open_note(at.shard, note)
        except BlockError as error:
            raise DamagedError(header_key(at.shard, at.height), str(error)) from error
        body = await self._blocks.body(at.shard, header)
        block = await asyncio.to_thread(_decode, at.shard, note, header, body)
        self._cached[at.shard, at.height] = block
        while len(self._cached) > 1 and self._leaves_cached > self._leaves_cached_max:
            self._cached.popitem(last=False)
        return block

    @property
    def _leaves_cached(self) -> int:
        return sum(len(block.digests) for block in self._cached.values())


def _decode(shard: int, note: bytes, header: Header, body: bytes) -> DecodedBlock:
    """Decode a body and check its root; the values are hashed and let go."""
    key = body_key(shard, header.height, header.root)
    names = [
        "topic",
        "partition",
        "offset",
        "timestamp",
        "status",
        "leaf_hash",
        "digest",
        "signature",
        "value",
    ]
    try:
        columns = columns_of_body(body, names=names)
    except BodyError as error:
        raise DamagedError(key, str(error)) from error
    rows = len(columns["topic"])
    levels = levels_of(columns["leaf_hash"]) if rows else [[]]
    if rows != header.leaves or (header.leaves and levels[-1][0] != header.root):
        raise DamagedError(key, "the leaf hashes do not lead to the root in the header")
    return DecodedBlock(
        note=note,
        header=header,
        levels=levels,
        rows=_spans(columns["topic"], columns["partition"]),
        offsets=array("q", columns["offset"]),
        timestamps=array("q", columns["timestamp"]),
        statuses=columns["status"],
        signatures=columns["signature"],
        digests=digests(columns),
    )


def _spans(topics: list[str], partitions: list[int]) -> dict[tuple[str, int], tuple[int, int]]:
    """Return first row and end of each partition's rows; rows of a partition stand together."""
    spans: dict[tuple[str, int], tuple[int, int]] = {}
    start = 0
    for row in range(1, len(topics) + 1):
        if row == len(topics) or topics[row] != topics[start] or partitions[row] != partitions[start]:
            spans[topics[start], partitions[start]] = (start, row)
            start = row
    return spans
