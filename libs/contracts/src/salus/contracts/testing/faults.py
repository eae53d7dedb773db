"""What can become of one event that a service publishes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from enum import StrEnum


class Fault(StrEnum):
    """What becomes of one event, other than that it takes effect."""

    LOST = "lost"
    """Kafka does not answer, and the event is not there and will not be."""
    REPLACED = "replaced"
    """Kafka acknowledges the event, and another record stands in its place."""
    LATE = "late"
    """Kafka does not answer; the event is there, after the caller was told that nobody knows."""
    STALE = "stale"
    """Another change of the same subject comes first."""
    NAME_TAKEN = "name-taken"
    """Another event claims a name that this one claims, and comes first."""
    NOT_ENTITLED = "not-entitled"
    """Who asked had lost the right when the event was appended."""
    REFUSED = "refused"
    """Everybody who judges the record rejects it."""
    CRASH_BEFORE = "crash-before"
    """The process ends, and has sent nothing."""
    CRASH_AFTER = "crash-after"
    """The process ends, and the event is there."""


class CrashError(BaseException):
    """The process has ended: nothing of it may go on, so no handler of errors catches this by chance."""


class Schedule:
    """The faults of the events to come, one each; None and the end of it mean that all is well."""

    def __init__(self, faults: Iterable[Fault | None] = ()) -> None:
        """Begin with these. Several fakes may share an iterator, to draw one order of faults over all."""
        self._next: deque[Fault | None] = deque()
        self._faults: Iterator[Fault | None] = iter(faults)

    def add(self, fault: Fault | None, *, times: int = 1) -> None:
        """Let so many of the next events meet a fault, after those for which one is set already."""
        self._next.extend([fault] * times)

    def take(self) -> Fault | None:
        """Return what becomes of the next event."""
        return self._next.popleft() if self._next else next(self._faults, None)
