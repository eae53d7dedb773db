"""Finds in the archive where a partition is: which chain covers it, or was given it and has not taken it yet.

Nobody is asked and nothing is kept: headers say everything. A sequencer that knows the identity topic up to
some position follows the assignment that is known there, and gives away what that takes from it in the very
next block. So the block in which a shard gave a partition away is the first one that states such a position,
and since positions never go back, it is found by halving. What a forged block names beyond the topic's end
counts for nothing there: the position of the block after it stands for it.

A chain that ended before it gave a partition away leaves it where it ended, to the shard that the next
assignment names; and what was given to a shard that ended before it took it, the shard after that one takes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace

from salus.events.sharding import Sharding
from salus.ledger.block import Handover, Header, parse_block_origin
from salus.ledger.key_periods import Keys, chain_end, is_last, is_void
from salus.ledger.note import NoteVerifier
from salus.sequencer.domain import Partition
from salus.sequencer.errors import ArchiveDamagedError
from salus.sequencer.ports import Archive
from salus.sequencer.restoring import Shard, last_height, read_tip

HEADERS_KEPT_MAX = 4096


@dataclass(frozen=True, slots=True)
class Given:
    """A hand-over that waits to be taken: `block` gave the partition at the offset to the shard `to`.

    Or its chain ended with it. `index` is the assignment that names the receiver.
    """

    at: Partition
    offset: int
    block: Header
    to: int
    index: int = 0


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
        """Return a header, verified; raises ArchiveDamagedError, also of one behind the end of its chain."""
        header = self._headers.get((shard, height))
        if header is None or is_void(self.known[shard].verifier, height):
            header = (await read_tip(self.archive, self.known[shard], height)).header
            if len(self._headers) >= HEADERS_KEPT_MAX:
                self._headers.clear()
            self._headers[shard, height] = header
        return header

    async def tip(self, shard: int) -> Header | None:
        """Return the last header of a chain; None if it has none yet."""
        top = await last_height(self.archive, self.known[shard], self._tops.get(shard, -1))
        self._tops[shard] = -1 if top is None else top
        return None if top is None else await self.header(shard, top)

    async def last(self, shard: int) -> Header | None:
        """Return the last header of a chain that has ended; None if it goes on."""
        tip = await self.tip(shard) if self.has_ended(shard) else None
        return tip if tip is not None and is_last(self.known[shard].verifier, tip.height) else None

    def has_ended(self, shard: int) -> bool:
        """Tell whether the chain ends."""
        return chain_end(self.known[shard].verifier) is not None

    async def first_knowing(self, shard: int, position: int) -> Header | None:
        """Return the first header that was judged at this identity position or later, if there is one."""
        found = self._firsts.get((shard, position))
        if found is None or is_void(self.known[shard].verifier, found):
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
        given = await self._given_by(sharding.epochs[index].holders[at], at, index, sharding)
        while given is not None and given.block.identity[2] <= position:
            taking = await self._taking(given.to, at, given.block)
            if taking is None:
                heir = self._heir(given, sharding) if self._chains.has_ended(given.to) else None
                if heir is None:
                    return given
                given = heir
                continue
            if taking.identity[2] > position:
                return None
            index = sharding.epochs.index(sharding.at(taking.identity[2]))
            if at in taking.handed("gave"):
                given = _gift(taking, at, index, sharding)
            else:
                given = await self._given_by(given.to, at, index, sharding)
        return None

    async def _given_by(self, holder: int, at: Partition, index: int, sharding: Sharding) -> Given | None:
        """Return how the holder gave or left the partition; `index` is the last assignment it knew."""
        epochs = sharding.epochs
        index += 1
        while index < len(epochs):
            if epochs[index].holders[at] != holder:
                block = await self._chains.first_knowing(holder, epochs[index].position)
                if block is None:
                    return await self._left_by(holder, at, index, sharding)
                # It may have known of a later assignment already, by which the partition is its own again.
                index = epochs.index(sharding.at(block.identity[2]))
                if at in block.handed("gave"):
                    return _gift(block, at, index, sharding)
                if epochs[index].holders[at] != holder:
                    raise ArchiveDamagedError(f"{block.block_origin} keeps {at} against assignment {index}")
            index += 1
        return None

    async def _left_by(self, holder: int, at: Partition, index: int, sharding: Sharding) -> Given | None:
        """Return what the holder's chain left by its end to whom an assignment names that it did not know."""
        last = await self._chains.last(holder)
        offset = None if last is None else last.next_offsets.get(at)
        if last is None or offset is None:
            return None
        return Given(at, offset, last, sharding.epochs[index].holders[at], index)

    def _heir(self, given: Given, sharding: Sharding) -> Given | None:
        """Return the same for the shard that is assigned the partition after the one that did not take it.

        Raises:
            ArchiveDamagedError: that is the giver, and no header takes from its own chain.
        """
        later = sharding.epochs[given.index + 1 :]
        giver = sharding.shard_of(given.block.origin)
        for index, home in enumerate((epoch.holders[given.at] for epoch in later), given.index + 1):
            if home not in {given.to, giver}:
                return replace(given, to=home, index=index)
        if sharding.now.holders[given.at] == giver:
            why = f"gave {given.at}, and the chain that was to take it has ended: assign it to a third shard"
            raise ArchiveDamagedError(f"{given.block.block_origin} {why}")
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

    async def may_take(self, shard: int, line: Handover, sharding: Sharding, *, height: int) -> bool:
        """Tell whether a shard may take what this line of its header of that height takes.

        That is what was given to it, or what a chain left by its end to it or to others that ended as well;
        `sharding` is what the header knew. Whatever was taken before, nobody takes once more.

        Raises:
            ArchiveDamagedError: the block that the line names, or a chain beside it, cannot be read.
        """
        at = line.topic, line.partition
        given = await self._named(line, sharding)
        while given is not None and given.offset == line.offset:
            taking = await self._taking(given.to, at, given.block)
            if given.to == shard:
                return taking is None or taking.height >= height
            if taking is not None or not self._chains.has_ended(given.to):
                return False
            given = self._heir(given, sharding)
        return False

    async def _named(self, line: Handover, sharding: Sharding) -> Given | None:
        """Return what the block that a line names gave, or left by its end; None if it did neither."""
        origin, height = parse_block_origin(line.other)
        giver = sharding.shard_of(origin)
        if giver is None or is_void(self._chains.known[giver].verifier, height):
            return None
        block, at = await self._chains.header(giver, height), (line.topic, line.partition)
        index = sharding.epochs.index(sharding.at(block.identity[2]))
        if at in block.handed("gave"):
            return _gift(block, at, index, sharding)
        if not is_last(self._chains.known[giver].verifier, height):
            return None
        homes = (epoch.holders.get(at) for epoch in sharding.epochs)
        later = (number for number, home in enumerate(homes) if number > index and home not in {giver, None})
        heir = next(later, None)
        return None if heir is None else await self._left_by(giver, at, heir, sharding)


def _gift(block: Header, at: Partition, index: int, sharding: Sharding) -> Given:
    """Return what the block gave."""
    line = next(h for h in block.handovers if (h.way, h.topic, h.partition) == ("gave", *at))
    receiver = sharding.shard_of(line.other)
    if receiver is None:
        raise ArchiveDamagedError(f"{block.block_origin} gave {at} to {line.other}, which is no shard")
    return Given(at, line.offset, block, receiver, index)
