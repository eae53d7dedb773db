"""Hand-overs: a chain follows the assignment of partitions, in blocks that say what they give and take.

Law: a block whose header states an identity position covers, after it, only partitions that the assignment
known at that position leaves to its shard. Everything else it gives away, and nobody takes a partition but
after the block that gave it. So at any offset one chain at most may go on, whoever crashes or is late.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from datetime import datetime

from salus.events.keyring import KeyRing
from salus.events.sharding import Epoch, Sharding
from salus.ledger.block import Handover, Range
from salus.ledger.key_periods import chain_end
from salus.ledger.merkle import EMPTY_ROOT
from salus.sequencer.custody import Chains, Custody, Given
from salus.sequencer.domain import Cursor, Draft, Partition, block_time, identity_position
from salus.sequencer.errors import ArchiveDamagedError
from salus.sequencer.gathering import Stop
from salus.sequencer.ports import Archive, Clock, Identities, PastIdentities
from salus.sequencer.restoring import Chain, Shard

LOOK_EVERY_MS = 250
# A header is a log entry of at most 65,535 bytes; what else was given is taken by the block after it.
TAKEN_AT_ONCE_MAX = 128


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a shard is to seal: the assignment it follows, and the partitions that it awaits from others.

    `trouble` says why what others gave cannot be told; this shard goes on with what it has meanwhile.
    """

    epoch: int
    awaited: tuple[Partition, ...] = ()
    trouble: str | None = None


@dataclass
class Lookout:
    """Looks for what a shard has to give away and may take; only archive and identity topic are believed."""

    shard: Shard
    archive: Archive
    outlook: Outlook = field(default_factory=lambda: Outlook(0))
    unsettled: bool = False
    _custody: Custody = field(init=False)
    _founders: tuple[Shard, ...] = field(init=False)
    _sharding: Sharding = field(init=False)
    _assignments: int = 0

    def __post_init__(self) -> None:
        known = {shard.id: shard for shard in (self.shard, *self.shard.fellows)}
        self._founders = tuple(known.values())
        self._custody = Custody(Chains(self.archive, known, self.shard.described))
        self._sharding = Sharding.of(self._founders)

    @property
    def assigned(self) -> Collection[Partition]:
        """Every partition that some shard is to seal."""
        return self._sharding.now.holders.keys()

    @property
    def has_ended(self) -> bool:
        """Whether the shard's own chain ends: its key was stolen, and others go on."""
        return chain_end(self.shard.verifier) is not None

    def is_news(self, ring: KeyRing) -> bool:
        """Tell whether an assignment was stated since `due` was called."""
        return len(ring.assignments) != self._assignments

    async def due(self, chain: Chain, ring: KeyRing, *, now: datetime) -> tuple[Chain, Draft | None]:
        """Return the chain with the partitions that it begins, and the block that hands over if it is due."""
        if self.is_news(ring):
            self._sharding = Sharding.of(self._founders, ring.assignments)
            self._assignments = len(ring.assignments)
        if self.has_ended:
            return self._at_end(chain), None
        sharding, epoch = self._sharding, self._sharding.now
        starts = {**_begun(chain, sharding, self.shard.id), **chain.cursor.next}
        cursor = Cursor(chain.cursor.height, starts, chain.cursor.time, chain.cursor.identity)
        takes = await self.takes(cursor, ring)
        mine = epoch.partitions_of(self.shard.id)
        given = {at for at in (*starts, *(take.at for take in takes)) if at in epoch.holders} - mine
        awaited = mine - starts.keys() - {take.at for take in takes}
        self.outlook = Outlook(epoch.number, tuple(sorted(awaited)), self.outlook.trouble)
        draft = None
        if takes or given:
            draft = handover_block(cursor, takes, given, sharding=sharding, ring=ring, now=now)
        return Chain(chain.tip, cursor, chain.window), draft

    def _at_end(self, chain: Chain) -> Chain:
        """Return the chain, which seals nothing any more; what is still assigned to it waits for others."""
        left = tuple(sorted(self._sharding.now.partitions_of(self.shard.id)))
        trouble = "its chain has ended: `salus shard assign` its partitions to others" if left else None
        self.outlook = Outlook(self._sharding.now.number, left, trouble)
        return Chain(chain.tip, replace(chain.cursor, next={}), chain.window)

    async def takes(self, cursor: Cursor, ring: KeyRing) -> Sequence[Given]:
        """Return what others gave us and we have not taken.

        A chain that does not verify is no reason to stop sealing what we have: it is said, and nothing is
        taken.
        """
        if len(self._sharding.epochs) == 1:
            return ()
        try:
            found, self.unsettled = await self._custody.given_to(
                self.shard.id, covered=cursor.next, sharding=self._sharding, position=ring.position
            )
        except ArchiveDamagedError as error:
            found, self.unsettled = [], True
            self.outlook = Outlook(self.outlook.epoch, self.outlook.awaited, str(error))
        else:
            self.outlook = Outlook(self.outlook.epoch, self.outlook.awaited)
        return found[:TAKEN_AT_ONCE_MAX]


