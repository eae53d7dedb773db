"""Watches processes while they work: processor time and resident memory."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from salus.devkit.platform import Platform

PERIOD_S = 0.5
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Seen:
    """One look at a process: when (Unix seconds), its processor time so far in s, its memory in MB."""

    at: float
    cpu_s: float
    rss_mb: float


@dataclass(slots=True)
class Watch:
    """What was seen of one process."""

    looks: list[Seen] = field(default_factory=list)

    def cpu_between(self, start: float, end: float) -> float:
        """Return the processor time in s that it used between two moments, interpolated."""
        return self._cpu_at(end) - self._cpu_at(start)

    def rss_max(self) -> float:
        """Return the most memory seen, in MB."""
        return max((look.rss_mb for look in self.looks), default=0.0)

    def slope_mb_per_s(self, start: float, end: float) -> float:
        """Return how fast its memory grew between two moments: the slope of the line of least squares."""
        points = [(look.at, look.rss_mb) for look in self.looks if start <= look.at <= end]
        return slope(points)

    def _cpu_at(self, moment: float) -> float:
        for before, after in pairwise(self.looks):
            if before.at <= moment <= after.at:
                share = (moment - before.at) / ((after.at - before.at) or 1)
                return before.cpu_s + share * (after.cpu_s - before.cpu_s)
        if not self.looks:
            return 0.0
        nearest = self.looks[0] if moment < self.looks[0].at else self.looks[-1]
        return nearest.cpu_s


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Return the slope of the line of least squares; 0 for fewer than three points."""
    if len(points) < 3:
        return 0.0
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0


async def watch(platform: Platform, watches: dict[str, Watch]) -> None:
    """Look at every service of the platform until cancelled."""
    while True:
        look_at({name: service.process.pid for name, service in platform.services.items()}, watches)
        await asyncio.sleep(PERIOD_S)


def look_at(pids: Mapping[str, int], watches: dict[str, Watch]) -> None:
    """Look once; a process that has ended is passed over."""
    for name, pid in pids.items():
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
        except OSError:
            continue
        cpu_s = (int(fields[11]) + int(fields[12])) / TICKS
        seen = Seen(time.time(), cpu_s, int(pages) * PAGE_BYTES / 1024**2)
        watches.setdefault(name, Watch()).looks.append(seen)
