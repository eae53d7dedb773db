"""Compares the stored trail with the ledger: every entry, what stands beside them, and how far it is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from salus.audit.block_reader import read_header
from salus.audit.domain.blocks import entries_of, givers_of, needs_in
from salus.audit.domain.comparison import Difference, compare_block, not_as_derived, table_difference
from salus.audit.domain.entry import TrailEntry
from salus.audit.identity_chain import IdentityChain, IdentityTopic
from salus.audit.ports import Ledger, Snapshot, StoredTrail, Tip
from salus.ledger.block import open_header
from salus.ledger.errors import BlockError
from salus.ledger.key_periods import Keys, chain_end

TIPS = "audit_shards"
IDENTITY_PLACE = "audit_identity_place"
# Whoever writes to the database can put any number of rows there: the first ones are told, and a repair takes
# all away.
EXTRA_ROWS_TOLD_MAX = 1000
STRAYS_AT_ONCE_MAX = 1000


@dataclass(frozen=True, slots=True)
class Step:
    """A block was compared: how far the pass is, and what differs there."""

    blocks: int
    blocks_in_all: int
    rows: int
    differences: tuple[Difference, ...] = ()


OnStep = Callable[[Step], Awaitable[None]]
Correct = Callable[[Sequence[TrailEntry]], Awaitable[None]]
"""Publishes what entries say that were missing or changed."""


class Reconciler:
    """Derives the trail from the ledger once more and compares; of the stored rows it goes by nothing.

    Within a shard the order is the ledger's. A block that took partitions over comes after the one that gave
    them, and who is who follows from the position that each block records, so nothing depends on which of
    two shards comes first. Blocks that are indexed meanwhile belong to the next pass.
    """

    def __init__(
        self,
        ledger: Ledger,
        stored: StoredTrail,
        shards: Mapping[int, Keys],
        topic: IdentityTopic,
        correct: Correct,
    ) -> None:
        self._ledger = ledger
        self._stored = stored
        self._shards = shards
        self._topic = topic
        self._correct = correct
        self._one_at_a_time = asyncio.Lock()

    async def run(self, on_step: OnStep, *, repair: bool = False) -> int:
        """Compare everything, and with `repair` put right what differs; return how many rows differed.

        Each repaired block is one transaction; a crash in between leaves the rest to the next run.

        Raises:
            BlockRefusedError: the ledger itself does not verify.
            OutOfReachError: archive or database is away.
        """
        async with self._one_at_a_time, self._stored.snapshot() as seen:
            identity = IdentityChain(self._ledger, self._shards, self._topic)
            correct = self._correct if repair else None
            run = _Pass(self._ledger, self._stored, self._shards, identity, seen, on_step, correct)
            return await run.finish()


@dataclass
class _Pass:
    """One comparison; `done` says how far each shard is compared."""

    ledger: Ledger
    stored: StoredTrail
    shards: Mapping[int, Keys]
    identity: IdentityChain
    seen: Snapshot
    on_step: OnStep
    correct: Correct | None
    done: dict[int, Tip] = field(default_factory=dict)
    under_way: set[int] = field(default_factory=set)
    found: int = 0
    blocks: int = 0

    async def finish(self) -> int:
        """Compare everything."""
        for shard in self.seen.tips:
            await self._up_to(shard, self._end_of(shard) - 1)
        ends = {shard: self._end_of(shard) for shard in self.seen.tips}
        last: tuple[int, int] | None = None
        until, limit = self.seen.end, STRAYS_AT_ONCE_MAX
        while some := await self.stored.strays(ends, until=until, after=last, limit=limit):
            for last in some:
                await self._stray(*last)
        for shard, tip in self.seen.tips.items():
            await self._tip(shard, tip)
        await self._tables()
        return self.found

    @property
    def repair(self) -> bool:
        """Whether what differs is put right."""
        return self.correct is not None

    def _done(self, shard: int) -> Tip:
        return self.done.setdefault(shard, Tip(0, None))

    def _end_of(self, shard: int) -> int:
        """Return the height that the snapshot says is next, up to where its chain ends; 0 for no shard."""
        tip = self.seen.tips.get(shard)
        if tip is None or shard not in self.shards:
            return 0
        end = chain_end(self.shards[shard])
        return tip.height if end is None else min(tip.height, end)

    async def _up_to(self, shard: int, height: int) -> None:
        """Compare a shard's blocks up to one, and before each of them those that it took partitions from."""
        if shard in self.under_way:
            # Two shards that took from each other in a circle, which no honest ones can.
            return
        self.under_way.add(shard)
        while (done := self._done(shard)).height <= height:
            block = await read_header(self.ledger, shard, done, self.shards[shard])
            if block is None:
                # The tip says more than there is.
                break
            for giver, at, _ in givers_of(block.header, self.shards):
                if giver is not None:
                    await self._up_to(giver, at)
            await self.identity.reach(block)
            judged = await self.identity.rows_of(block)
            needs = await asyncio.to_thread(needs_in, judged.rows, self.identity.history.catalogue)
            directory = await self.seen.tables.directory(needs, self.identity.history)
            entries = await asyncio.to_thread(entries_of, block, judged, directory)
            await self._compare(shard, done.height, entries)
            await self.seen.tables.keep(directory)
            self.done[shard] = Tip(done.height + 1, block.note)
        self.under_way.remove(shard)

    async def _compare(self, shard: int, height: int, entries: list[TrailEntry]) -> None:
        stored = await self.stored.block(shard, height, limit=len(entries) + EXTRA_ROWS_TOLD_MAX)
        derived = await asyncio.to_thread(self.stored.columns_of, entries)
        differences = compare_block(shard, height, derived, stored)
        if differences and self.correct is not None:
            # First: what was published while it was wrong is corrected though this ends here.
            await self.correct([entries[index] for index in not_as_derived(derived, stored)])
            await self.stored.put_block(shard, height, entries)
        await self._tell(differences, rows=len(entries))

    async def _stray(self, shard: int, height: int) -> None:
        """Name rows of a block that is not indexed."""
        rows = await self.stored.block(shard, height, limit=EXTRA_ROWS_TOLD_MAX)
        if self.repair:
            await self.stored.put_block(shard, height, [])
        await self._tell(compare_block(shard, height, [], rows), rows=len(rows))

    async def _tip(self, shard: int, tip: Tip) -> None:
        right = self._done(shard)
        if tip == right:
            return
        if self.repair:
            await self.stored.put_tip(shard, right, tip)
        await self._tell([Difference("changed", TIPS, f"shard {shard}", shard)], rows=1)

    async def _tables(self) -> None:
        place, position = await self._identity_place()
        await self.seen.tables.keep_identity(self.identity.digests_below(position))
        await self._tell(place, rows=self.seen.rows)
        async for rows in self.seen.tables.differing():
            if self.repair:
                await self.stored.put_rows(rows)
            await self._tell([table_difference(row) for row in rows], rows=0)
        if self.found and self.repair:
            # Whatever was derived from it may be wrong: it is read from the ledger again, which is right.
            await self.stored.drop_identity()

    async def _identity_place(self) -> tuple[list[Difference], int]:
        """Compare how far the identity topic was read; return what differs, and the position there."""
        place, differs = self.seen.identity, [Difference("changed", IDENTITY_PLACE, "identity")]
        if place is None:
            return [], 0
        try:
            header = open_header(place.note, self.shards[place.shard])
        except (BlockError, KeyError):
            return differs, 0
        while not self.identity.seals(header):
            if not await self.identity.step():
                return differs, 0
        there = await self.ledger.header(place.shard, header.height)
        return [] if there == place.note else differs, self.identity.position_after(header)

    async def _tell(self, differences: list[Difference], *, rows: int) -> None:
        self.found += len(differences)
        self.blocks += 1
        in_all = sum(tip.height for tip in self.seen.tips.values())
        await self.on_step(Step(min(self.blocks, in_all), in_all, rows, tuple(differences)))
