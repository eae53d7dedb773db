"""How much may be under way at once, so that a slow network slows its callers and fills no memory."""

from __future__ import annotations

import asyncio


class Room:
    """Bounds events and bytes under way; those who wait get room in the order in which they came."""

    def __init__(self, *, events_max: int, bytes_max: int) -> None:
        self._events_max = events_max
        self._bytes_max = bytes_max
        self._events = 0
        self._bytes = 0
        self._turn = asyncio.Lock()
        self._freed = asyncio.Event()

    async def take(self, size: int) -> None:
        """Wait until an event of `size` bytes fits; one larger than everything fits when it is alone."""
        async with self._turn:
            while not self._fits(size):
                self._freed.clear()
                await self._freed.wait()
            self._events += 1
            self._bytes += size

    def give_back(self, size: int) -> None:
        """Free what `take(size)` took."""
        self._events -= 1
        self._bytes -= size
        self._freed.set()

    def _fits(self, size: int) -> bool:
        if self._events == 0:
            return True
        return self._events < self._events_max and self._bytes + size <= self._bytes_max
