"""Keeps what was received and not handed out yet, and shares out what is handed out among partitions."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from typing import Generic, Protocol, Self, TypeVar

# An answer of events, of 336 bytes at least, has fewer. More are a flood of tiny records, which must not keep
# other partitions waiting. What is usual is handed out as it came: batches that are cut cost more to judge.
FLOOD_RECORDS_MIN = 20_000
# While so much waits, no others are asked for, even in a flood: each partition may bring a batch of 32 MiB.
# As columns, one partition alone never has so much: its answer is one such batch, or 6 MiB of batches of tiny
# records and, beside them, 80 bytes for each record.
WAITING_BYTES_MAX = 128 * 1024 * 1024

Partition = tuple[str, int]


class Run(Protocol):
    """Records of one partition that came together, at least one."""

    @property
    def topic(self) -> str: ...  # noqa: D102  # plain data
    @property
    def partition(self) -> int: ...  # noqa: D102
    @property
    def offsets(self) -> Sequence[int]: ...  # noqa: D102
    @property
    def data(self) -> bytes:
        """What it keeps of an answer, which others may keep as well."""

    @property
    def own_bytes(self) -> int:
        """How much memory it takes beside `data`."""

    def __len__(self) -> int: ...
    def between(self, first: int, end: int) -> Self:
        """Return those from the `first` on and before `end`."""


_R = TypeVar("_R", bound=Run)


class Backlog(Generic[_R]):
    """Runs of records by partition, each in the order in which it came."""

    def __init__(self) -> None:
        self._queues: dict[Partition, deque[_R]] = {}
        # How much of the first run was handed out: what is left of it is not copied for each who takes some.
        self._given: dict[Partition, int] = {}
        self._left: dict[Partition, int] = {}
        # How many runs keep the same bytes, by their identity: an answer is counted once.
        self._sharers: Counter[int] = Counter()
        self._bytes = 0

    def __bool__(self) -> bool:
        return bool(self._queues)

    @property
    def is_flood(self) -> bool:
        """Whether more waits than events can be."""
        return sum(self._left.values()) > FLOOD_RECORDS_MIN

    @property
    def has_room(self) -> bool:
        """Whether less waits than may, in bytes; what a run takes is given back with its last record."""
        return self._bytes < WAITING_BYTES_MAX

    @property
    def places(self) -> Iterable[Partition]:
        """The partitions of which something waits."""
        return self._queues.keys()

    def add(self, runs: Iterable[_R]) -> None:
        """Keep these as well."""
        for run in runs:
            place = run.topic, run.partition
            self._queues.setdefault(place, deque()).append(run)
            self._left[place] = self._left.get(place, 0) + len(run)
            self._keep(run)

    def take(self, room: int) -> list[_R]:
        """Hand out so many records; in a flood each partition has a share, and leaves what it needs not."""
        is_flood, taken = self.is_flood, list[_R]()
        places = sorted(self._queues, key=self._left.__getitem__) if is_flood else [*self._queues]
        for number, place in enumerate(places):
            share = -(-room // (len(places) - number)) if is_flood else room
            for run in self._taken(place, share):
                room -= len(run)
                taken.append(run)
        return taken

    def first(self, place: Partition) -> int | None:
        """Return the offset of a partition that is handed out next; None if nothing of it waits."""
        queue = self._queues.get(place)
        return None if queue is None else queue[0].offsets[self._given.get(place, 0)]

    def drop(self, place: Partition) -> None:
        """Forget what waits of a partition."""
        for run in self._queues.get(place, ()):
            self._let_go(run)
        for kept in (self._queues, self._given, self._left):
            kept.pop(place, None)

    def _taken(self, place: Partition, room: int) -> list[_R]:
        taken, queue = list[_R](), self._queues[place]
        while queue and room > 0:
            run, first = queue[0], self._given.get(place, 0)
            end = min(first + room, len(run))
            room -= end - first
            self._left[place] -= end - first
            self._given[place] = end
            if end == len(run):
                self._let_go(queue.popleft())
                self._given[place] = 0
            taken.append(run if end - first == len(run) else run.between(first, end))
        if not queue:
            self.drop(place)
        return taken

    def _keep(self, run: _R) -> None:
        if not self._sharers[id(run.data)]:
            self._bytes += len(run.data)
        self._sharers[id(run.data)] += 1
        self._bytes += run.own_bytes

    def _let_go(self, run: _R) -> None:
        self._sharers[id(run.data)] -= 1
        if not self._sharers[id(run.data)]:
            del self._sharers[id(run.data)]
            self._bytes -= len(run.data)
        self._bytes -= run.own_bytes
