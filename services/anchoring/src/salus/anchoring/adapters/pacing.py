"""An object store that is read at most so fast, and work in a thread with an event loop of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import suppress
from typing import Any, cast

from salus.objects import ObjectStore, OnStray
from salus.objects.store import Entry

# What an entry of a listing counts, about what it costs to send.
LISTED_BYTES = 256


class Pace:
    """So many bytes a second, over everything that is read at this pace."""

    def __init__(self, bytes_per_s: int, read: Callable[[int], None]) -> None:
        self._bytes_per_s = bytes_per_s
        self._read = read
        self._free_at = 0.0

    async def take(self, count: int) -> None:
        """Wait as long as it takes to read so many bytes."""
        self._read(count)
        now = time.monotonic()
        self._free_at = max(self._free_at, now) + count / self._bytes_per_s
        await asyncio.sleep(self._free_at - now)

    def slow(self, objects: ObjectStore) -> ObjectStore:
        """Return a store that is read at this pace, and cannot be written."""
        return cast("ObjectStore", _PacedObjects(objects, self))


class _PacedObjects:
    """The reading half of an `ObjectStore`, as far as checking needs it."""

    def __init__(self, objects: ObjectStore, pace: Pace) -> None:
        self._objects = objects
        self._pace = pace

    async def get(self, key: str, *, bytes_max: int) -> bytes:
        """Return the object's bytes; raises NotFoundError and TooLargeError."""
        data = await self._objects.get(key, bytes_max=bytes_max)
        await self._pace.take(len(data))
        return data

    async def list(
        self, prefix: str = "", start_after: str = "", *, on_stray: OnStray
    ) -> AsyncIterator[Entry]:
        """Yield the objects below a folder."""
        async for entry in self._objects.list(prefix, start_after, on_stray=on_stray):
            await self._pace.take(LISTED_BYTES)
            yield entry


async def in_a_thread(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run work in a thread with its own event loop, so that its hashing does not hold up ours.

    Cancelling it cancels the work, and returns when that has ended.
    """
    begun: asyncio.Future[Callable[[], None]] = asyncio.get_running_loop().create_future()
    loop = asyncio.get_running_loop()

    async def run() -> None:
        inner, task = asyncio.get_running_loop(), asyncio.current_task()
        if task is not None:
            loop.call_soon_threadsafe(begun.set_result, lambda: cancel(inner, task))
        await work()

    def cancel(inner: asyncio.AbstractEventLoop, task: asyncio.Task[Any]) -> None:
        with suppress(RuntimeError):
            # It may have ended by itself in this moment, and its loop with it.
            inner.call_soon_threadsafe(task.cancel)

    def thread() -> None:
        try:
            asyncio.run(run())
        except asyncio.CancelledError:
            return

    running = asyncio.ensure_future(asyncio.to_thread(thread))
    try:
        await asyncio.shield(running)
    except asyncio.CancelledError:
        (await begun)()
        await running
        raise
