"""Judges blocks of this shard that this process did not seal, before it builds on them.

A header's signature says no more than that somebody has the shard's key. So the records of such a block are
read from the log and judged again, and the block must be, row by row, the one that this process would have
sealed of the same ranges. Honest sequencers of one shard differ in where they cut, in the time that they date
by, and in how far they had read the identity topic: the ranges and the position are the block's own.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

import pyarrow as pa

from salus.archive.body import ACCEPTED, decode_body
from salus.archive.duplicates import DuplicateWindow, WindowSize
from salus.archive.errors import BodyError
from salus.events.errors import Reason
from salus.events.identity_position import IdentityTimes, newest_judged, position_fault
from salus.events.keyring import KeyRing
from salus.events.sharding import Sharding
from salus.ledger.block import REJECTED_PREFIX, Header, check_succession
from salus.ledger.errors import BlockError
from salus.ledger.key_periods import chain_end, history_of
from salus.ledger.note import split_note
from salus.ledger.records import Records, timestamp_at
from salus.sequencer.custody import Chains, Custody
from salus.sequencer.domain import Batch, Cursor, Draft, Partition, Tip, draft_block
from salus.sequencer.errors import ArchiveDamagedError, ForeignBlockError, LogReplacedError
from salus.sequencer.fillers import PLACE, Place, open_without_fillers
from salus.sequencer.intake import kept, needed_bytes
from salus.sequencer.ports import Archive, Identities, Log, LogReader, Observer, Offload, PastIdentities
from salus.sequencer.restoring import Chain, Shard, last_height, read_body, read_tip, restore_window
from salus.sequencer.same_log import require_same_log

# Of the blocks that were there before this process, so many of the newest are judged.
BLOCKS_AT_START_MAX = 16
# And so many of those that others seal while it runs, whenever it is overtaken.
BLOCKS_WHILE_RUNNING_MAX = 1024
POLL_RECORDS_MAX = 10_000
POLL_MS = 200
# No settings allow a block of more; a single record may be larger.
NEEDED_BYTES_MAX = 128 * 1024 * 1024
# These verdicts depend on which packages are installed, and replicas are upgraded one after the other.
_OF_PACKAGES = frozenset(f"{REJECTED_PREFIX}{r}" for r in (Reason.UNKNOWN_TYPE, Reason.SCHEMA_VIOLATION))
_DUPLICATE = f"{REJECTED_PREFIX}{Reason.DUPLICATE}"


class Doubt(NamedTuple):
    """Why nobody can tell whether a block is right; or it `differs`, and packages may be the reason."""

    why: str
    differs: bool = False


class Reread(NamedTuple):
    """The records of a block's ranges, where fillers stand for its leaves, and since where some are gone."""

    records: Sequence[Records]
    fillers: Collection[Place] = ()
    gone: Mapping[Partition, int] = MappingProxyType({})


_GONE = Doubt("the log does not have its records any more")


@dataclass
class Sealed:
    """Below which height this process sealed or judged every block; None: it has just begun."""

    to: int | None = None

    def first_foreign(self, height: int) -> int:
        """Return the first height, of a chain whose last one is given, that is to be judged."""
        if self.to is None:
            return max(0, height + 1 - BLOCKS_AT_START_MAX)
        return min(max(self.to, height + 1 - BLOCKS_WHILE_RUNNING_MAX), height + 1)


