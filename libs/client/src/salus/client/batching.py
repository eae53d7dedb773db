"""Gathers what is published within a few milliseconds, and says what of it one signature serves."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from itertools import chain
from typing import Generic, TypeVar

T = TypeVar("T")


def batches_of(items: Sequence[T], lane_of: Callable[[T], Hashable], *, batch_max: int) -> Iterator[list[T]]:
    """Yield the items in as few batches as they fit in, the items of a lane together and in their order.

    Batches of one lane come first, then what is left of all lanes. A lane is a partition: a batch whose
    events stand next to each other is in one block, where its signature is checked once and its paths share
    most nodes; a batch that is strewn over partitions is checked by every shard that has a part of it.
    """
    lanes: dict[Hashable, list[T]] = {}
    for item in items:
        lanes.setdefault(lane_of(item), []).append(item)
    for lane in lanes.values():
        whole = len(lane) - len(lane) % batch_max
        yield from _cut(lane[:whole], batch_max)
        del lane[:whole]
    yield from _cut([*chain.from_iterable(lanes.values())], batch_max)


def _cut(items: Sequence[T], size: int) -> Iterator[list[T]]:
    return ([*items[first : first + size]] for first in range(0, len(items), size))


class Gatherer(Generic[T]):
    """A queue that hands out its items in order, all that are there at once.

    It does so when it has `batch_max` items or `linger_s` seconds after the first one was seen, whichever is
    first. How many there are is bounded by whoever puts (`Room`).
    """

    def __init__(self, *, batch_max: int, linger_s: float) -> None:
        self._batch_max = batch_max
        self._linger_s = linger_s
        self._items: deque[T] = deque()
        self._some = asyncio.Event()
        self._due = asyncio.Event()
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether nothing more is taken."""
        return self._closed

    def put(self, item: T) -> None:
        """Add an item to the end."""
        self._items.append(item)
        self._some.set()
        if len(self._items) >= self._batch_max:
            self._due.set()

    def hurry(self) -> None:
        """Let the items that are there go without lingering."""
        if self._items:
            self._due.set()

    def close(self) -> None:
        """Let what is there go, and end after it."""
        self._closed = True
        self._some.set()
        self._due.set()

    async def take(self) -> list[T]:
        """Wait for what comes next; nothing says that the gatherer is closed and nothing is left."""
        while not self._items and not self._closed:
            self._some.clear()
            await self._some.wait()
        if not self._due.is_set() and self._linger_s > 0:
            try:
                async with asyncio.timeout(self._linger_s):
                    await self._due.wait()
            except TimeoutError:
                pass
        taken = [*self._items]
        self._items.clear()
        if not self._closed:
            self._due.clear()
        return taken