def handover_block(  # noqa: PLR0913  # what is handed over, and by which knowledge
    cursor: Cursor,
    takes: Sequence[Given],
    given: set[Partition],
    *,
    sharding: Sharding,
    ring: KeyRing,
    now: datetime,
) -> Draft:
    """Return the block, without records, that takes and gives."""
    starts = {**cursor.next, **{take.at: take.offset for take in takes}}
    took = [Handover("took", *take.at, take.offset, take.block.block_origin) for take in takes]
    gave = [Handover("gave", *at, starts[at], _origin_of(at, sharding.now, sharding.origins)) for at in given]
    return Draft(
        height=cursor.height,
        time=block_time(now, cursor=cursor),
        root=EMPTY_ROOT,
        leaves=0,
        accepted=0,
        identity=identity_position(ring, cursor),
        ranges=tuple(Range(*at, offset, offset) for at, offset in sorted(starts.items())),
        rejections=(),
        handovers=tuple(sorted([*took, *gave])),
    )


def _origin_of(at: Partition, epoch: Epoch, origins: Mapping[int, str]) -> str:
    return origins[epoch.holders[at]]


def _begun(chain: Chain, sharding: Sharding, shard: int) -> dict[Partition, int]:
    """Return the partitions that begin with this shard and that it had no reason to give away till its tip.

    They are those that the first assignment which names them leaves to it: network.json, or an event when a
    topic got more partitions. They are sealed from offset 0 on.
    """
    known = 0 if chain.tip is None else sharding.epochs.index(sharding.at(chain.tip.header.identity[2]))
    began: dict[Partition, int] = {}
    seen: set[Partition] = set()
    for number, epoch in enumerate(sharding.epochs):
        later = () if chain.tip is None else sharding.epochs[number : known + 1]
        fresh = epoch.partitions_of(shard) - seen
        began |= {at: 0 for at in fresh if all(e.holders[at] == shard for e in later)}
        seen |= epoch.holders.keys()
    return began


class Watch:
    """Stop and identities of one stretch of sealing, which ends when a hand-over is due.

    It looks whenever a block learns of identities, and while a block is waited for; never beside a judge:
    records are judged by a ring that must not grow meanwhile.
    """

    def __init__(
        self, lookout: Lookout, cursor: Cursor, stop: Stop, identities: Identities, clock: Clock
    ) -> None:
        self.due = False
        self._lookout = lookout
        self._cursor = cursor
        self._stop = stop
        self._identities = identities
        self._clock = clock
        self._look_at_ms = clock.monotonic_ms() + LOOK_EVERY_MS

    def is_set(self) -> bool:
        """Tell whether to stop, for good or to hand over."""
        return self._stop.is_set() or self.due

    async def look(self) -> None:
        """Look whether a hand-over is due, if it is time to."""
        if self._is_time():
            await self.catch_up()

    def past(self) -> AbstractAsyncContextManager[PastIdentities]:
        """Look back."""
        return self._identities.past()

    async def catch_up(self) -> KeyRing:
        """Return the ring; an assignment that nobody has looked at yet ends the stretch, and so does a gift.

        What others gave is looked for here too: while records come faster than they are judged, no block is
        waited for.
        """
        ring = await self._identities.catch_up()
        if self._lookout.is_news(ring) or self._lookout.has_ended:
            self.due = True
        elif not self._lookout.unsettled:
            self._look_later()
        elif self._is_time():
            self.due = bool(await self._lookout.takes(self._cursor, ring))
            self._look_later()
        return ring

    def _is_time(self) -> bool:
        return self._clock.monotonic_ms() >= self._look_at_ms

    def _look_later(self) -> None:
        self._look_at_ms = self._clock.monotonic_ms() + LOOK_EVERY_MS
