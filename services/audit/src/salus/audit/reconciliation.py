"""Compares the stored trail with the ledger: every entry, who is who, and how far it is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from salus.audit.domain.blocks import entries_of
from salus.audit.domain.comparison import Difference, compare_block, compare_tables
from salus.audit.domain.directory import Directory
from salus.audit.domain.entry import TrailEntry
from salus.audit.handlers import read_block
from salus.audit.ports import Ledger, Snapshot, StoredTrail, Tip
from salus.ledger.key_periods import Keys

TIPS = "audit_shards"


@dataclass(frozen=True, slots=True)
class Step:
    """A block was compared: how far the pass is, and what differs there."""

    blocks: int
    blocks_in_all: int
    rows: int
    differences: tuple[Difference, ...] = ()


OnStep = Callable[[Step], Awaitable[None]]


class Reconciler:
    """Derives the trail from the ledger once more, in the order in which it was indexed, and compares.

    The order of blocks of different shards is that of the stored rows, for it decides who was who when; the
    order within a shard is the ledger's. Blocks that are indexed meanwhile belong to the next pass.
    """

    def __init__(self, ledger: Ledger, stored: StoredTrail, shards: Mapping[int, Keys]) -> None:
        self._ledger = ledger
        self._stored = stored
        self._shards = shards
        self._one_at_a_time = asyncio.Lock()

    async def run(self, on_step: OnStep, *, repair: bool = False) -> list[Difference]:
        """Compare everything, and with `repair` put right what differs; return what differed.

        Each repaired block is one transaction; a crash in between leaves the rest to the next run.

        Raises:
            BlockRefusedError: the ledger itself does not verify.
            OutOfReachError: archive or database is away.
        """
        async with self._one_at_a_time:
            seen = await self._stored.snapshot()
            run = _Pass(self._ledger, self._stored, self._shards, seen, on_step, repair=repair)
            return await run.finish()


@dataclass
class _Pass:
    """One comparison; `done` says how far each shard is compared."""

    ledger: Ledger
    stored: StoredTrail
    shards: Mapping[int, Keys]
    seen: Snapshot
    on_step: OnStep
    repair: bool = field(kw_only=True)
    directory: Directory = field(default_factory=Directory)
    done: dict[int, Tip] = field(default_factory=dict)
    found: list[Difference] = field(default_factory=list)
    blocks: int = 0

    async def finish(self) -> list[Difference]:
        """Compare everything."""
        at = 0
        while (place := await self.stored.first_after(at)) is not None and place[0] <= self.seen.end:
            seq, shard, height = place
            at = seq
            if height >= self._end_of(shard):
                await self._stray(shard, height)
            elif height >= self._done(shard).height:
                at = max(seq, await self._up_to(shard, height))
        for shard in self.seen.tips:
            await self._up_to(shard, self._end_of(shard) - 1)
        for shard, tip in self.seen.tips.items():
            await self._tip(shard, tip)
        await self._tables()
        return self.found

    def _done(self, shard: int) -> Tip:
        return self.done.setdefault(shard, Tip(0, None))

    def _end_of(self, shard: int) -> int:
        """Return the height that the snapshot says is next; 0 for a shard that is none."""
        tip = self.seen.tips.get(shard)
        return tip.height if tip is not None and shard in self.shards else 0

    async def _up_to(self, shard: int, height: int) -> int:
        """Compare a shard's blocks up to one; return the position of that one's last row."""
        last = 0
        while (done := self._done(shard)).height <= height:
            note = await self.ledger.header(shard, done.height)
            if note is None:
                # The tip says more than there is.
                break
            block, rows = await read_block(
                self.ledger,
                note,
                shard=shard,
                height=done.height,
                keys=self.shards[shard],
                previous=done.note,
            )
            entries = await asyncio.to_thread(entries_of, block, rows, self.directory)
            last = await self._compare(shard, done.height, entries)
            self.done[shard] = Tip(done.height + 1, note)
        return last

    async def _compare(self, shard: int, height: int, entries: list[TrailEntry]) -> int:
        stored = await self.stored.block(shard, height)
        derived = await asyncio.to_thread(self.stored.columns_of, entries)
        differences = compare_block(shard, height, derived, stored)
        if differences and self.repair:
            await self.stored.put_block(shard, height, entries)
        await self._tell(differences, rows=len(entries))
        positions = [row["seq"] for row in stored]
        in_a_row = not differences and bool(positions)
        return max(positions) if in_a_row else 0

    async def _stray(self, shard: int, height: int) -> None:
        """Name rows of a block that is not indexed; each only once."""
        rows = await self.stored.block(shard, height)
        known = {(d.shard, d.height) for d in self.found}
        if rows and (shard, height) not in known:
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
        differing = compare_tables(self.stored.tables_of(self.directory), self.seen.tables)
        if differing and self.repair:
            await self.stored.put_tables(self.directory, differing.keys(), self.seen)
        await self._tell(list(differing.values()), rows=len(self.seen.tables))

    async def _tell(self, differences: list[Difference], *, rows: int) -> None:
        self.found += differences
        self.blocks += 1
        in_all = sum(tip.height for tip in self.seen.tips.values())
        await self.on_step(Step(min(self.blocks, in_all), in_all, rows, tuple(differences)))
