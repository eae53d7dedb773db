"""Removes the partial tiles and bundles that full ones have replaced, a little at a time, beside the appends.

A full tile replaces up to 255 partial ones, as does its bundle. Whoever still reads at an older checkpoint
finds the full one in their place (C2SP tlog-tiles), so there is no hurry; removing them all at once kept the
store too busy for the next append.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import structlog

from salus.archive.log import parse_tile_path
from salus.ledger.tiles import ENTRIES, LEVEL_MAX, TILE_HEIGHT, tile_path
from salus.objects import ObjectsError, ObjectStore, Stray
from salus.runtime.supervisor import failed, resting, succeeded

# After a removal it is this many times as long as that took until the next, but no longer than REST_S_MAX:
# an append makes about two partial objects, and takes longer than two removals with the longest rests.
RESTS = 4
REST_S_MAX = 0.02
# Full ones that may wait: those of half a million blocks, in a store that hardly removes anything.
FULL_MAX = 4096

_log = structlog.get_logger()


def rest_after(took_s: float) -> float:
    """Return how long to rest after a removal that took so long."""
    return min(RESTS * took_s, REST_S_MAX)


class Tidying:
    """Hears of full tiles and bundles of the log's bucket, and tidies up behind them."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects
        self._full: asyncio.Queue[str] = asyncio.Queue(FULL_MAX)

    def heard(self, paths: Iterable[str]) -> None:
        """Take note that these are in place; partial ones among them are passed over."""
        for path in paths:
            if ".p/" in path:
                continue
            try:
                self._full.put_nowait(path)
            except asyncio.QueueFull:
                _leave_behind(path, f"{FULL_MAX} others wait already")

    def took_over(self, size: int) -> None:
        """Take note of the last full ones of a log of that size: who was to tidy up there may be gone."""
        for level in range(ENTRIES, LEVEL_MAX + 1):
            if full := size >> TILE_HEIGHT * (max(level, 0) + 1):
                self.heard([tile_path(level, full - 1)])

    async def run(self) -> None:
        """Tidy up until cancelled; what a store does not let go stays behind, and is only garbage."""
        while True:
            await self.tidy_next()

    async def tidy_next(self) -> None:
        """Wait for the next full one, and remove the partial ones that it replaced."""
        with resting():
            path = await self._full.get()
        clock = asyncio.get_running_loop().time
        try:
            # Nothing is removed unless what replaces it is there.
            await self._objects.head(path)
            async for entry in self._objects.list(f"{path}.p", on_stray=_leave_stray):
                if parse_tile_path(entry.key) is None:
                    _leave_behind(path, f"{entry.key} is no partial tile")
                    continue
                began = clock()
                await self._objects.delete(entry.key)
                await asyncio.sleep(rest_after(clock() - began))
            succeeded()
        except ObjectsError as error:
            failed(error)
            _leave_behind(path, str(error))


def _leave_stray(stray: Stray) -> None:
    _log.info("a stray object was left where it is", key=stray.shown)


def _leave_behind(full: str, why: str) -> None:
    _log.info("objects that are no longer needed were left behind", full=full, why=why)
