"""Gathers what is published within a few milliseconds, so that one signature serves all of it."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Gatherer(Generic[T]):
    """A queue that hands out its items in order, in batches.

    A batch closes when it has `batch_max` items or `linger_s` seconds after its first one was seen,
    whichever is first. Its length is bounded by whoever puts (`Room`).
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

    async def next_batch(self) -> list[T]:
        """Wait for the next batch; an empty one says that the gatherer is closed and nothing is left."""
        while not self._items and not self._closed:
            self._some.clear()
            await self._some.wait()
        if not self._due.is_set() and self._linger_s > 0:
            try:
                async with asyncio.timeout(self._linger_s):
                    await self._due.wait()
            except TimeoutError:
                pass
        batch = [self._items.popleft() for _ in range(min(self._batch_max, len(self._items)))]
        if len(self._items) < self._batch_max and not self._closed:
            self._due.clear()
        return batch
