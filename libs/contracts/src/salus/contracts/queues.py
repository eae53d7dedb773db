"""Where commands wait before they take an aggregate's turn, so that what takes a right away passes them."""

from __future__ import annotations

import asyncio
from weakref import WeakValueDictionary


class Queues:
    """One queue for each kind of command on each aggregate.

    One at a time leaves each queue. So what waits in none, as a revocation, waits for one command of each
    kind at most, and for those of its own sort that came before it.
    """

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    def of(self, kind: str, aggregate: str) -> asyncio.Lock:
        """Return what is held by the one that is under way."""
        return self._locks.setdefault((kind, aggregate), asyncio.Lock())

    def has_any(self, kind: str, aggregate: str) -> bool:
        """Tell whether one is under way or waits."""
        return (kind, aggregate) in self._locks
