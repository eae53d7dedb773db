"""Reads every record of the ledger again, in the order of its partitions, to fill a Kafka that lost them.

Blocks of several shards are put into an order in which each partition's ranges follow one another, so that
whoever appends what comes out gets every offset in turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass

from salus.archive.blocks import BlockArchive
from salus.archive.body import ACCEPTED
from salus.archive.check_body import digests
from salus.archive.columns import columns_of_body
from salus.archive.errors import ArchiveError, DamagedError
from salus.archive.log import LogReader
from salus.archive.trust import Trust
from salus.ledger.block import Header, check_succession, header_key, open_header, parse_block_origin
from salus.ledger.checkpoint import Checkpoint
from salus.ledger.errors import BlockError
from salus.ledger.key_periods import Keys, chain_end, is_void
from salus.ledger.merkle import leaf_hash
from salus.ledger.records import Found, timestamp_at
from salus.ledger.tiles import CompactRange
from salus.objects import ObjectStore

HEADERS_AT_ONCE = 64
# Bodies read ahead while one is being used; each may take tens of megabytes.
BODIES_AHEAD = 3

# Of a record that was put where one without a value stood, or none, when a topic was filled again: why.
RESTORED_HEADER = "salus-restored"

Partition = tuple[str, int]


def is_filler(found: Found) -> bool:
    """Tell whether a record stands for one that was rejected, or for none, if its offset was filled again.

    Anybody may send one that looks like it: whether the offset was, network.json says (`restored`).
    """
    return found.value is None and found.header(RESTORED_HEADER) is not None


class ReplayError(ArchiveError):
    """The archive does not hold all that the checkpoint covers, or not in one order."""

    code = "replay-impossible"


@dataclass(frozen=True, slots=True)
class SealedRecord:
    """One leaf as a record: of a rejected one, and of an offset without a leaf, the value is gone.

    `digest` is None where no leaf stands at the offset. `timestamp_ms` is when the broker appended it, in
    milliseconds since 1970 UTC; where no leaf stands, when its block was sealed.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    subject: str | None = None
    value: bytes | None = None
    signature: bytes | None = None
    status: str = ""
    digest: bytes | None = None


@dataclass(frozen=True, slots=True)
class SealedBlock:
    """A block whose header and body are as signed."""

    shard: int
    header: Header
    body: bytes

    def records(self) -> list[SealedRecord]:
        """Return a record for every offset of the block's ranges, partition by partition in their order."""
        columns = columns_of_body(self.body)
        places = zip(columns["topic"], columns["partition"], columns["offset"], strict=True)
        rows = {place: row for row, place in enumerate(places)}
        hashes = digests(columns)
        found, sealed_ms = [], timestamp_at(self.header.time)
        for r in self.header.ranges:
            for offset in range(r.first, r.next):
                row = rows.get((r.topic, r.partition, offset))
                at = r.topic, r.partition, offset
                if row is None:
                    found.append(SealedRecord(*at, sealed_ms))
                    continue
                accepted = columns["status"][row] == ACCEPTED
                found.append(
                    SealedRecord(
                        *at,
                        columns["timestamp"][row],
                        subject=columns["subject"][row],
                        value=columns["value"][row],
                        signature=columns["signature"][row] if accepted else None,
                        status=columns["status"][row],
                        digest=hashes[row],
                    )
                )
        return found


async def logged_headers(log: LogReader, checkpoint: Checkpoint, trust: Trust) -> set[bytes]:
    """Return the leaf hashes of all headers under a checkpoint whose signature the caller has verified.

    What lies behind the end of a chain is none, though the log has it.

    Raises:
        DamagedError: the entries cannot be read, or do not lead to the checkpoint's root.
    """
    tree, found = CompactRange(), set[bytes]()
    shards = {keys.name: keys for keys in trust.shards.values()}
    async for entry in log.entries(0, checkpoint.size):
        tree.extend([leaf_hash(entry)])
        if not _is_void(entry, shards):
            found.add(leaf_hash(entry))
    if checkpoint.size and tree.root() != checkpoint.root:
        raise DamagedError("checkpoint", "the log's entries do not lead to the signed root")
    return found


