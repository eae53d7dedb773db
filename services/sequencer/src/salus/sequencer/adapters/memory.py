"""The ports in memory, for tests; they pass the same contract tests as the real ones."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from salus.events.keyring import KeyRing
from salus.ledger.records import Records, records_of, timestamp_at
from salus.messaging import MissingRecordsError, Record, RestoredRanges
from salus.runtime.identity_view import apply_identity_record
from salus.sequencer.domain import Draft, Partition
from salus.sequencer.errors import HaltError, LogRefusedError
from salus.sequencer.ports import Announcement

_T = TypeVar("_T")
Turn = Callable[[], Awaitable[None]]
"""Awaited before every effect, so that a test can decide who goes next, or raise to crash somebody."""


async def at_once() -> None:
    """Let others run and go on."""
    await asyncio.sleep(0)


@dataclass
class MemoryClock:
    """A clock that moves only when somebody waits for the log."""

    time: datetime = datetime(2026, 6, 1, tzinfo=UTC)
    elapsed_ms: float = 0.0

    def now(self) -> datetime:
        """Return the wall clock's time."""
        return self.time + timedelta(milliseconds=self.elapsed_ms)

    def monotonic_ms(self) -> float:
        """Return the milliseconds that were waited for."""
        return self.elapsed_ms

    async def pause(self, ms: float) -> None:
        """Let so much time be over."""
        self.elapsed_ms += ms
        await asyncio.sleep(0)


