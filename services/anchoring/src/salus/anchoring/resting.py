"""How long anchoring rests after an append, which costs the store and us the same for one block or ten."""

from __future__ import annotations

import asyncio
from contextlib import suppress

# After an append it is this many times as long as that took until the next, but no longer than REST_S_MAX.
RESTS = 2
REST_S_MAX = 0.2

# A block of so many leaves was full, or nearly, before it was old: its shard works off a backlog.
BACKLOG_LEAVES = 4096
# As long as all blocks are like that: what is in them has waited for much longer than for this.
BACKLOG_RESTS = 8
BACKLOG_REST_S_MAX = 0.5


def pause_after(took_s: float, interval_s: float) -> float:
    """Return how long to pause after an append that took so long; `interval_s` is between two beginnings.

    When the machine is busy an append takes longer, and so there are fewer of them, with more blocks each,
    just then.
    """
    return max(interval_s - took_s, min(RESTS * took_s, REST_S_MAX))


class Rest:
    """Rests after appends, and for longer while a backlog is worked off; `interval_s` as of `pause_after`."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._large = False
        self._small = asyncio.Event()

    def begin(self) -> None:
        """Take note that an append begins: what is announced from now on is for the next one."""
        self._large = False
        self._small.clear()

    def heard(self, leaves: int) -> None:
        """Take note that a block of so many leaves was announced."""
        if leaves >= BACKLOG_LEAVES:
            self._large = True
        else:
            self._small.set()

    async def after(self, took_s: float) -> None:
        """Rest after an append that took so long; a block that is not of a backlog is not kept waiting."""
        pause_s = pause_after(took_s, self._interval_s)
        await asyncio.sleep(pause_s)
        if self._large:
            with suppress(TimeoutError):
                async with asyncio.timeout(min(BACKLOG_RESTS * took_s, BACKLOG_REST_S_MAX) - pause_s):
                    await self._small.wait()
