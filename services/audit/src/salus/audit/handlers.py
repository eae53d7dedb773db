"""From block to trail. Every step may run twice; each has one commit point."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from math import inf
from typing import Any

import structlog

from salus.audit.block_reader import read_header
from salus.audit.detectors import message_of
from salus.audit.domain.blocks import Block, BlockRefusedError, entries_of, givers_of, needs_in
from salus.audit.domain.comparison import Difference
from salus.audit.domain.detection import block_finding, repair_finding, rights_finding, trail_finding
from salus.audit.domain.entry import TrailEntry
from salus.audit.domain.network import Surroundings
from salus.audit.domain.ocsf import ocsf_of
from salus.audit.identity_chain import IdentityChain
from salus.audit.metrics import BLOCKS_REFUSED, BLOCKS_WAITING, DAMAGED, ENTRIES_INDEXED, SHARDS_DAMAGED
from salus.audit.ports import (
    BehindError,
    DamagedTrailError,
    Ledger,
    OutOfReachError,
    Outputs,
    Tip,
    Trail,
    UnappendableError,
    UnwritableError,
    VoidBlocksError,
)
from salus.ledger.key_periods import Keys, chain_end, is_void
from salus.runtime.supervisor import failed, succeeded

# Another replica may have indexed a damaged block.
COUNTED_S = 60.0

_log = structlog.get_logger()


class Bell:
    """Wakes everyone who waits; nothing is lost by missing a ring, for all look at the store first."""

    def __init__(self) -> None:
        self._next = asyncio.Event()

    def ring(self) -> None:
        """Wake those who wait now."""
        rung, self._next = self._next, asyncio.Event()
        rung.set()

    async def wait(self, timeout_s: float) -> None:
        """Return at the next ring, or after `timeout_s` seconds."""
        waiting = self._next.wait()
        try:
            await asyncio.wait_for(waiting, timeout_s)
        except TimeoutError:
            return


class Indexer:
    """Follows the chains and appends their blocks to the trail."""

    def __init__(
        self, ledger: Ledger, trail: Trail, shards: Mapping[int, Keys], identity: IdentityChain
    ) -> None:
        self._ledger = ledger
        self._trail = trail
        self._shards = shards
        self._identity = identity

    async def damaged(self) -> str | None:
        """Return what the trail has of damaged rows and blocks, and count it; raises as the trail does."""
        count, first = await self._trail.damaged()
        DAMAGED.set(count)
        if first is None:
            return None
        place, damage = first.entry.place, first.entry.facts.damage
        return f"{count} damaged entries, the first in shard {place.shard} block {place.height}: {damage}"

    @property
    def shards(self) -> tuple[int, ...]:
        """The shards that are followed."""
        return tuple(self._shards)

    async def index_next(self, shard: int) -> int | None:
        """Index the next block of a shard; return how many entries it gave, None if there is no block yet.

        The commit point is `append`: a crash before it leaves nothing, after it the next height is due. If
        another replica was first, nothing changes and the next call goes on from there.

        Raises:
            BlockRefusedError: the block does not verify; nothing of it was indexed.
            BehindError: what its entries depend on is not on the ledger, or not indexed; nothing was indexed.
            OutOfReachError: archive or database is away.
            DamagedTrailError: what stands in the trail is not as it was written, or keeps the block out.
        """
        before, end = await self._trail.tip(shard), chain_end(self._shards[shard])
        if end is not None and before.height > end:
            raise VoidBlocksError(shard=shard, end=end, tip=before.height)
        block = await read_header(self._ledger, shard, before, self._shards[shard])
        if block is None:
            return None
        await self._require_all_before(block)
        identity = await self._identity.reach(block)
        judged = await self._identity.rows_of(block)
        needs = await asyncio.to_thread(needs_in, judged.rows, identity.catalogue)
        directory = await self._trail.directory(needs, identity)
        # Decoding a full block takes seconds; requests go on meanwhile.
        entries = await asyncio.to_thread(entries_of, block, judged, directory)
        tip = Tip(before.height + 1, block.note)
        append = partial(self._trail.append, entries, directory, shard=shard, tip=tip, before=before)
        if not await append():
            await self._require_new(block, entries)
            await self._require_other_first(block, before, append)
        return len(entries)

    async def _require_other_first(
        self, block: Block, before: Tip, append: Callable[[], Awaitable[bool]]
    ) -> None:
        """Append once more, unless another replica was first with this block.

        Raises UnappendableError if what stands in the trail keeps the block out: nothing new has come there.
        """
        end = await self._trail.end()
        if await self._trail.tip(block.shard) != before or await append():
            return
        if await self._trail.tip(block.shard) == before and await self._trail.end() == end:
            raise UnappendableError(shard=block.shard, height=block.header.height)

    async def _require_new(self, block: Block, entries: Sequence[TrailEntry]) -> None:
        """Raise BlockRefusedError if another shard's block has a leaf of this one: nobody else was first."""
        place = await self._trail.place_of({entry.uid for entry in entries})
        if place is not None and place[0] != block.shard:
            detail = f"a leaf of it stands in shard {place[0]} block {place[1]}"
            raise BlockRefusedError(
                shard=block.shard, height=block.header.height, code="coverage-overlap", detail=detail
            )

    async def _require_all_before(self, block: Block) -> None:
        """Raise BehindError unless what others sealed of its partitions before is indexed.

        The order of a partition decides which events took effect.
        """
        for giver, height, origin in givers_of(block.header, self._shards):
            tip = 0 if giver is None else (await self._trail.tip(giver)).height
            if giver is None or tip <= height:
                why = f"it goes on from {origin}, which is not indexed yet"
                raise BehindError(shard=block.shard, height=block.header.height, why=why)
            if is_void(self._shards[giver], tip - 1):
                why = f"it goes on from {origin}, and the trail has what lies behind the end of that chain"
                raise BehindError(shard=block.shard, height=block.header.height, why=why)