@dataclass
class MemoryTopics:
    """The partitions of a broker: records and the offsets that no record has (None).

    Its clock goes on by a millisecond with each record.
    """

    partitions: dict[Partition, list[Record | None]]
    beginnings: dict[Partition, int] = field(default_factory=dict)
    # Where a batch is damaged: nothing from there on is handed out.
    damaged: dict[Partition, int] = field(default_factory=dict)
    # Where records are gone, which stand as None among the others.
    missing: dict[Partition, MissingRecordsError] = field(default_factory=dict)
    # How many records an answer brings that came after the broker had noted where the partition ends.
    unnoted: dict[Partition, int] = field(default_factory=dict)
    # How often the broker is asked until it says that it has them.
    late_ends: int = 0
    time_ms: int = timestamp_at(MemoryClock.time)

    def append(
        self,
        topic: str,
        partition: int,
        *,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> Record:
        """Add a record and return it."""
        records = self.partitions[topic, partition]
        offset = len(records)
        self.time_ms += 1
        records.append(Record(topic, partition, offset, self.time_ms, key, value, tuple(headers)))
        return records[-1]  # type: ignore[return-value]  # just appended

    def skip(self, topic: str, partition: int) -> None:
        """Use up an offset, as a transaction marker does."""
        self.partitions[topic, partition].append(None)

    def retire(self, topic: str, partition: int, *, beginning: int) -> None:
        """Remove everything before an offset, as retention does."""
        self.beginnings[topic, partition] = beginning

    def noted_end(self, at: Partition) -> int:
        """Return where a partition ended before the answer's last records came."""
        return len(self.partitions[at]) - self.unnoted.get(at, 0)

    def records(self) -> list[Record]:
        """Return every record there ever was, in no particular order."""
        return [r for records in self.partitions.values() for r in records if r is not None]


class SingleMemoryReader:
    """A `SingleLogReader` on topics in memory; waiting moves the clock instead of taking time."""

    def __init__(
        self, topics: MemoryTopics, starts: Mapping[Partition, int], clock: MemoryClock, turn: Turn
    ) -> None:
        self._topics = topics
        self._starts = dict(starts)
        self._next = dict(starts)
        self._clock = clock
        self._turn = turn

    async def poll(self, *, max_records: int, timeout_ms: int) -> list[Record]:
        """Return the next records; if there are none, so much time is over."""
        await self._turn()
        found: list[Record] = []
        for at, offset in self._next.items():
            records = self._topics.partitions[at]
            if not self._topics.beginnings.get(at, 0) <= offset <= len(records):
                raise LogRefusedError("out of range")
            end = self._topics.damaged.get(at, len(records))
            while self._next[at] < end and len(found) < max_records:
                record = records[self._next[at]]
                self._next[at] += 1
                if record is not None:
                    found.append(record)
        if not found:
            self._clock.elapsed_ms += timeout_ms
        return found

    @property
    def damaged(self) -> Mapping[Partition, int]:
        """Where a batch is damaged, by partition."""
        return {at: o for at, o in self._topics.damaged.items() if self._next.get(at, -1) >= o}

    @property
    def missing(self) -> Mapping[Partition, MissingRecordsError]:
        """Where records are gone, by partition."""
        missing = self._topics.missing
        return {at: missing[at] for at in self._starts.keys() & missing if self._is_past(missing[at])}

    def _is_past(self, gap: MissingRecordsError) -> bool:
        at = gap.topic, gap.partition
        return self._starts[at] < gap.end <= self._next[at]

    @property
    def seen_ends(self) -> Mapping[Partition, int]:
        """Where each partition ended when the broker began with its answer."""
        return {at: self._topics.noted_end(at) for at in self._next}

    async def positions(self) -> dict[Partition, int]:
        """Return the next offset to be read of each partition."""
        return dict(self._next)

    async def beginnings(self) -> dict[Partition, int]:
        """Return the first offset that is still there of each partition."""
        await self._turn()
        return {at: self._topics.beginnings.get(at, 0) for at in self._next}

    async def ends(self) -> dict[Partition, int]:
        """Return the offset after the last of each partition."""
        await self._turn()
        if self._topics.late_ends:
            self._topics.late_ends -= 1
            return {at: self._topics.noted_end(at) for at in self._next}
        return {at: len(self._topics.partitions[at]) for at in self._next}


class MemoryReader:
    """A `LogReader` on topics in memory."""

    def __init__(
        self, topics: MemoryTopics, starts: Mapping[Partition, int], clock: MemoryClock, turn: Turn
    ) -> None:
        self._reader = SingleMemoryReader(topics, starts, clock, turn)
        self.positions = self._reader.positions
        self.beginnings = self._reader.beginnings
        self.ends = self._reader.ends

    @property
    def damaged(self) -> Mapping[Partition, int]:
        """Where a batch is damaged, by partition."""
        return self._reader.damaged

    @property
    def missing(self) -> Mapping[Partition, MissingRecordsError]:
        """Where records are gone, by partition."""
        return self._reader.missing

    @property
    def seen_ends(self) -> Mapping[Partition, int]:
        """Where each partition ends."""
        return self._reader.seen_ends

    async def poll(self, *, max_records: int, timeout_ms: int) -> list[Records]:
        """Return the next records; if there are none, so much time is over."""
        return records_of(await self._reader.poll(max_records=max_records, timeout_ms=timeout_ms))


@dataclass
class MemoryLog:
    """A `Log` on topics in memory."""

    topics: MemoryTopics
    clock: MemoryClock
    turn: Turn = at_once
    restored: RestoredRanges = field(default_factory=dict)

    @asynccontextmanager
    async def open(self, starts: Mapping[Partition, int]) -> AsyncIterator[MemoryReader]:
        """Open the partitions at these offsets."""
        await self.turn()
        yield MemoryReader(self.topics, starts, self.clock, self.turn)

    @asynccontextmanager
    async def open_one_by_one(self, starts: Mapping[Partition, int]) -> AsyncIterator[SingleMemoryReader]:
        """Open the partitions at these offsets, to look at a few records."""
        await self.turn()
        yield SingleMemoryReader(self.topics, starts, self.clock, self.turn)


@dataclass
class MemoryIdentities:
    """The `Identities` of an identity partition in memory."""

    topics: MemoryTopics
    partition: Partition
    new_ring: Callable[[], KeyRing]
    turn: Turn = at_once
    ring: KeyRing = field(init=False)

    def __post_init__(self) -> None:
        self.ring = self.new_ring()

    async def catch_up(self) -> KeyRing:
        """Fold what is there and return the ring."""
        return await self.at(len(self.topics.partitions[self.partition]))

    @asynccontextmanager
    async def past(self) -> AsyncIterator[MemoryIdentities]:
        """Look back with a ring of its own."""
        yield MemoryIdentities(self.topics, self.partition, self.new_ring, self.turn)

    async def at(self, position: int) -> KeyRing:
        """Fold what is before an offset, and return the ring; a position never goes back."""
        await self.turn()
        for record in self.topics.partitions[self.partition][self.ring.position : position]:
            if record is not None:
                apply_identity_record(self.ring, record)
        self.ring.position = position
        return self.ring


@dataclass
class MemoryAnnouncements:
    """Remembers what was announced."""

    announced: list[Announcement] = field(default_factory=list)
    turn: Turn = at_once

    async def announce(self, block: Announcement) -> None:
        """Remember the block."""
        await self.turn()
        self.announced.append(block)


@dataclass
class SilentObserver:
    """Counts and keeps silent."""

    blocks: int = 0
    races_lost: int = 0
    ahead: list[tuple[int, float]] = field(default_factory=list)
    off: list[float] = field(default_factory=list)
    passed: list[str] = field(default_factory=list)
    doubtful: list[tuple[int, str]] = field(default_factory=list)

    def restored(self, *, height: int | None, window: int) -> None:  # the port's shape
        """Keep silent."""

    def dated_ahead(self, *, height: int, seconds: float) -> None:
        """Remember it."""
        self.ahead.append((height, seconds))

    def clock_off(self, *, seconds: float) -> None:
        """Remember it."""
        self.off.append(seconds)

    def sealed(self, block: Announcement, draft: Draft, *, age_ms: float) -> None:  # noqa: ARG002  # the port's shape
        """Count a block."""
        self.blocks += 1

    def overtaken(self, *, height: int) -> None:  # noqa: ARG002  # the port's shape
        """Count a lost race."""
        self.races_lost += 1

    def passed_over(self, error: HaltError) -> None:
        """Remember it."""
        self.passed.append(str(error))

    def doubted(self, *, height: int, why: str, differs: bool) -> None:  # noqa: ARG002  # the port's shape
        """Remember it."""
        self.doubtful.append((height, why))

    def halted(self, error: HaltError) -> None:
        """Keep silent."""

    @contextmanager
    def block(self, height: int, traces: Sequence[bytes]) -> Iterator[None]:  # noqa: ARG002  # the port's shape
        """Do nothing."""
        yield

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:  # noqa: ARG002  # the port's shape
        """Do nothing."""
        yield


async def inline(work: Callable[[], _T]) -> _T:
    """Run the work at once, so that a schedule of steps is the same every time."""
    return work()
