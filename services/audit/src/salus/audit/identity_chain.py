"""Follows the identity topic through the blocks that seal it, ahead of the trail where a block asks for it.

Every header says up to which position of that topic its block was judged. That position may lie beyond what
the trail has indexed, even beyond the block's own range of the topic: a sequencer follows the topic faster
than it seals. So the topic is read here by itself, from the shard that seals it, and from the next one where
it was handed over. No block of another shard is waited for on the way, so nothing can wait in a circle.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

import structlog

from salus.audit.block_reader import read_header, read_rows
from salus.audit.domain.blocks import Block, BlockRefusedError, JudgedRows, judge_rows
from salus.audit.domain.identity_history import IdentityHistory, stamped
from salus.audit.ports import BehindError, IdentityPlace, IdentityStore, Ledger, OutOfReachError, Tip
from salus.events.identity_position import PositionFault, newest_judged, position_fault
from salus.events.keyring import KeyRing
from salus.ledger.block import ACCEPTED, Header, Range, open_header
from salus.ledger.check_blocks import Row
from salus.ledger.errors import BlockError
from salus.ledger.key_periods import Keys, history_of, is_void
from salus.ledger.note import split_note
from salus.ledger.records import timestamp_at

# How far it was read is noted after every block with events, and else after so many blocks.
BLOCKS_UNNOTED_MAX = 100
# Of a stolen key so many blocks count as forged, back from where it retired.
FORGED_BLOCKS_MAX = 10_000

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class IdentityTopic:
    """Where the identity events stand, the origin of the shard that seals them first, and the first ring.

    `judge` says of rows which are not what they are sealed as, by the ring (`domain.blocks.judge_rows`).
    """

    partition: tuple[str, int]
    founder: str
    new_ring: Callable[[], KeyRing]
    judge: Callable[[Sequence[Row], KeyRing, int | None], Mapping[int, str]] = judge_rows


class IdentityChain:
    """Reads the identity topic from the ledger. `position` says how far, `history` what it says up to there.

    What was read is noted in `store`, so that a start need not read it again; without one it is kept in
    memory only.
    """

    def __init__(
        self,
        ledger: Ledger,
        shards: Mapping[int, Keys],
        topic: IdentityTopic,
        store: IdentityStore | None = None,
    ) -> None:
        self._ledger = ledger
        self._shards = shards
        self._topic = topic
        self._store = store
        # Whoever judges rights reads on here beside the indexer.
        self._turn = asyncio.Lock()
        self._begin()

    def _begin(self) -> None:
        self.position = 0
        self.history = IdentityHistory(self._topic.new_ring())
        # Which blocks seal the topic: of an origin, from a height on, up to where it was read.
        self._sealed: list[tuple[str, int, int]] = []
        # For the comparison, which is made without a store: the SHA-256 of each event.
        self._digests: dict[int, bytes] = {}
        # The block that was folded last, until the indexer takes it: its header's note, and its rows, of
        # which those of the topic that are sealed as accepted were judged.
        self._last: tuple[bytes, JudgedRows] | None = None
        # When the last block was sealed that was read and whose time can be believed.
        self._dated: datetime | None = None
        # The accepted events that were read and not noted, and the number of blocks since the last note.
        self._unnoted: dict[int, bytes] = {}
        self._blocks_unnoted = 0
        self._noted: IdentityPlace | None = None
        # The block to read next: of which shard, after which tip, and from which block it takes the topic.
        self._origin = self._topic.founder
        self._tip = Tip(0, None)
        self._given_by: str | None = None
        # Once the chain that has it ended: how far the others were searched for the block that takes it.
        self._sought: dict[int, Tip] = {}

    @property
    def noted_to(self) -> int:
        """How far `store` has what was read."""
        return min(self._unnoted, default=self.position)

    async def reach(self, block: Block) -> IdentityHistory:
        """Return the history at least up to where a block was judged, and to the end of its own range.

        A position that the topic did not have when the block was sealed is not waited for.

        Raises:
            BehindError: the ledger does not hold the topic that far yet.
            BlockRefusedError: the block, or one that seals the topic, does not verify.
            OutOfReachError: archive or database is away.
        """
        header = block.header
        range_, named = self._range_in(header), header.identity[2]
        own = range_.next if range_ else 0
        async with self._turn:
            await self._load()
            while True:
                lacks_own = self.position < own or self._is_before(header)
                # While there is more to read, how far the topic is sealed is not known.
                is_read = self.position >= named or self._fault_of(header, None, sealed_to=named)
                if not lacks_own and is_read:
                    return self.history
                if await self.step():
                    continue
                if lacks_own or self._fault_of(header, None, sealed_to=self.position) is None:
                    wanted = max(named, own)
                    why = f"it needs the identity topic up to {wanted}, the ledger has {self.position} of it"
                    raise BehindError(shard=block.shard, height=header.height, why=why)
                return self.history

    async def read_on(self) -> IdentityHistory:
        """Return the history up to the end of what the ledger has of the topic; raises as `reach`."""
        async with self._turn:
            await self._load()
            while await self.step():
                pass
            return self.history

    async def rows_of(self, block: Block) -> JudgedRows:
        """Return the rows of a block, each of which is judged once; `reach` came before.

        Raises:
            BlockRefusedError: the body does not verify.
            OutOfReachError: the archive is away.
        """
        async with self._turn:
            rows, wrong, places = await self._unjudged_of(block)
            newest_ms = newest_judged((row.status, timestamp_at(row.timestamp)) for row in rows)
            await self._read_past(newest_ms)
            history = self.history
            fault = self._fault_of(block.header, newest_ms, sealed_to=self.position)
            unread = history.times.earliest_from(block.header.identity[2]) if fault is None else None
            left = [rows[place] for place in places]
            unread_ms = None if unread is None else unread[1]
            found = await asyncio.to_thread(self._topic.judge, left, history.ring, unread_ms)
        wrong = {**wrong, **{places[number]: verdict for number, verdict in found.items()}}
        return JudgedRows(rows, wrong, fault)

    async def _unjudged_of(self, block: Block) -> tuple[Sequence[Row], Mapping[int, str], Sequence[int]]:
        """Return a block's rows, what was wrong with those that were judged, and where the others are."""
        if self._last is None or self._last[0] != block.note:
            rows = await read_rows(self._ledger, block)
            return rows, {}, range(len(rows))
        # Its rows of the identity topic were judged as they were folded.
        (_, judged), self._last = self._last, None
        left = [place for place, row in enumerate(judged.rows) if not self._is_folded(row)]
        return judged.rows, judged.wrong, left

    async def _read_past(self, newest_ms: int | None) -> None:
        """Read up to a block that was sealed after a record, or to the end: events before it are known then.

        So what is said of a block does not depend on when it is read.
        """
        while newest_ms is not None and (self._dated is None or timestamp_at(self._dated) < newest_ms):
            try:
                if not await self.step():
                    return
            except BlockRefusedError:
                # That is said where the shard's blocks are indexed.
                return

    def _fault_of(self, header: Header, newest_ms: int | None, *, sealed_to: int) -> PositionFault | None:
        if header.identity[:2] != self._topic.partition:
            detail = f"it was judged by {header.identity[0]} {header.identity[1]}"
            return PositionFault("identity-ahead", detail)
        return position_fault(
            header.identity[2],
            newest_ms=newest_ms,
            dated=header.time,
            times=self.history.times,
            sealed_to=sealed_to,
        )

    async def step(self) -> bool:
        """Read the next block that seals the topic, or that may; return False if there is none yet."""
        shard = next((id_ for id_, keys in self._shards.items() if keys.name == self._origin), None)
        if shard is not None and is_void(self._shards[shard], self._tip.height):
            return await self._step_to_heir()
        block = None
        if shard is not None:
            block = await read_header(self._ledger, shard, self._tip, self._shards[shard])
        if block is None:
            return False
        if self._given_by is not None and self._handed(block.header, "took") != self._given_by:
            self._tip = Tip(block.header.height + 1, block.note)
            self._date(block.header, block.note)
            return True
        return await self._step_to(block)

    async def _step_to_heir(self) -> bool:
        """Read the next block that may take what a chain left by its end, or was to take; any shard may."""
        left_by = self._given_by or f"{self._origin}/block/{self._tip.height - 1}"
        for shard, keys in tuple(self._shards.items()):
            tip = self._sought.get(shard, Tip(0, None))
            block = await read_header(self._ledger, shard, tip, keys)
            if block is None:
                continue
            if self._handed(block.header, "took") == left_by:
                return await self._step_to(block)
            self._sought[shard] = Tip(block.header.height + 1, block.note)
            return True
        return False

    async def _step_to(self, block: Block) -> bool:
        """Read a block that seals the topic."""
        self._take(await self._fold_block(block))
        self._go_on(block.header, block.note)
        await self._note(IdentityPlace(block.shard, block.note))
        return True

    def seals(self, header: Header) -> bool:
        """Tell whether the topic was read from this block, or was handed over in it."""
        return any(
            origin == header.origin and first <= header.height < following
            for origin, first, following in self._sealed
        )

    def digests_below(self, position: int) -> dict[int, bytes]:
        """Return the SHA-256 of each event below a position, as far as it was read without a store."""
        return {offset: digest for offset, digest in self._digests.items() if offset < position}

    def position_after(self, header: Header) -> int:
        """Return how far the topic is sealed after a block that seals it."""
        range_ = self._range_in(header)
        return 0 if range_ is None else range_.next

    def _take(self, values: Mapping[int, bytes]) -> None:
        if self._store is None:
            self._digests |= {offset: sha256(value).digest() for offset, value in values.items()}
        else:
            self._unnoted |= values

    async def _fold_block(self, block: Block) -> dict[int, bytes]:
        """Fold the accepted events of the topic in a block, which must go on where the last one ended."""
        range_ = self._range_in(block.header)
        if range_ is None or range_.first != self.position:
            detail = f"it does not go on at {self.position} of the identity topic"
            raise BlockRefusedError(
                shard=block.shard, height=block.header.height, code="range-gap", detail=detail
            )
        if range_.first == range_.next:
            return {}
        rows = await read_rows(self._ledger, block)
        values, wrong = await asyncio.to_thread(self._fold_rows, rows)
        self._last = block.note, JudgedRows(rows, wrong)
        return values

    def _fold_rows(self, rows: Sequence[Row]) -> tuple[dict[int, bytes], dict[int, str]]:
        """Fold the topic's events, each judged by those before it, but for what was not to be accepted.

        Return those that were folded by offset, as `stamped` keeps them, and the verdicts on the others.
        """
        values: dict[int, bytes] = {}
        wrong: dict[int, str] = {}
        for place, row in enumerate(rows):
            if not self._is_folded(row) or row.value is None:
                continue
            verdicts = self._topic.judge([row], self.history.ring, None)
            if verdicts:
                wrong[place] = verdicts[0]
                continue
            values[row.offset] = stamped(row.value, timestamp_at(row.timestamp))
            self.history.fold(row.offset, values[row.offset])
        return values, wrong

    def _is_folded(self, row: Row) -> bool:
        return self._is_of_topic(row) and row.status == ACCEPTED

    def _is_of_topic(self, row: Row) -> bool:
        return (row.topic, row.partition) == self._topic.partition

    def _go_on(self, header: Header, note: bytes) -> None:
        self.position = self.position_after(header)
        self._date(header, note)
        origin, following = header.origin, header.height + 1
        if self._sealed and self._sealed[-1][0] == origin and self._sealed[-1][2] == header.height:
            self._sealed[-1] = (origin, self._sealed[-1][1], following)
        else:
            self._sealed.append((origin, header.height, following))
        self._sought = {}
        given_to = self._handed(header, "gave")
        if given_to is None:
            self._origin, self._tip, self._given_by = origin, Tip(following, note), None
        else:
            self._origin, self._tip, self._given_by = given_to, Tip(0, None), header.block_origin

    def _date(self, header: Header, note: bytes) -> None:
        """Note when a block was sealed that was read, if its time can be believed.

        Of a key that retired soon after it, what it sealed may be forged, and the time with it: then one is
        waited for that another key sealed.
        """
        history = next(history_of(keys) for keys in self._shards.values() if keys.name == header.origin)
        if history.counting(split_note(note)[1], header.height + FORGED_BLOCKS_MAX):
            self._dated = header.time

    def _handed(self, header: Header, way: str) -> str | None:
        """Return to whom a block gave the topic, or from which block it took it."""
        partition = self._topic.partition
        ours = (h.other for h in header.handovers if (h.way, h.topic, h.partition) == (way, *partition))
        return next(ours, None)

    def _is_before(self, header: Header) -> bool:
        """Tell whether this block is still to be read here, so that the trail is never ahead."""
        here = self._given_by is None and self._origin == header.origin
        return here and self._tip.height <= header.height

    def _range_in(self, header: Header) -> Range | None:
        return next((r for r in header.ranges if (r.topic, r.partition) == self._topic.partition), None)

    async def _load(self) -> None:
        """Take what is noted, unless it is what was noted here last.

        The history goes on if that goes on from what was read here, as what another replica noted does. It
        begins anew if the chain that was read has ended before.
        """
        if self._has_void():
            self._begin()
            if self._store is not None:
                await self._store.drop_identity()
        if self._store is None or (place := await self._store.identity_place()) == self._noted:
            return
        if place is None:
            self._begin()
            return
        if place.shard not in self._shards:
            # It was added by an event, and its key comes from Kafka.
            raise OutOfReachError(f"the key of shard {place.shard}, which seals the identity topic")
        try:
            header = open_header(place.note, self._shards[place.shard])
        except BlockError:
            _log.error("what was noted of the identity topic is not readable: it is read again")
            self._begin()
            await self._store.drop_identity()
            return
        events = await self._store.identity_events(self.position_after(header))
        if self.position > self.position_after(header) or not await asyncio.to_thread(self._begins, events):
            self._begin()
        unread = {offset: value for offset, value in events.items() if offset >= self.position}
        # Whoever looks at `position` meanwhile, beside the lock, finds in `history` all that is below it.
        await asyncio.to_thread(self._fold, unread)
        self._noted, self._unnoted, self._blocks_unnoted = place, {}, 0
        self._go_on(header, place.note)

    def _has_void(self) -> bool:
        """Tell whether the topic was read from what lies behind the end of a chain."""
        keys_of = {keys.name: keys for keys in self._shards.values()}
        sealed = ((keys_of.get(origin), following - 1) for origin, _, following in self._sealed)
        return any(keys is not None and is_void(keys, height) for keys, height in sealed)

    def _begins(self, events: Mapping[int, bytes]) -> bool:
        """Tell whether these events begin with those that were read."""
        return self.history.is_of({each: kept for each, kept in events.items() if each < self.position})

    def _fold(self, events: Mapping[int, bytes]) -> None:
        for offset, value in events.items():
            self.history.fold(offset, value)

    async def _note(self, place: IdentityPlace) -> None:
        """Note how far the topic was read; if another process did so first, `_load` takes what it noted."""
        self._blocks_unnoted += 1
        due = self._unnoted or self._given_by is not None or self._blocks_unnoted >= BLOCKS_UNNOTED_MAX
        if self._store is None or not due:
            return
        if await self._store.note_identity(self._unnoted, place, before=self._noted):
            self._noted = place
        self._unnoted, self._blocks_unnoted = {}, 0
