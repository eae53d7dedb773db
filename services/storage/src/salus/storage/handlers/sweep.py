"""Looks through a bucket again and again: what the sweeps of keys and of uploads have in common."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import ClassVar

import structlog

from salus.runtime.supervisor import failed, resting, succeeded

RETRY_S_MAX = 60.0

_log = structlog.get_logger()


class Sweep(ABC):
    """A background task that looks through its buckets now and then; what is away is waited for."""

    # What may be away, and what is logged then.
    away: ClassVar[tuple[type[Exception], ...]]
    waiting: ClassVar[str]
    interval_s: float

    @abstractmethod
    async def look_through(self) -> None:
        """Do all of the work once; a crash or an error leaves the rest to the next time."""

    @property
    def pause_s(self) -> float:
        """How long to rest after a round that ended."""
        return self.interval_s

    async def run(self) -> None:
        """Look through the buckets now, and again after each pause, until cancelled."""
        while True:
            try:
                await self.look_through()
            except self.away as error:
                failed(error)
                _log.warning(self.waiting, error=type(error).__name__)
                await asyncio.sleep(min(self.interval_s, RETRY_S_MAX))
            else:
                succeeded()
                with resting():
                    await asyncio.sleep(self.pause_s)