@dataclass(frozen=True, slots=True)
class ForeignBlocks:
    """Reads a chain back, and judges what of it others sealed."""

    shard: Shard
    archive: Archive
    log: Log
    identities: Identities
    observer: Observer
    offload: Offload
    window: WindowSize
    sealed: Sealed

    async def restored(self) -> Chain:
        """Return the chain as the archive has it.

        Raises:
            ArchiveDamagedError: a header or a body is not what this shard's key signed.
            LogReplacedError: the log is another one than was sealed.
            ForeignBlockError: a block is none that this process would have sealed.
        """
        height = await last_height(self.archive, self.shard)
        self._require_forward(height)
        if height is None:
            return Chain(None, Cursor.after(None), self.window.new())
        first = self.sealed.first_foreign(height)
        tip = await read_tip(self.archive, self.shard, first - 1) if first else None
        known = tip if self.sealed.to is not None else await read_tip(self.archive, self.shard, height)
        replaced = await self._replaced(known)
        window = await restore_window(self.archive, self.shard, tip, self.window.new())
        end = (await self.identities.catch_up()).position
        async with self.identities.past() as past:
            review = _Review(self, past, end, height)
            try:
                for number in range(first, height + 1):
                    before, tip = tip, await read_tip(self.archive, self.shard, number)
                    window = await review.pass_block(before, tip, window)
            except ForeignBlockError as error:
                # Of another log every block looks forged.
                raise (replaced if replaced and not review.is_same_log else error) from error
        if replaced is not None:
            if not review.is_same_log:
                raise replaced
            # Blocks that were passed over as wrong say nothing of the log.
            await require_same_log(self.archive, self.shard, known, self.log, without=review.passed)
        self.sealed.to = height + 1
        cursor = Cursor.after(None if tip is None else tip.header)
        return Chain(tip, replace(cursor, identity=min(cursor.identity, end)), window)

    def _require_forward(self, height: int | None) -> None:
        """Raise ArchiveDamagedError if the archive has fewer blocks than this process sealed or judged.

        Whoever built on what is left would sign another block of a height that the shard has one of.
        """
        end = chain_end(self.shard.verifier)
        sealed_to = self.sealed.to or 0
        sealed_to = sealed_to if end is None else min(sealed_to, end)
        there = 0 if height is None else height + 1
        if there < sealed_to:
            why = f"headers {there} to {sealed_to - 1} of shard {self.shard.id} were there and are gone"
            raise ArchiveDamagedError(why)

    async def _replaced(self, known: Tip | None) -> LogReplacedError | None:
        """Return the error if the log is another one than these blocks say; raises ArchiveDamagedError."""
        try:
            await require_same_log(self.archive, self.shard, known, self.log)
        except LogReplacedError as error:
            return error
        return None


