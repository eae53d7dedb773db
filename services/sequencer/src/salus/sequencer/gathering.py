"""Gathers records from the log until they make a block: by count, bytes or age, whichever is first."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import sub
from types import TracebackType
from typing import Protocol, Self

from salus.ledger.records import STRIDE, Part, Records
from salus.sequencer.domain import Batch
from salus.sequencer.intake import kept
from salus.sequencer.ports import Clock, LogReader

IDLE_POLL_MS = 200
_COUNTED = ((Part.VALUE,), (Part.KEY, Part.SIGNATURE, Part.TRACE))
# A batch that is old enough goes on filling until it is asked for, which it learns so late, or with the next
# record.
UNWANTED_POLL_MS = 10


class Stop(Protocol):
    """Says whether the process is to end; an `asyncio.Event` is one."""

    def is_set(self) -> bool:
        """Tell whether to stop."""


class Stretch(Stop, Protocol):
    """Says whether to go on gathering, and looks for reasons to end it when it may."""

    async def look(self) -> None:
        """Look for a reason to end, if it is time to; never while records are judged."""


@dataclass(frozen=True, slots=True)
class Limits:
    """When a block is closed, and how many may be on their way to the archive at once."""

    records_max: int = 10_000
    bytes_max: int = 6 * 1024 * 1024
    age_ms_max: int = 100
    in_flight_max: int = 2


@dataclass(frozen=True, slots=True)
class Gathered:
    """A batch, and when its first record arrived on the clock's second hand."""

    batch: Batch
    began_ms: float


class Cut:
    """What is taken into one batch: as many records as there is room for, by count and by bytes.

    Values have so much room, and what stands beside them (keys, signatures, traces) as much. One record that
    is larger makes a batch by itself, so that every record gets into some block.
    """

    def __init__(self, records_max: int, bytes_max: int) -> None:
        self.taken: list[Records] = []
        self.records_left = records_max
        self.is_full = False
        self._left = dict.fromkeys(_COUNTED, bytes_max)

    def take(self, carried: deque[Records]) -> None:
        """Move what there is room for from the left of `carried` into the batch."""
        while carried and not self.is_full:
            records = carried.popleft()
            count = self._fitting(records)
            if count < len(records):
                carried.appendleft(records.between(count, len(records)))
                records = records.between(0, count)
                self.is_full = True
            if count:
                self.taken.append(records)
                self.records_left -= count
                for parts in _COUNTED:
                    self._left[parts] -= sum(map(records.bytes_of, parts))
        self.is_full |= self.records_left == 0 or min(self._left.values()) <= 0

    def _fitting(self, records: Records) -> int:
        """Return how many of the records fit; the first one of a batch always fits."""
        count = min(len(records), self.records_left)
        some = records if count == len(records) else records.between(0, count)
        for parts, left in self._left.items():
            if sum(map(some.bytes_of, parts)) > left:
                count = min(count, bisect_right(_ends(some, parts), left))
        return max(count, 0 if self.taken else 1)


def _ends(records: Records, parts: Sequence[Part]) -> list[int]:
    """Return how many bytes these parts have up to each record."""
    spans = records.spans
    sizes = (map(sub, spans[2 * part + 1 :: STRIDE], spans[2 * part :: STRIDE]) for part in parts)
    return [*accumulate(map(sum, zip(*sizes, strict=True)))]


class Gatherer:
    """Cuts the log into batches; what was read beyond one batch begins the next.

    The next batch is gathered while the caller works on the one before, and no more than that one. A batch
    that is old enough is cut once it is asked for: nobody could use it before, so it fills up to the limits.

    Use it as an async context manager. What is gathered at its end and was not asked for is dropped: whoever
    goes on opens the log where the chain ends.
    """

    def __init__(self, reader: LogReader, clock: Clock, limits: Limits, stretch: Stretch) -> None:
        self.reader = reader
        self._clock = clock
        self._limits = limits
        self._stretch = stretch
        self._carried: deque[Records] = deque()
        self._gathering: asyncio.Task[Gathered | None] | None = None
        # While somebody waits for a batch nobody judges one.
        self._wanted = False

    async def __aenter__(self) -> Self:
        """Return itself; it begins when it is asked for the first batch."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop gathering; what went wrong with a batch that nobody asked for goes wrong again elsewhere."""
        if self._gathering is not None:
            self._gathering.cancel()
            await asyncio.gather(self._gathering, return_exceptions=True)

    async def next_batch(self) -> Gathered | None:
        """Return the next batch, and begin with the one after it; None once the stretch ends.

        Raises:
            LogRefusedError: the log does not have the position any more, or not yet.
        """
        gathering = self._gathering or asyncio.create_task(self._gather())
        self._gathering, self._wanted = None, True
        try:
            gathered = await gathering
        finally:
            self._wanted = False
        if gathered is not None:
            self._gathering = asyncio.create_task(self._gather())
        return gathered

    async def _gather(self) -> Gathered | None:
        cut, began_ms = Cut(self._limits.records_max, self._limits.bytes_max), 0.0
        while not self._stretch.is_set():
            if self._carried and not cut.taken:
                began_ms = self._clock.monotonic_ms()
            cut.take(self._carried)
            waits_ms = self._waits_ms(began_ms) if cut.taken else IDLE_POLL_MS
            if cut.is_full or waits_ms <= 0:
                return Gathered(await self._batch_of(cut.taken), began_ms)
            self._carried.extend(kept(await self._poll(max_records=cut.records_left, timeout_ms=waits_ms)))
        return None

    def _waits_ms(self, began_ms: float) -> int:
        """Return how long the batch may still wait for records; 0 or less if it is to be cut."""
        rest_ms = int(began_ms + self._limits.age_ms_max - self._clock.monotonic_ms())
        return rest_ms if self._wanted else max(rest_ms, UNWANTED_POLL_MS)

    async def _poll(self, *, max_records: int, timeout_ms: int) -> Sequence[Records]:
        """Return the next records; none if the stretch ends."""
        if self._wanted:
            await self._stretch.look()
        if self._stretch.is_set():
            return ()
        return await self.reader.poll(max_records=max_records, timeout_ms=timeout_ms)

    async def _batch_of(self, taken: list[Records]) -> Batch:
        """Say how far the batch reaches; where records were carried over, its own last record says it."""
        carried = {(record.topic, record.partition) for record in self._carried}
        positions = await self.reader.positions()
        return Batch(taken, {at: offset for at, offset in positions.items() if at not in carried})