class Follower:
    """Keeps the trail at the end of the ledger; a shard whose block does not verify stands still, loudly.

    `refused` holds what does not verify, by shard. The block is tried again: an operator may restore it.
    """

    def __init__(  # noqa: PLR0913  # what it works with
        self,
        indexer: Indexer,
        alarm: Alarm,
        *,
        announced: Bell,
        grown: Bell,
        poll_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.refused: dict[int, BlockRefusedError] = {}
        self._damage_told: str | None = None
        self._counted = -inf
        self._indexer = indexer
        self._alarm = alarm
        self._announced = announced
        self._grown = grown
        self._poll_s = poll_s
        self._waiting: Exception | None = None
        # Shards that the trail itself keeps from going on, with what is wrong there.
        self._damaged: dict[int, DamagedTrailError] = {}
        # What waits for another shard now, by shard, and what did when all was well last.
        self._behind: dict[int, BehindError] = {}
        self._behind_before: dict[int, int] = {}
        self._clock = clock
        # When each shard was last seen to have no block more.
        self._ends: dict[int, float] = {}

    def ends_reached(self) -> float:
        """Return the latest time after which every shard was indexed to its end once more."""
        return min((self._ends.get(shard, -inf) for shard in self._indexer.shards), default=-inf)

    async def run(self) -> None:
        """Index until cancelled."""
        while True:
            if not await self.round():
                await self._announced.wait(self._poll_s)

    async def round(self) -> bool:
        """Make one step with each shard, and tell how that went; return whether there was anything to index.

        That a block waits for another shard's is in order. That the same block waits still is not.
        """
        self._waiting, self._behind = None, {}
        indexed = [await self.step(shard) for shard in self._indexer.shards]
        BLOCKS_WAITING.set(len(self._behind))
        still = (each for each in self._behind.values() if self._behind_before.get(each.shard) == each.height)
        trouble = self._waiting or next(still, None)
        if any(indexed) or self._clock() >= self._counted + COUNTED_S:
            await self._count()
        if trouble is None:
            self._behind_before = {each.shard: each.height for each in self._behind.values()}
            succeeded()
        else:
            failed(trouble)
        return any(indexed)

    async def _count(self) -> None:
        """Count damaged entries, for the metric and for /readyz."""
        try:
            self._damage_told = await self._indexer.damaged()
        except (OutOfReachError, DamagedTrailError) as error:
            _log.warning("damaged entries are counted later", error=str(error))
            return
        self._counted = self._clock()

    async def damage(self) -> str | None:
        """Return what shards sealed that is not what they say of it, if anything; for /readyz."""
        return self._damage_told

    async def check(self) -> None:
        """Raise the refusal of a block, or what keeps one out of the trail, if there is any; for /readyz."""
        for refusal in self.refused.values():
            raise refusal
        for damage in self._damaged.values():
            raise damage

    async def step(self, shard: int) -> bool:
        """Index the next block of a shard, if there is one that verifies; tell whether there was."""
        began = self._clock()
        try:
            count = await self._indexer.index_next(shard)
        except BlockRefusedError as refusal:
            await self._refuse(refusal)
            self._waiting = refusal
            return False
        except BehindError as error:
            self._behind[shard] = error
            return False
        except OutOfReachError as error:
            # Of two, the one that somebody has to act on.
            if not isinstance(self._waiting, UnwritableError):
                self._waiting = error
            _log.warning("indexing waits", shard=shard, error=str(error))
            return False
        except DamagedTrailError as error:
            self._damage(shard, error)
            self._waiting = error
            return False
        self._damaged.pop(shard, None)
        SHARDS_DAMAGED.set(len(self._damaged))
        # What was refused was restored, or is behind the end of its chain now.
        self.refused.pop(shard, None)
        BLOCKS_REFUSED.set(len(self.refused))
        if count is None:
            self._ends[shard] = began
            return False
        ENTRIES_INDEXED.inc(count)
        self._grown.ring()
        return True

    def _damage(self, shard: int, error: DamagedTrailError) -> None:
        if str(self._damaged.get(shard)) != str(error):
            _log.error("the trail is damaged, and a shard cannot go on", shard=shard, error=str(error))
        self._damaged[shard] = error
        SHARDS_DAMAGED.set(len(self._damaged))

    async def _refuse(self, refusal: BlockRefusedError) -> None:
        if refusal.shard not in self.refused:
            _log.error("block does not verify", **_facts_of(refusal))
        self.refused[refusal.shard] = refusal
        BLOCKS_REFUSED.set(len(self.refused))
        try:
            await self._alarm.raise_for(refusal)
        except OutOfReachError as error:
            _log.warning("the alarm waits", error=str(error))


class Alarm:
    """Publishes one finding for each thing that is wrong; what could not be sent is sent later."""

    def __init__(self, outputs: Outputs, around: Surroundings, now: Callable[[], datetime]) -> None:
        self._outputs = outputs
        self._around = around
        self._now = now
        self._raised: set[str] = set()

    async def raise_for(self, refusal: BlockRefusedError) -> None:
        """Publish the finding, unless this process already did; raises OutOfReachError."""
        await self._publish(block_finding(refusal, self._around, at=self._now()))

    async def differs(self, difference: Difference, *, since: datetime) -> None:
        """Publish that the trail differs, once a process; raises OutOfReachError."""
        await self._publish(trail_finding(difference, self._around, at=since))

    async def repaired(self, by: str, first: Difference, *, at: datetime) -> None:
        """Publish that somebody has the trail repaired; raises OutOfReachError."""
        await self._publish(repair_finding(by, first, self._around, at=at))

    async def without_right(self, entry: TrailEntry) -> None:
        """Publish that something was done that nobody is known to have had a right to; raises as others."""
        await self._publish(rights_finding(ocsf_of(entry, self._around)))

    async def _publish(self, finding: dict[str, Any]) -> None:
        uid = finding["metadata"]["uid"]
        if uid in self._raised:
            return
        await self._outputs.publish([message_of(finding, self._around)])
        self._raised.add(uid)


def _facts_of(refusal: BlockRefusedError) -> dict[str, object]:
    return {
        "shard": refusal.shard,
        "height": refusal.height,
        "code": refusal.code,
        "detail": refusal.detail,
    }
