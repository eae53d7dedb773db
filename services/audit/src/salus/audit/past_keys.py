"""Which keys of parties were valid at a block: from what the ledger holds of the identity topic."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from salus.audit.domain.identity_history import IdentityHistory
from salus.audit.identity_chain import IdentityChain, IdentityTopic
from salus.audit.ports import BehindError, DamagedHeaderError, DamagedTrailError, Ledger, Trail
from salus.events.identity_position import UNSEALED_MAX
from salus.events.parties import KnownKey
from salus.ledger.block import Header, open_header
from salus.ledger.errors import BlockError
from salus.ledger.key_periods import Keys


class NoSuchBlockError(Exception):
    """The trail has no such block (yet)."""


class StateUnknownError(Exception):
    """A block names a state of identity that the ledger does not have, so nobody can say who could sign."""


@dataclass(frozen=True, slots=True)
class KeysAtBlock:
    """The keys that could sign what was appended when a block was sealed, by id.

    `doubted` has those of them that were in other hands by then, as all of the ledger says that was read.
    """

    position: int
    sealed: datetime
    keys: Mapping[str, KnownKey]
    doubted: frozenset[str]


class PastKeys:
    """Answers from the identity events that were read from the ledger, by the position of a block's header.

    The events up to a position are folded anew; those of the position that was asked last are kept. They come
    from the database, and must be those that the chain has read.
    """

    def __init__(
        self,
        ledger: Ledger,
        trail: Trail,
        shards: Mapping[int, Keys],
        topic: IdentityTopic,
        chain: IdentityChain,
    ) -> None:
        self._ledger = ledger
        self._trail = trail
        self._shards = shards
        self._topic = topic
        self._chain = chain
        # At which position, as of what the chain had read, and what that comes to.
        self._last: tuple[int, IdentityHistory, IdentityHistory] | None = None
        self._turn = asyncio.Lock()

    async def at(self, shard: int, height: int) -> KeysAtBlock:
        """Return the keys that were valid at a block of the trail.

        Raises:
            NoSuchBlockError: the trail has none.
            StateUnknownError: it says that it was judged by what is no state of identity.
            BehindError: the identity topic was not read that far yet.
            DamagedHeaderError: the archive has no such header, or another one.
            DamagedTrailError: the database has other identity events than were read from the ledger.
            OutOfReachError: archive or database is away.
        """
        header = await self._header(shard, height)
        position = header.identity[2]
        read, chain = self._chain.noted_to, self._chain.history
        if header.identity[:2] != self._topic.partition or position > self._chain.position + UNSEALED_MAX:
            raise StateUnknownError
        if position > read:
            why = f"it was judged at {position} of the identity topic, read are {read}"
            raise BehindError(shard=shard, height=height, why=why)
        async with self._turn:
            ring = (await self._history_at(position, chain)).ring
            keys = ring.valid_keys(at=header.time)
        doubted = self._chain.history.ring.doubted(keys, at=header.time)
        return KeysAtBlock(position, header.time, keys, frozenset(doubted))

    async def _header(self, shard: int, height: int) -> Header:
        keys = self._shards.get(shard)
        if keys is None or height >= (await self._trail.tip(shard)).height:
            raise NoSuchBlockError
        note = await self._ledger.header(shard, height)
        if note is None:
            raise DamagedHeaderError(shard=shard, height=height, why="is missing")
        try:
            header = open_header(note, keys)
        except BlockError as error:
            raise DamagedHeaderError(shard=shard, height=height, why=f"does not verify: {error}") from None
        if (header.origin, header.height) != (keys.name, height):
            raise DamagedHeaderError(shard=shard, height=height, why="is of another block")
        return header

    async def _history_at(self, position: int, chain: IdentityHistory) -> IdentityHistory:
        if self._last is None or self._last[0] != position or self._last[1] is not chain:
            events = await self._trail.identity.identity_events(position)
            # Judging each event anew takes a while; requests go on meanwhile.
            self._last = position, chain, await asyncio.to_thread(self._folded, events, position, chain)
        return self._last[2]

    def _folded(self, events: Mapping[int, bytes], position: int, chain: IdentityHistory) -> IdentityHistory:
        if not chain.is_of(events, below=position):
            raise DamagedTrailError(f"the identity topic below {position}", ["events"])
        history = IdentityHistory(self._topic.new_ring())
        for offset, kept in events.items():
            history.fold(offset, kept)
        return history