@dataclass
class _Review:
    """The judgement of some blocks in a row, of a chain that ends at a height.

    `passed` were wrong. `is_same_log` tells whether the log has the records of at least one of the others: of
    another log every block is wrong.
    """

    of: ForeignBlocks
    past: PastIdentities
    identity_end: int
    height: int
    passed: set[int] = field(default_factory=set)
    is_same_log: bool = False
    # When identity events were appended, from this position on.
    _times: IdentityTimes = field(default_factory=IdentityTimes)
    _times_from: int | None = None

    async def pass_block(self, before: Tip | None, tip: Tip, window: DuplicateWindow) -> DuplicateWindow:
        """Return the window after a block, once it is judged; raises ForeignBlockError.

        A block that only retired keys signed is said to be wrong, and passed: the operator stated with them
        that the chain goes on behind it.
        """
        of = self.of
        try:
            check_succession(None if before is None else (before.header, before.note), tip.header)
            found = await self._judged(before, tip, window)
        except BlockError as error:
            raise ArchiveDamagedError(f"header {tip.header.height}: {error}") from error
        except ForeignBlockError as error:
            if self._is_in_force(tip):
                raise
            of.observer.passed_over(error)
            self.passed.add(tip.header.height)
            return await restore_window(of.archive, of.shard, tip, of.window.new())
        if found:
            of.observer.doubted(height=tip.header.height, why=found.why, differs=found.differs)
            return await restore_window(of.archive, of.shard, tip, of.window.new())
        self.is_same_log |= tip.header.leaves > 0
        return window

    def _is_in_force(self, tip: Tip) -> bool:
        """Tell whether a key that signed the block signs what comes next, too, or the chain ends behind it.

        Of a chain that ended, the operator stated that all of it is right.
        """
        history = history_of(self.of.shard.verifier)
        return history.end is not None or bool(history.counting(split_note(tip.note)[1], self.height + 1))

    async def _judged(self, before: Tip | None, tip: Tip, window: DuplicateWindow) -> Doubt | None:
        """Raise ForeignBlockError if the block is wrong; return why nobody can tell, None if it is right.

        The window has its accepted events then; it is of no use in any other case.
        """
        header = tip.header
        self._require_position(before, header)
        await self._require_handovers(header)
        body = await read_body(self.of.archive, self.of.shard, header)
        try:
            table = decode_body(body)
        except BodyError as error:
            raise ArchiveDamagedError(f"body {header.height}: {error}") from error
        await self._require_nothing_left_out(header, table)
        found = await self._reread(header, table)
        if found is None:
            return _GONE
        ring = await self.past.at(header.identity[2])
        draft, ours = await self.of.offload(partial(_sealed_again, header, found.records, ring, window))
        same = (draft.root, draft.leaves, draft.accepted) == (header.root, header.leaves, header.accepted)
        return None if same and ours.equals(table) else self._difference(header, ours, table, found)

    def _require_position(self, before: Tip | None, header: Header) -> None:
        position = header.identity[2]
        if position > self.identity_end:
            why = f"it names identity position {position}, and that topic ends at {self.identity_end}"
            raise self._wrong(header, why)
        # What only retired keys signed may have named anything.
        last = before.header.identity[2] if before is not None and self._is_in_force(before) else 0
        if position < last <= self.identity_end:
            raise self._wrong(header, f"it names identity position {position}, the block before it {last}")

    async def _require_handovers(self, header: Header) -> None:
        """Raise unless the block keeps, gives and takes what the assignment that it knew says."""
        shard = self.of.shard
        known = {each.id: each for each in (shard, *shard.fellows)}
        sharding = Sharding.of(tuple(known.values()), (await self.past.at(header.identity[2])).assignments)
        holders, origins = sharding.now.holders, sharding.origins
        for topic, number in header.next_offsets:
            if holders.get((topic, number), shard.id) != shard.id:
                raise self._wrong(header, f"it keeps {topic} {number}, which is assigned to another shard")
        if not header.handovers:
            return
        if header.leaves or any(r.first != r.next for r in header.ranges):
            raise self._wrong(header, "it hands partitions over, and seals records")
        chains = Chains(self.of.archive, known, shard.described)
        chains.know(sharding)
        for line in header.handovers:
            at = line.topic, line.partition
            if line.way == "gave" and line.other != origins.get(holders.get(at, -1)):
                raise self._wrong(header, f"it gives {at[0]} {at[1]} to {line.other}, against the assignment")
            if line.way != "took":
                continue
            if not await Custody(chains).may_take(shard.id, line, sharding, height=header.height):
                why = (
                    f"it takes {at[0]} {at[1]}, which {line.other} did not give it, or which was taken before"
                )
                raise self._wrong(header, why)

    async def _require_nothing_left_out(self, header: Header, table: pa.Table) -> None:
        position = header.identity[2]
        if position >= self.identity_end or not header.leaves:
            return
        if self._times_from is None or position < self._times_from:
            self._times, self._times_from = await self._identity_times(position), position
        statuses = table["status"].to_pylist()
        newest = newest_judged(zip(statuses, map(timestamp_at, table["timestamp"].to_pylist()), strict=True))
        fault = position_fault(
            position, newest_ms=newest, dated=header.time, times=self._times, sealed_to=self.identity_end
        )
        if fault is not None:
            raise self._wrong(header, fault.detail)

    async def _identity_times(self, position: int) -> IdentityTimes:
        """Return when the events from a position on that took effect were appended."""
        at, times = self.of.shard.identity, IdentityTimes()
        ring = await self.of.identities.catch_up()
        async with self.of.log.open_one_by_one({at: position}) as reader:
            while (await reader.positions())[at] < self.identity_end and not reader.damaged:
                for record in await reader.poll(max_records=POLL_RECORDS_MAX, timeout_ms=POLL_MS):
                    if ring.took_effect(record.offset):
                        times.add(record.offset, record.timestamp_ms)
        return times

    async def _reread(self, header: Header, table: pa.Table) -> Reread | None:
        """Return all records of the block's ranges; None if the log does not have them all any more.

        A partition that ends before its range does is not for here to judge: `require_nothing_lost` stops.
        """
        spans = {(r.topic, r.partition): (r.first, r.next) for r in header.ranges if r.first < r.next}
        if not spans:
            return Reread(())
        fillers: set[Place] = set()
        async with open_without_fillers(self.of.log, spans, table, fillers) as reader:
            beginnings, ends = await reader.beginnings(), await reader.ends()
            if any(beginnings[at] > first or ends[at] < end for at, (first, end) in spans.items()):
                return None
            records = await self._read(header, reader, {at: end for at, (_, end) in spans.items()})
            gone = {at: error.first for at, error in reader.missing.items()}
        return None if records is None else Reread(records, fillers, gone)

    async def _read(
        self, header: Header, reader: LogReader, ends: Mapping[Partition, int]
    ) -> list[Records] | None:
        found: list[Records] = []
        count = size = 0
        while any(position < ends[at] for at, position in (await reader.positions()).items()):
            if any(at in reader.damaged for at in ends):
                return None
            polled = await reader.poll(max_records=POLL_RECORDS_MAX, timeout_ms=POLL_MS)
            fresh = [_before(run, ends[run.topic, run.partition]) for run in polled]
            found += kept([run for run in fresh if len(run)])
            count, size = sum(map(len, found)), sum(map(needed_bytes, found))
            if count > header.leaves or (count > 1 and size > NEEDED_BYTES_MAX):
                raise self._wrong(header, f"its ranges hold more than its {header.leaves} records")
        return found

    def _difference(self, header: Header, ours: pa.Table, sealed: pa.Table, found: Reread) -> Doubt:
        """Raise ForeignBlockError, naming the first row that is wrong; return why if none certainly is."""
        doubtful: Doubt | None = None
        rows = [{tuple(row[name] for name in PLACE): row for row in t.to_pylist()} for t in (ours, sealed)]
        for place in sorted({*rows[0], *rows[1]}):
            right, said = (each.get(place) for each in rows)
            if right == said:
                continue
            statuses = {"no leaf" if row is None else str(row["status"]) for row in (right, said)}
            if place in found.fillers and said is not None and said["status"] != ACCEPTED:
                doubtful = doubtful or Doubt(f"{_named(place)} stands for a record that was lost")
            elif right is None and place[2] >= found.gone.get(place[:2], place[2] + 1):
                doubtful = doubtful or Doubt(f"{_named(place)} is gone from the log")
            elif found.gone and (_shown(said), _shown(right)) == (_DUPLICATE, ACCEPTED):
                # Compaction keeps the last record of a key, which may be a copy of one that is gone.
                doubtful = doubtful or Doubt(f"what {_named(place)} is a copy of may be gone from the log")
            elif statuses & _OF_PACKAGES and len(statuses) > 1:
                why = f"{_named(place)}: {_shown(said)} there, {_shown(right)} here"
                doubtful = Doubt(why, differs=True)
            else:
                why = f"{_named(place)} is sealed as {_shown(said)}, and is {_shown(right)}"
                raise self._wrong(header, why if len(statuses) > 1 else f"{_named(place)} is another record")
        if doubtful is None:
            raise self._wrong(header, "its root or its counts are not those of its rows")
        return doubtful

    def _wrong(self, header: Header, why: str) -> ForeignBlockError:
        return ForeignBlockError(shard=self.of.shard.id, height=header.height, why=why)


def _sealed_again(
    header: Header, records: Sequence[Records], ring: KeyRing, window: DuplicateWindow
) -> tuple[Draft, pa.Table]:
    """Return the block as it is to be, of all records of its ranges."""
    firsts = {(r.topic, r.partition): r.first for r in header.ranges}
    ends = {(r.topic, r.partition): r.next for r in header.ranges}
    cursor = Cursor(header.height, firsts, None, 0)
    batch = Batch(records, ends)
    return draft_block(batch, ends=ends, cursor=cursor, ring=ring, window=window, now=header.time)


def _before(run: Records, end: int) -> Records:
    return run.between(0, bisect_left(run.offsets, end))


def _named(place: Place) -> str:
    return " ".join(map(str, place))


def _shown(row: Mapping[str, object] | None) -> str:
    return "no leaf" if row is None else str(row["status"])
