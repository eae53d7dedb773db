"""Gathers records from the log until they make a block: by count, bytes or age, whichever is first."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Protocol

from salus.sequencer.domain import Batch, SourceRecord
from salus.sequencer.ports import Clock, LogReader

IDLE_POLL_MS = 200


class Stop(Protocol):
    """Says whether the process is to end; an `asyncio.Event` is one."""

    def is_set(self) -> bool:
        """Tell whether to stop."""


@dataclass(frozen=True, slots=True)
class Limits:
    """When a block is closed, and how many may be on their way to the archive at once."""

    records_max: int = 10_000
    bytes_max: int = 5 * 1024 * 1024
    age_ms_max: int = 100
    in_flight_max: int = 2


class Gatherer:
    """Cuts the log into batches; what was read beyond one batch begins the next."""

    def __init__(self, reader: LogReader, clock: Clock, limits: Limits) -> None:
        self.reader = reader
        self._clock = clock
        self._limits = limits
        self._carried: deque[SourceRecord] = deque()
        # When the first record of the batch at hand arrived.
        self.began_ms = 0.0

    async def next_batch(self, stop: Stop) -> Batch | None:
        """Return the next batch; None once `stop` is set.

        One record larger than the limit makes a batch by itself, so that every record gets into some block.
        """
        taken: list[SourceRecord] = []
        room = self._limits.bytes_max
        while not stop.is_set():
            room, full = self._take(taken, room)
            if full:
                return await self._batch_of(taken)
            waits_ms = IDLE_POLL_MS
            if taken:
                waits_ms = int(self.began_ms + self._limits.age_ms_max - self._clock.monotonic_ms())
                if waits_ms <= 0:
                    return await self._batch_of(taken)
            wanted = self._limits.records_max - len(taken)
            self._carried.extend(await self.reader.poll(max_records=wanted, timeout_ms=waits_ms))
        return None

    def _take(self, taken: list[SourceRecord], room: int) -> tuple[int, bool]:
        """Move carried records into the batch; return the bytes left and whether it is full."""
        if self._carried and not taken:
            self.began_ms = self._clock.monotonic_ms()
        carried, records_max = self._carried, self._limits.records_max
        while carried:
            room -= len(carried[0].value or b"")
            if taken and (room < 0 or len(taken) == records_max):
                return room, True
            taken.append(carried.popleft())
        return room, len(taken) == records_max or room <= 0

    async def _batch_of(self, taken: list[SourceRecord]) -> Batch:
        """Say how far the batch reaches; where records were carried over, its own last record says it."""
        carried = {(record.topic, record.partition) for record in self._carried}
        positions = await self.reader.positions()
        return Batch(taken, {at: offset for at, offset in positions.items() if at not in carried})
