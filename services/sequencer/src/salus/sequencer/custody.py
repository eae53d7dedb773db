"""Finds in the archive where a partition is: which chain covers it, or was given it and has not taken it yet.

Nobody is asked and nothing is kept: headers say everything. A sequencer that knows the identity topic up to
some position follows the assignment that is known there, and gives away what that takes from it in the very
next block. So the block in which a shard gave a partition away is the first one that states such a position,
and since positions never go back, it is found by halving. What a forged block names beyond the topic's end
counts for nothing there: the position of the block after it stands for it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from salus.events.sharding import Sharding
from salus.ledger.block import Header, header_key
from salus.ledger.key_periods import Keys
from salus.ledger.note import NoteVerifier
from salus.sequencer.domain import Partition
from salus.sequencer.errors import ArchiveDamagedError
from salus.sequencer.ports import Archive
from salus.sequencer.restoring import Shard, read_tip

HEADERS_KEPT_MAX = 4096


@dataclass(frozen=True, slots=True)
class Given:
    """A hand-over that waits to be taken: `block` gave the partition at the offset to the shard `to`."""

    at: Partition
    offset: int
    block: Header
    to: int


@dataclass
class Chains:
    """All shards' chains as the archive has them; what it found out of them stays true for ever."""

    archive: Archive
    known: dict[int, Shard]
    described: Callable[[int], Keys | None] = lambda _: None
    # How far the identity topic is known; None: whatever a header names may be true.
    identity_end: int | None = None
    _tops: dict[int, int] = field(default_factory=dict)
    _headers: dict[tuple[int, int], Header] = field(default_factory=dict)
    _firsts: dict[tuple[int, int], int] = field(default_factory=dict)
    _named: set[int] = field(init=False)

    def __post_init__(self) -> None:
        self._named = set(self.known)

    def know(self, sharding: Sharding) -> None:
        """Take note of the shards that were added, by the keys in the events.

        Once network.json names such a shard its keys are those there, for they may be others by now.
        """
        for shard, added in sharding.added.items():
            if shard not in self._named:
                keys = self.described(shard)
                if keys is not None:
                    self._named.add(shard)
                elif shard in self.known:
                    continue
                verifier = keys or NoteVerifier.from_vkey(added.verifier_key)
                identity = next(iter(self.known.values())).identity
                self.known[shard] = Shard(id=shard, verifier=verifier, partitions=(), identity=identity)

    async def header(self, shard: int, height: int) -> Header:
        """Return a header, verified; raises ArchiveDamagedError."""
        header = self._headers.get((shard, height))
        if header is None:
            header = (await read_tip(self.archive, self.known[shard], height)).header
            if len(self._headers) >= HEADERS_KEPT_MAX:
                self._headers.clear()
            self._headers[shard, height] = header
        return header

    async def tip(self, shard: int) -> Header | None:
        """Return the last header of a chain; None if it has none yet."""
        top, step = self._tops.get(shard, -1), 1
        while await self.archive.exists(header_key(shard, top + step)):
            top += step
            step *= 2
        while step > 1:
            step //= 2
            if await self.archive.exists(header_key(shard, top + step)):
                top += step
        self._tops[shard] = top
        return None if top < 0 else await self.header(shard, top)

    async def first_knowing(self, shard: int, position: int) -> Header | None:
        """Return the first header that was judged at this identity position or later, if there is one."""
        found = self._firsts.get((shard, position))
        if found is None:
            tip = await self.tip(shard)
            if tip is None or tip.identity[2] < position:
                return None
            low, found = 0, tip.height
            while low < found:
                middle = (low + found) // 2
                if (await self._true_from(shard, middle, tip)).identity[2] >= position:
                    found = middle
                else:
                    low = middle + 1
            block = await self._true_from(shard, found, tip)
            if not self._is_true(block):
                return block
            found = self._firsts[shard, position] = block.height
        return await self.header(shard, found)

    async def _true_from(self, shard: int, height: int, tip: Header) -> Header:
        """Return the first block from a height on whose identity position can be true; else the tip."""
        header = await self.header(shard, height)
        while not self._is_true(header) and header.height < tip.height:
            header = await self.header(shard, header.height + 1)
        return header

    def _is_true(self, header: Header) -> bool:
        return self.identity_end is None or header.identity[2] <= self.identity_end


