"""The process's own clock and threads."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

_T = TypeVar("_T")


class SystemClock:
    """The `Clock` of this machine."""

    def now(self) -> datetime:
        """Return the wall clock's time."""
        return datetime.now(UTC)

    def monotonic_ms(self) -> float:
        """Return milliseconds since the machine started."""
        return time.monotonic() * 1000

    async def pause(self, ms: float) -> None:
        """Return so many milliseconds later."""
        await asyncio.sleep(ms / 1000)


async def in_thread(work: Callable[[], _T]) -> _T:
    """Run the work in a thread, so that health checks and fetching go on meanwhile."""
    return await asyncio.to_thread(work)
