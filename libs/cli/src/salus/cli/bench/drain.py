"""How fast sequencers and anchoring drain a backlog: signed events on Kafka to final checkpoints."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from salus.cli.bench.flame import find_py_spy, flame_graph
from salus.cli.bench.limits import measure_fetch, measure_limits
from salus.cli.bench.outcome import Goal, Outcome, machine
from salus.cli.bench.plots import Panel
from salus.cli.bench.stage import (
    Ledger,
    Point,
    first_moment,
    open_ledger,
    open_stage,
    preload,
    sequencers,
)
from salus.cli.bench.watching import Watch, watch
from salus.devkit.narration import Narrator
from salus.devkit.platform import Platform

PARTITIONS = 4
FETCHED_MAX = 100_000
# In a shorter run everything that fills up still does, and a slope would say nothing.
SETTLED_S_MIN = 10.0
GOALS = {1: 50_000, 2: 100_000}


@dataclass(frozen=True, slots=True)
class Drained:
    """What was seen."""

    began: float
    points: list[Point]
    accepted: int
    blocks: int
    watches: Mapping[str, Watch]

    @property
    def ended(self) -> float:
        """When the last checkpoint was final."""
        return self.points[-1].at


async def drain(
    narrator: Narrator, *, events: int, shards: int, flame: Path | None, settings: Mapping[str, str]
) -> Outcome:
    """Publish a backlog, start the sequencers and anchoring on it, and follow them to its end."""
    facts, py_spy = machine(), find_py_spy(flame)
    async with open_stage(narrator, shards=shards, environment=settings) as platform:
        await preload(platform, narrator, events, partitions=PARTITIONS)
        async with open_ledger(platform) as ledger:
            # The hospital's registration is an event, too.
            drained = await _drain(platform, narrator, ledger, events + 1, shards, (py_spy, flame))
        narrator.step("measuring each step alone")
        for name in list(platform.services):
            await platform.stop_service(name)
        fetch = await measure_fetch(platform.kafka_bootstrap, min(events, FETCHED_MAX), PARTITIONS)
    outcome = _outcome(drained, shards, facts, fetch | measure_limits())
    outcome.figures |= {"settings": dict(settings)} if settings else {}
    return outcome


async def _drain(
    platform: Platform,
    narrator: Narrator,
    ledger: Ledger,
    leaves: int,
    shards: int,
    flame: tuple[str, Path | None],
) -> Drained:
    watches: dict[str, Watch] = {}
    watching = asyncio.create_task(watch(platform, watches))
    names = [*sequencers(shards), "anchoring"]
    try:
        await platform.start_services(names)
        async with AsyncExitStack() as stack:
            pid = platform.services["sequencer"].process.pid
            await stack.enter_async_context(flame_graph(flame[0], pid, flame[1]))
            narrator.step(f"draining with {shards} sequencer{'s' if shards > 1 else ''}")
            await ledger.reach(leaves, narrator, "sealed and final")
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    began = first_moment(names[:-1], platform, "chain restored") or time.time()
    accepted = sum(header.accepted for header in ledger.headers)
    return Drained(began, ledger.points, accepted, len(ledger.headers), watches)


def _outcome(drained: Drained, shards: int, facts: Mapping[str, Any], limits: Mapping[str, float]) -> Outcome:
    first, last = drained.points[0], drained.points[-1]
    leaves, seconds = last.leaves, last.at - drained.began
    between = (last.leaves - first.leaves) / (last.at - first.at) if last.at > first.at else None
    sealing = [watch for name, watch in drained.watches.items() if name.startswith("sequencer")]
    spent = sum(watch.cpu_between(drained.began, drained.ended) for watch in sealing)
    anchoring = drained.watches["anchoring"].cpu_between(drained.began, drained.ended)
    # What fills up at the start (blocks on their way, buffers) is not growth.
    settled = drained.began + seconds / 2
    growth = sum(watch.slope_mb_per_s(settled, drained.ended) for watch in sealing) / shards
    figures = {
        "events_per_s": round(between or leaves / seconds),
        "events_per_s_with_start": round(leaves / seconds),
        "shards": shards,
        "events": leaves,
        "accepted": drained.accepted,
        "blocks": drained.blocks,
        "checkpoints": len(drained.points),
        "seconds": round(seconds, 3),
        "cpu_us_per_event": round(1e6 * spent / leaves, 2),
        "anchoring_cpu_us_per_event": round(1e6 * anchoring / leaves, 2),
        "rss_mb_max": round(max(watch.rss_max() for watch in sealing), 1),
    }
    if seconds >= SETTLED_S_MIN:
        figures["rss_mb_growth_per_million_events"] = round(growth * seconds / (leaves / shards) * 1e6, 1)
    goals = [Goal("events_per_s", least=GOALS.get(shards, GOALS[2])), Goal("rss_mb_max", most=400)]
    return Outcome("drain", facts, figures, goals, _panels(drained), limits)


def _panels(drained: Drained) -> list[Panel]:
    sealed = [(0.0, 0.0), *((point.at - drained.began, point.leaves) for point in drained.points)]
    memory = {
        name: [(look.at - drained.began, look.rss_mb) for look in watch.looks]
        for name, watch in drained.watches.items()
    }
    return [
        Panel("seconds", "events under a final checkpoint", {"events": sealed}),
        Panel("seconds", "resident memory, MB", memory, {"400 MB": 400}),
    ]
