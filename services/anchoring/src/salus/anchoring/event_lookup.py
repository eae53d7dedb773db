"""Follows the log with the event index, in the time that is left over, and answers from it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

import structlog

from salus.anchoring.event_index import (
    EventIndex,
    EventIndexError,
    FullIndexError,
    IndexedEvent,
    Row,
    prints_of,
)
from salus.anchoring.metrics import Metrics
from salus.anchoring.runner import Runner
from salus.archive.blocks import BlockArchive
from salus.archive.body import ACCEPTED
from salus.archive.columns import columns_of_body
from salus.archive.errors import ArchiveError, MissingError
from salus.client import EventName
from salus.ledger.block import Header, header_key
from salus.ledger.errors import BlockError
from salus.ledger.merkle import leaf_hash
from salus.objects import ObjectsError
from salus.runtime.supervisor import failed, resting, succeeded

PAUSE_S = 1.0
# What could not be read is read again this often, so many blocks at a time: it may have been repaired. A file
# that cannot be used is tried again as often.
GAPS_LOOK_S = 60.0
GAPS_AT_ONCE_MAX = 16

_log = structlog.get_logger()


class EventLookup:
    """Finds accepted events by source and id.

    `run` reads the body of each block once, up to the published checkpoint. It works for at most `share` of
    the time, so that sealing and receipts go first; the index is behind meanwhile, and says so (`behind`).
    """

    def __init__(  # noqa: PLR0913  # what it reads, and how hard it may work
        self,
        index: EventIndex,
        runner: Runner,
        blocks: BlockArchive,
        metrics: Metrics,
        *,
        open_note: Callable[[int, bytes], Header],
        share: float,
    ) -> None:
        self._index = index
        self._runner = runner
        self._blocks = blocks
        self._metrics = metrics
        self._open_note = open_note
        self._rests = (1 - share) / share
        self._grown = asyncio.Condition()
        self._gaps_due = 0.0
        self._gaps_tried = 0
        self._unusable: EventIndexError | None = None
        # Of a file that fails again before it was complete, another new one is no cure.
        self._may_clear = True

    @property
    def size(self) -> int:
        """How many entries of the log are in the index."""
        return self._index.size

    @property
    def behind(self) -> int:
        """How many entries of the published log are not in the index yet."""
        published = self._runner.published
        return max(0, published.head.size - self._index.size) if published else 0

    @property
    def gaps(self) -> int:
        """How many entries could not be read when their turn came, and not since."""
        return len(self._index.gaps)

    async def find(self, name: EventName, wait_s: float) -> IndexedEvent | None:
        """Return where the first accepted event of that name is, waiting for it up to `wait_s` seconds.

        Raises:
            EventIndexError: the index cannot be read; it is made anew or tried again.
        """
        found = await self._find(name)
        try:
            async with asyncio.timeout(wait_s), self._grown:
                while found is None:
                    # Once more, for it may have come before we held the condition.
                    found = await self._find(name)
                    if found is None:
                        await self._grown.wait()
        except TimeoutError:
            pass
        return found

    async def _find(self, name: EventName) -> IndexedEvent | None:
        try:
            found = await asyncio.to_thread(
                self._index.find, name.source, name.id, counts=lambda entry: not self._is_void(entry)
            )
        except EventIndexError as error:
            self._unusable = error
            raise
        published = self._runner.published
        return found if published and found and found.entry < published.head.size else None

    def _is_void(self, entry: int) -> bool:
        """Tell whether an entry is behind the end of its chain, perhaps only since it was indexed."""
        return entry < len(self._runner.anchor.index) and self._runner.anchor.is_void(entry)

    async def run(self) -> None:
        """Index until cancelled."""
        with resting():
            await self._runner.wait_beyond(-1)
        fresh = False
        while True:
            try:
                if not fresh:
                    await self._require_same_log()
                    fresh = True
                await self._wait()
                await self._mend()
                while self.behind:
                    await self._add_next()
                    succeeded()
                self._may_clear = True
                if self._index.gaps and time.monotonic() >= self._gaps_due:
                    await self._fill_gaps()
                    self._gaps_due = time.monotonic() + GAPS_LOOK_S
                    succeeded()
            except ObjectsError as error:
                failed(error)
                await asyncio.sleep(PAUSE_S)
            except EventIndexError as error:
                self._unusable = error
                failed(error)
                await asyncio.sleep(PAUSE_S if self._mends(error) else GAPS_LOOK_S)

    def _mends(self, error: EventIndexError) -> bool:
        return self._may_clear and not isinstance(error, FullIndexError)

    async def _mend(self) -> None:
        """Begin anew if the file could not be used; once, until it was complete, and not on a full disk."""
        error = self._unusable
        if error is not None and self._mends(error):
            _log.warning("the event index is made anew", why=str(error))
            self._may_clear = False
            await asyncio.to_thread(self._index.clear)
        self._unusable = None

    async def _require_same_log(self) -> None:
        """Begin anew unless the last entry of the index is in the log where it was."""
        size, known = self._index.size, len(self._runner.anchor.index)
        if size == 0:
            return
        if size <= known:
            note = await self._blocks.header(*self._runner.anchor.index.block_at(size - 1))
            if note is not None and leaf_hash(note) == self._index.last:
                return
        _log.warning("the event index is of another log and is made anew", entries=size)
        await asyncio.to_thread(self._index.clear)

    async def _wait(self) -> None:
        """Wait until there is something to index, or it is time to look at the file and the gaps again."""
        left_s = max(0.0, self._gaps_due - time.monotonic()) if self._index.gaps else GAPS_LOOK_S
        if self._unusable is not None:
            return
        with resting(), suppress(TimeoutError):
            async with asyncio.timeout(left_s):
                await self._runner.wait_beyond(self._index.size)

    async def _add_next(self) -> None:
        began = time.monotonic()
        entry = self._index.size
        note, rows = await self._read(entry)
        if rows is None:
            self._metrics.unindexed_blocks.inc()
        await asyncio.to_thread(self._index.add, entry, leaf_hash(note), rows)
        self._metrics.indexed_entries.set(self._index.size)
        await self._tell_and_rest(began)

    async def _fill_gaps(self) -> None:
        """Read a few gaps again, those first that have not been read for the longest time."""
        later = [gap for gap in self._index.gaps if gap >= self._gaps_tried]
        for gap in (later or self._index.gaps)[:GAPS_AT_ONCE_MAX]:
            began = time.monotonic()
            _, rows = await self._read(gap)
            if rows is not None:
                await asyncio.to_thread(self._index.fill, gap, rows)
            self._gaps_tried = gap + 1
            await self._tell_and_rest(began)

    async def _read(self, entry: int) -> tuple[bytes, list[Row] | None]:
        """Return an entry's header note and its accepted events, None if they cannot be read."""
        shard, height = self._runner.anchor.index.block_at(entry)
        note = await self._blocks.header(shard, height) or b""
        if self._is_void(entry):
            return note, []
        try:
            if not note:
                raise MissingError(header_key(shard, height), "the header is missing")
            body = await self._blocks.body(shard, self._open_note(shard, note))
            return note, await asyncio.to_thread(_rows_of, body)
        except (ArchiveError, BlockError) as error:
            # Scrubbing raises the alarm; the others' events must be found all the same.
            _log.error("a block is not in the event index", shard=shard, height=height, why=str(error))
            return note, None

    async def _tell_and_rest(self, began: float) -> None:
        async with self._grown:
            self._grown.notify_all()
        await asyncio.sleep((time.monotonic() - began) * self._rests)


def _rows_of(body: bytes) -> list[Row]:
    columns = columns_of_body(body, names=["status", "source", "id", "time"])
    accepted = [row for row, status in enumerate(columns["status"]) if status == ACCEPTED]
    pairs = [(columns["source"][row], columns["id"][row]) for row in accepted]
    times = [columns["time"][row] for row in accepted]
    return [*zip(prints_of(pairs), accepted, times, strict=True)]