def _is_void(entry: bytes, shards: Mapping[str, Keys]) -> bool:
    try:
        origin, height = parse_block_origin(entry.partition(b"\n")[0].decode())
    except ValueError:
        return False
    return origin in shards and is_void(shards[origin], height)


async def replay(ledger: ObjectStore, trust: Trust, logged: set[bytes]) -> AsyncGenerator[SealedBlock, None]:
    """Yield every block of every shard; `logged` are the headers that the checkpoint covers.

    Raises:
        ArchiveError: an object is missing or not as signed, a header under the checkpoint is not in the
            archive, or the ranges do not continue one another. Nothing may be concluded then.
    """
    chains = {shard: _Chain(ledger, shard, verifier) for shard, verifier in trust.shards.items()}
    reached: dict[Partition, int] = {}
    missing = set(logged)
    try:
        while due := [(shard, tip) for shard, chain in chains.items() if (tip := await chain.peek())]:
            shard, tip = _next_of(due, reached)
            reached |= {(r.topic, r.partition): r.next for r in tip[0].ranges if r.first < r.next}
            missing.discard(leaf_hash(tip[1]))
            yield SealedBlock(shard, tip[0], await chains[shard].take())
    finally:
        for chain in chains.values():
            chain.close()
    if missing:
        raise ReplayError(f"{len(missing)} headers under the checkpoint are not in the archive")


def _next_of(
    due: Sequence[tuple[int, tuple[Header, bytes]]], reached: Mapping[Partition, int]
) -> tuple[int, tuple[Header, bytes]]:
    """Return the first block that goes on where every partition stands."""
    for shard, tip in due:
        if all(r.first == reached.get((r.topic, r.partition), 0) for r in tip[0].ranges if r.first < r.next):
            return shard, tip
    places = ", ".join(f"{header.origin} {header.height}" for _, (header, _) in due)
    raise ReplayError(f"the ranges of none of these blocks go on where the partitions stand: {places}")


class _Chain:
    """One shard's blocks in order, read ahead a little, each checked against the one before."""

    def __init__(self, ledger: ObjectStore, shard: int, verifier: Keys) -> None:
        self._archive = BlockArchive(ledger)
        self._shard = shard
        self._verifier = verifier
        self._before: tuple[Header, bytes] | None = None
        self._tips: list[tuple[Header, bytes]] = []
        self._bodies: dict[int, asyncio.Task[bytes]] = {}

    async def peek(self) -> tuple[Header, bytes] | None:
        """Return the next header and its note, None at the end of the chain."""
        if not self._tips:
            height = self._before[0].height + 1 if self._before else 0
            before, end = self._before, chain_end(self._verifier)
            limit = HEADERS_AT_ONCE if end is None else min(HEADERS_AT_ONCE, end - height)
            for note in await self._archive.headers_from(self._shard, height, limit=limit):
                before = self._opened(note, height + len(self._tips), before)
                self._tips.append(before)
        return self._tips[0] if self._tips else None

    async def take(self) -> bytes:
        """Return the body of the header that `peek` showed, and go on after it."""
        for header, _ in self._tips[: BODIES_AHEAD + 1]:
            if header.height not in self._bodies:
                body = self._archive.body(self._shard, header)
                self._bodies[header.height] = asyncio.ensure_future(body)
        self._before = self._tips.pop(0)
        return await self._bodies.pop(self._before[0].height)

    def close(self) -> None:
        """Read no further."""
        for task in self._bodies.values():
            task.cancel()

    def _opened(self, note: bytes, height: int, before: tuple[Header, bytes] | None) -> tuple[Header, bytes]:
        try:
            header = open_header(note, self._verifier)
            check_succession(before, header)
        except BlockError as error:
            raise DamagedError(header_key(self._shard, height), str(error)) from error
        return header, note
