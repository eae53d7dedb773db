"""Waiting for a fact, with a deadline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

PERIOD_S = 0.05


async def until(
    fact: Callable[[], Awaitable[bool]] | Callable[[], bool], *, deadline_s: float, period_s: float = PERIOD_S
) -> bool:
    """Return True as soon as the fact holds, False if it does not within `deadline_s` seconds."""
    end = time.monotonic() + deadline_s
    while True:
        answer = fact()
        if answer if isinstance(answer, bool) else await answer:
            return True
        if time.monotonic() >= end:
            return False
        await asyncio.sleep(period_s)