class Custody:
    """Follows each partition from shard to shard, as far as it has come."""

    def __init__(self, chains: Chains) -> None:
        self._chains = chains
        # How far a chain was searched for the block that takes what another block gave.
        self._searched: dict[tuple[int, str, Partition], int] = {}

    async def given_to(
        self, shard: int, *, covered: Collection[Partition], sharding: Sharding, position: int
    ) -> tuple[list[Given], bool]:
        """Return what was given to a shard and is not taken yet, and whether more may come.

        `position` is how far the identity topic is known. A block that knew more is looked at later.

        Raises:
            ArchiveDamagedError: a chain is not what its shard's key signed, or does not follow assignments.
        """
        self._chains.know(sharding)
        self._chains.identity_end = position
        found: list[Given] = []
        more = False
        for at in sorted(sharding.now.holders):
            if at in covered or all(epoch.holders.get(at) != shard for epoch in sharding.epochs):
                continue
            holder = sharding.now.holders[at]
            if holder != shard and await self._covers(holder, at):
                continue
            given = await self._waiting(at, sharding, position)
            if given is not None and given.to == shard:
                found.append(given)
            else:
                more = True
        return found, more

    async def _covers(self, shard: int, at: Partition) -> bool:
        tip = await self._chains.tip(shard)
        return tip is not None and at in tip.next_offsets

    async def _waiting(self, at: Partition, sharding: Sharding, position: int) -> Given | None:
        """Return the hand-over that nobody has taken yet; None if a chain covers the partition."""
        index = next(i for i, epoch in enumerate(sharding.epochs) if at in epoch.holders)
        holder = sharding.epochs[index].holders[at]
        giving = await self._giving(holder, at, index, sharding)
        while giving is not None and giving.identity[2] <= position:
            line = next(h for h in giving.handovers if (h.way, h.topic, h.partition) == ("gave", *at))
            receiver = sharding.shard_of(line.other)
            if receiver is None:
                raise ArchiveDamagedError(
                    f"{giving.block_origin} gave {at} to {line.other}, which is no shard"
                )
            taking = await self._taking(receiver, at, giving)
            if taking is None:
                return Given(at, line.offset, giving, receiver)
            if taking.identity[2] > position:
                return None
            holder = receiver
            if at in taking.handed("gave"):
                giving = taking
            else:
                index = sharding.epochs.index(sharding.at(taking.identity[2]))
                giving = await self._giving(holder, at, index, sharding)
        return None

    async def _giving(self, holder: int, at: Partition, index: int, sharding: Sharding) -> Header | None:
        """Return the block in which the holder gave the partition; `index` is the last assignment it knew."""
        epochs = sharding.epochs
        index += 1
        while index < len(epochs):
            if epochs[index].holders[at] != holder:
                block = await self._chains.first_knowing(holder, epochs[index].position)
                if block is None or at in block.handed("gave"):
                    return block
                # It knew of a later assignment already, by which the partition is its own again.
                index = epochs.index(sharding.at(block.identity[2]))
                if epochs[index].holders[at] != holder:
                    raise ArchiveDamagedError(f"{block.block_origin} keeps {at} against assignment {index}")
            index += 1
        return None

    async def _taking(self, receiver: int, at: Partition, giving: Header) -> Header | None:
        """Return the block that took what this block gave; it knew at least as much as the giving one."""
        key = receiver, giving.block_origin, at
        tip = await self._chains.tip(receiver)
        first = await self._chains.first_knowing(receiver, giving.identity[2])
        if tip is None or first is None:
            return None
        for height in range(max(first.height, self._searched.get(key, 0)), tip.height + 1):
            self._searched[key] = height
            block = await self._chains.header(receiver, height)
            if any(h.other == giving.block_origin and (h.topic, h.partition) == at for h in block.handovers):
                return block
        return None
