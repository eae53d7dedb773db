"""Anchoring: append every new block header to the log, and publish a checkpoint.

The order of the writes is the whole safety: swap the head, which brings the new entries along, put the tiles
and bundles in place that follow from them, publish the checkpoint. The swap is the commit point. Whatever
happens, the next step is `stand`: load the head, finish what its writer may have left undone, go on.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from types import MappingProxyType

import msgspec
import structlog

from salus.anchoring import domain
from salus.anchoring.domain import Append, Block, Edge
from salus.anchoring.index import BlockIndex
from salus.anchoring.log_bucket import LogBucket
from salus.archive.blocks import BlockArchive
from salus.archive.errors import DamagedError, HeadError
from salus.archive.head import HEAD_BYTES_MAX, Head
from salus.archive.log import LogReader
from salus.ledger.base import base64_of
from salus.ledger.block import Header, open_header, parse_block_origin
from salus.ledger.checkpoint import Checkpoint, parse_checkpoint
from salus.ledger.errors import BlockError, LedgerError
from salus.ledger.key_periods import Keys, chain_end, is_void
from salus.ledger.merkle import leaf_hash
from salus.ledger.note import Signers, split_note
from salus.ledger.tiles import TileRef, tiles_for_append
from salus.objects import AlreadyExistsError, ChangedError

# Headers that one append takes at most; what is beyond waits for the next one.
APPEND_ENTRIES_MAX = 1024
# And so many bytes of them, of all shards together: half of what a head may have, which brings them along.
APPEND_BYTES_MAX = HEAD_BYTES_MAX // 2
NOTHING_ANNOUNCED: Mapping[int, int] = MappingProxyType({})

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Published:
    """A head whose checkpoint is published; with witnesses, its checkpoint carries their cosignatures."""

    head: Head

    @property
    def checkpoint(self) -> Checkpoint:
        """The checkpoint."""
        origin = self.head.checkpoint.partition("\n")[0]
        return Checkpoint(origin, self.head.size, self.head.root_hash)


@dataclass(frozen=True, slots=True)
class Standing(Published):
    """The head we stand on, its ETag for the next swap, its edge, and what its append wrote, if we made it.

    Its checkpoint is published, unless witnesses have to cosign it first.
    """

    etag: str
    edge: Edge
    objects: Mapping[str, bytes] = field(default_factory=dict)

    def tile(self, ref: TileRef) -> bytes | None:
        """Return a tile if it is one of those at hand, which may not be in place yet."""
        return self.edge.tiles.get(ref) or self.objects.get(ref.path)


class Anchor:
    """One writer of the log; any number may run, the head decides between them.

    `standing` is None before the first success and whenever the outcome of a write is unknown; `latest` is
    where we stood last. With `is_final`, `published` follows behind: nothing is published here but
    checkpoints that it accepts, through `publish_final`; `committed` may be cosigned already, and is in place
    once `latest` is not smaller. `on_moved` is called when `committed` moved before `latest` did.
    """

    def __init__(  # noqa: PLR0913  # what it reads, what it writes and what it signs with
        self,
        *,
        blocks: BlockArchive,
        bucket: LogBucket,
        log: LogReader,
        origin: str,
        signer: Signers,
        shards: Mapping[int, Keys],
        entries_max: int = APPEND_ENTRIES_MAX,
        is_final: Callable[[bytes], bool] | None = None,
    ) -> None:
        self._blocks = blocks
        self._bucket = bucket
        self._log = log
        self._origin = origin
        self._signer = signer
        self._shards = shards
        self._entries_max = entries_max
        self._is_final = is_final
        self._last: dict[int, tuple[Header, bytes]] = {}
        self.index = BlockIndex()
        # Where chains end, as the index was made.
        self._ends: dict[int, int] = {}
        self.standing: Standing | None = None
        self.latest: Standing | None = None
        self.committed: Standing | None = None
        self.published: Published | None = None
        self.stalled: dict[int, str] = {}
        self.on_moved: Callable[[], Awaitable[None]] = _nobody_waits

    async def stand(self) -> Standing:
        """Load the head, put in place what follows from it, publish its checkpoint, and stand on it.

        A crash at any line leaves a head and the entries that it brings: the next call does the same again.

        Raises:
            HeadError: the log is not what was signed; nothing is appended until an operator has looked.
            ObjectsError: the store is away.
        """
        self.standing = None
        self._last.clear()
        head, etag = await self._loaded()
        self._require_forward(head)
        if await self._bucket.shows(head):
            edge = domain.open_edge(head, await self._bucket.read_tiles(tiles_for_append(head.size)))
        else:
            edge = await self._finish(head)
        if self.latest is None:
            self._bucket.tidying.took_over(head.size)
        return await self._publish(Standing(head, etag, edge), ())

    async def append(self, announced: Mapping[int, int] = NOTHING_ANNOUNCED) -> int:
        """Append the headers that are new in the archive; return how many.

        `announced` is the height of a shard's last block, as far as one heard: of a shard that has new ones
        by that, nothing is looked for beyond. A head is a commit, which `stand` completes; the checkpoint is
        published last, when everything below it can be read.

        Raises:
            HeadError, ObjectsError: as `stand`. `standing` is None then, as the outcome may be unknown.
        CryptoError: nobody signs, as the key is away or another took over; nothing was written.
        """
        standing = self.standing or await self.stand()
        blocks = await self._new_blocks(standing.head, announced)
        if not blocks:
            return 0
        self.standing = None
        # A key may be in an HSM, which takes its time.
        ready = await asyncio.to_thread(
            domain.append, standing.head, standing.edge, blocks, origin=self._origin, signer=self._signer
        )
        try:
            await self._commit(ready, standing.etag, blocks)
        except ChangedError:
            _log.info("another anchoring was quicker", size=ready.head.size)
            self._last.clear()
            return 0
        return len(blocks)

    def knows(self, shard: int, height: int) -> bool:
        """Tell whether there is such a shard, and the height is not behind the end of its chain."""
        return shard in self._shards and not is_void(self._shards[shard], height)

    def is_void(self, entry: int) -> bool:
        """Tell whether the log's entry lies behind the end of its chain, so that it is no block."""
        shard, height = self.index.block_at(entry)
        return shard in self._shards and is_void(self._shards[shard], height)

    def has_all(self, announced: Mapping[int, int]) -> bool:
        """Tell whether every shard was heard of, and the log ends with what was heard."""
        if self.standing is None:
            return False
        head = self.standing.head
        return all(head.next_height(shard) - 1 == announced.get(shard) for shard in self._shards)

    async def refresh(self) -> None:
        """Follow the head if another anchoring moved it."""
        if self.standing is None or not await self._bucket.head_is(self.standing.etag):
            await self.stand()

    async def _finish(self, head: Head) -> Edge:
        """Put in place, perhaps once more, what the head's writer had yet to put there."""
        before = await self._bucket.read_tiles(tiles_for_append(head.size_before))
        again = domain.append_again(head, before)
        await self._bucket.put_in_place(again.objects)
        return again.edge

    async def _commit(self, ready: Append, etag: str, blocks: Sequence[Block]) -> None:
        etag = await self._bucket.swap_head(ready.head, etag)
        self.committed = standing = Standing(ready.head, etag, ready.edge, ready.objects)
        if self._is_final is not None:
            # Witnesses may look at it while it is put in place: nothing takes it back.
            await self.on_moved()
        await self._bucket.put_in_place(ready.objects)
        await self._publish(standing, blocks)
        for block in blocks:
            self._last[block.shard] = (block.header, block.note)

    async def publish_final(self, standing: Standing, note: bytes) -> None:
        """Publish the checkpoint of a standing with its cosignatures, of which there are enough.

        Raises:
            HeadError, ObjectsError: as `stand`; it may or may not be published, repeating is harmless.
        """
        head = msgspec.structs.replace(standing.head, checkpoint=note.decode())
        await self._bucket.publish(head)
        self.published = Published(head)

    async def _publish(self, standing: Standing, blocks: Sequence[Block]) -> Standing:
        if self._is_final is None:
            await self._bucket.publish(standing.head)
        for block in blocks:
            self.index.add(block.shard, block.header)
        await self._complete_index(standing.head)
        self.standing = self.latest = self.committed = standing
        if self._is_final is None:
            self.published = standing
        elif self.published is None:
            self.published = await self._published_before(standing.head, self._is_final)
        return standing

    async def _published_before(self, head: Head, is_final: Callable[[bytes], bool]) -> Published | None:
        """Return what was published before this process started, if it is final: receipts go on from it."""
        note = await self._log.checkpoint()
        try:
            if note is None or not is_final(note):
                return None
        except LedgerError as error:
            raise HeadError(f"the published checkpoint cannot be trusted: {error}") from error
        shown = parse_checkpoint(split_note(note)[0])
        if shown.size > head.size:
            # Another process was quicker; we follow it at the next look.
            return None
        return Published(Head(head.format, shown.size, base64_of(shown.root), {}, note.decode()))

    async def _loaded(self) -> tuple[Head, str]:
        """Return the head and its ETag; raises HeadError, nothing written, if it is behind what is shown.

        The head moves first, so it is never behind: else it was put back, and what it leads to would be a
        second history, written over the first.
        """
        found, shown = await self._bucket.load_head(), await self._bucket.shown_size()
        if shown > _size_of(found):
            # Another anchoring may have moved both since.
            found = await self._bucket.load_head()
        if shown > _size_of(found):
            raise HeadError(
                f"the log's head went back to size {_size_of(found)}, and a checkpoint of size {shown} is "
                "published: docs/operators.md, `The log's head went back`"
            )
        return found or await self._create()

    async def _create(self) -> tuple[Head, str]:
        head = await asyncio.to_thread(domain.first_head, self._origin, self._signer)
        try:
            return head, await self._bucket.create_head(head)
        except AlreadyExistsError:
            loaded = await self._bucket.load_head()
            if loaded is None:
                raise HeadError("the log's head was removed") from None
            return loaded

    def _require_forward(self, head: Head) -> None:
        """Refuse a head that is behind, or beside, what this process has stood on or committed."""
        seen = self.committed
        if seen is None:
            return
        if head.size < seen.head.size or (head.size == seen.head.size and head.root != seen.head.root):
            raise HeadError(f"the log went back from size {seen.head.size} to {head.size}")

    async def _new_blocks(self, head: Head, announced: Mapping[int, int]) -> list[Block]:
        most = max(1, self._entries_max // len(self._shards))

        def limit(shard: int) -> int:
            known = announced.get(shard, -1) + 1 - head.next_height(shard)
            return min(most, known) if known > 0 else most

        shards = sorted(self._shards)
        found = await asyncio.gather(*(self._new_blocks_of(shard, head, limit(shard)) for shard in shards))
        logged = {self._shards[shard].name: head.next_height(shard) for shard in shards}
        return domain.in_handover_order(dict(zip(shards, found, strict=True)), logged)

    async def _new_blocks_of(self, shard: int, head: Head, limit: int) -> list[Block]:
        height, end = head.next_height(shard), chain_end(self._shards[shard])
        limit = limit if end is None else min(limit, end - height)
        notes = await self._blocks.headers_from(shard, height, limit=limit)
        notes = _within(notes, APPEND_BYTES_MAX // len(self._shards))
        if not notes:
            return []
        found: list[Block] = []
        try:
            before = await self._before(shard, head)
            for note in notes:
                block = domain.open_next(note, shard=shard, before=before, verifier=self._shards[shard])
                before = (block.header, block.note)
                found.append(block)
        except (BlockError, DamagedError) as error:
            self._stall(shard, f"block {height + len(found)}: {error}")
        else:
            self.stalled.pop(shard, None)
        return found

    async def _before(self, shard: int, head: Head) -> tuple[Header, bytes] | None:
        """Return the shard's last header in the log, read from the archive at first."""
        chain = head.chains.get(str(shard))
        if chain is None:
            return None
        known = self._last.get(shard)
        if known is None or known[0].height != chain.next - 1:
            note = await self._blocks.header(shard, chain.next - 1)
            if note is None or base64_of(leaf_hash(note)) != chain.last:
                raise DamagedError(f"shard {shard}", "its last header is not the one in the log")
            known = self._last[shard] = (open_header(note, self._shards[shard]), note)
        return known

    def _stall(self, shard: int, why: str) -> None:
        """A chain with a bad header stands still, loudly; the other chains go on."""
        if self.stalled.get(shard) != why:
            _log.error("chain stalled", shard=shard, why=why)
        self.stalled[shard] = why

    async def _complete_index(self, head: Head) -> None:
        """Read what the index lacks from the log's entries: all of them at a start, or when a chain ended."""
        ends = {shard: end for shard, keys in self._shards.items() if (end := chain_end(keys)) is not None}
        index = self.index if ends == self._ends else BlockIndex()
        if len(index) < head.size:
            async for note in self._log.entries(len(index), head.size):
                try:
                    self._add(index, note)
                except LedgerError as error:
                    raise HeadError(
                        f"entry {len(index)} of the log is not a header of ours: {error}"
                    ) from error
        self.index, self._ends = index, ends

    def _add(self, index: BlockIndex, note: bytes) -> None:
        """Add the next entry of the log; raises BlockError if no shard signed it."""
        shard, height = place_of(note, self._shards)
        if is_void(self._shards[shard], height):
            index.add_void(shard, height)
        else:
            index.add(shard, open_header(note, self._shards[shard]))


def _size_of(found: tuple[Head, str] | None) -> int:
    return 0 if found is None else found[0].size


def _within(notes: list[bytes], bytes_max: int) -> list[bytes]:
    """Return the first notes that have so many bytes together, at least one."""
    ends = list(accumulate(map(len, notes)))
    return notes[: max(1, bisect_right(ends, bytes_max))]


async def _nobody_waits() -> None:
    """Do nothing."""


def place_of(note: bytes, shards: Mapping[int, Keys]) -> tuple[int, int]:
    """Return the shard and the height that a header names; raises BlockError."""
    try:
        origin, height = parse_block_origin(note.partition(b"\n")[0].decode())
    except ValueError as error:
        raise BlockError("malformed-header", str(error)) from None
    for shard, keys in shards.items():
        if keys.name == origin:
            return shard, height
    raise BlockError("origin", "no shard of this network")
