"""What the sequencer needs from the world."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeVar

from salus.events.keyring import KeyRing
from salus.ledger.records import Placed, Records
from salus.messaging import MissingRecordsError, RestoredRanges
from salus.sequencer.domain import Draft, Partition, Rejection
from salus.sequencer.errors import HaltError

_T = TypeVar("_T")


class Archive(Protocol):
    """The create-once store of blocks.

    Callers may rely on: a method returns only once it knows what happened, however often the store was
    away in between. A write may still land long after its caller died.
    """

    async def read(self, key: str, *, bytes_max: int) -> bytes | None:
        """Return the object, or None if there is none; raises ArchiveDamagedError if it is larger."""

    async def exists(self, key: str) -> bool:
        """Tell whether there is such an object."""

    async def create(self, key: str, data: bytes) -> bool:
        """Write the object if there is none; False if there is one of other bytes, which stays."""

    async def time(self) -> datetime | None:
        """Return what time the store says it is; None if it does not say."""


class LogPositions(Protocol):
    """Partitions that are read from where the archive says.

    Callers may rely on: within a partition records come in offset order and none is left out but those
    that do not exist (markers, compaction). A partition with a damaged batch is not read on, the others are.
    """

    @property
    def damaged(self) -> Mapping[Partition, int]:
        """Where a batch is damaged, by partition."""

    @property
    def missing(self) -> Mapping[Partition, MissingRecordsError]:
        """Where records are gone, by partition."""

    async def positions(self) -> dict[Partition, int]:
        """Return the next offset to be read of each partition."""

    @property
    def seen_ends(self) -> Mapping[Partition, int]:
        """Where each partition ended at least, as the log said when it last handed out records."""

    async def beginnings(self) -> dict[Partition, int]:
        """Return the first offset that the log still has of each partition."""

    async def ends(self) -> dict[Partition, int]:
        """Return the offset after the last record of each partition, of a transaction that is open too."""


class LogReader(LogPositions, Protocol):
    """The shard's partitions, whose records come as columns."""

    async def poll(self, *, max_records: int, timeout_ms: int) -> Sequence[Records]:
        """Return the next records, `max_records` together at most; none if none came in time.

        Raises:
            LogRefusedError: the log does not have the position any more, or not yet.
        """


class SingleLogReader(LogPositions, Protocol):
    """Partitions whose records come one by one, with all their headers."""

    async def poll(self, *, max_records: int, timeout_ms: int) -> Sequence[Placed]:
        """Return what `LogReader` does."""


class Log(Protocol):
    """Where input records come from."""

    @property
    def restored(self) -> RestoredRanges:
        """Which offsets were filled again from the ledger after the log was lost, as network.json says."""

    def open(self, starts: Mapping[Partition, int]) -> AbstractAsyncContextManager[LogReader]:
        """Open the partitions at these offsets."""

    def open_one_by_one(
        self, starts: Mapping[Partition, int]
    ) -> AbstractAsyncContextManager[SingleLogReader]:
        """Open the partitions at these offsets, to look at a few records."""


class PastIdentities(Protocol):
    """The identity topic as it was."""

    async def at(self, position: int) -> KeyRing:
        """Return the ring as of every record before an offset that the topic has; it must not be kept."""


class Identities(Protocol):
    """The fold of the identity topic."""

    async def catch_up(self) -> KeyRing:
        """Return the ring as of every identity record that is in the topic now; `position` says so."""

    def past(self) -> AbstractAsyncContextManager[PastIdentities]:
        """Look back; it is cheapest for positions that ascend."""


@dataclass(frozen=True, slots=True)
class Announcement:
    """A block that exists: where it lies, what it counts and which records it rejects."""

    shard: int
    height: int
    header_key: str
    body_key: str
    leaves: int
    accepted: int
    rejections: tuple[Rejection, ...]
    time: datetime


class Announcements(Protocol):
    """Tells the others; at least once."""

    async def announce(self, block: Announcement) -> None:
        """Return once the announcement and every rejection are acknowledged."""


class Clock(Protocol):
    """The time of day, and a second hand that never goes back."""

    def now(self) -> datetime:
        """Return the wall clock's time, in UTC."""

    def monotonic_ms(self) -> float:
        """Return milliseconds since some moment."""

    async def pause(self, ms: float) -> None:
        """Return so many milliseconds later."""


class Offload(Protocol):
    """Runs pure work beside the event loop."""

    async def __call__(self, work: Callable[[], _T]) -> _T:
        """Return what `work` returns."""


class Observer(Protocol):
    """Is told what happened, for metrics and logs; must not fail."""

    def restored(self, *, height: int | None, window: int) -> None:
        """Take note that the chain was read back: its last height, and how many pairs its window has."""

    def dated_ahead(self, *, height: int, seconds: float) -> None:
        """Take note that the last block has a time to come: by a clock that was wrong, or this one is."""

    def clock_off(self, *, seconds: float) -> None:
        """Take note that no block is dated: our clock is ahead of the store by so much; 0: all is well."""

    def sealed(self, block: Announcement, draft: Draft, *, age_ms: float) -> None:
        """Take note that a block was committed, so long after its first record arrived."""

    def overtaken(self, *, height: int) -> None:
        """Take note that another sequencer was first."""

    def passed_over(self, error: HaltError) -> None:
        """Take note that a wrong block stays in the chain, since the keys that signed it are retired."""

    def doubted(self, *, height: int, why: str, differs: bool) -> None:
        """Take note that another's block cannot be judged; or `differs`, and packages may be the reason.

        What was lost with the log and filled again is no difference.
        """

    def halted(self, error: HaltError) -> None:
        """Raise the alarm: sealing stopped and needs a person."""

    def block(self, height: int, traces: Sequence[bytes]) -> AbstractContextManager[object]:
        """Trace the writing of a block within the context; `traces` are W3C traceparents of its records."""

    def stage(self, name: str) -> AbstractContextManager[object]:
        """Measure what is done within the context."""
