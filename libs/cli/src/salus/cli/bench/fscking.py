"""How many events a second fsck checks on one core, and on all of them, from the object store alone."""

from __future__ import annotations

import resource
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from salus.archive.fsck import StoreAddress, fsck
from salus.archive.kept_memory import keep_freed_memory
from salus.archive.report import Progress as Step
from salus.archive.report import Report
from salus.archive.trust import Trust
from salus.cli.bench.limits import measure_limits
from salus.cli.bench.outcome import Goal, Outcome, cores, machine
from salus.cli.bench.plots import Panel
from salus.cli.bench.stage import (
    open_ledger,
    open_stage,
    preload,
    sequencers,
)
from salus.cli.checking import LEDGER_BUCKET, LOG_BUCKET
from salus.cli.exits import CommandError, Exit
from salus.devkit.narration import Narrator
from salus.devkit.platform import Platform

GOALS = (Goal("events_per_s_a_core", least=150_000),)
LIMITS = ("SHA-256", "zstd", "leaf hashes", "fsck")


@dataclass(frozen=True, slots=True)
class Run:
    """One fsck: with how many workers, what it found, and what it took."""

    workers: int
    report: Report
    seconds: float
    cpu_s: float


async def check_all(narrator: Narrator, *, events: int, deep: bool) -> Outcome:
    """Seal some events, stop every service, and check the ledger with one process and then with all cores."""
    facts = machine()
    async with open_stage(narrator) as platform:
        await preload(platform, narrator, events)
        await platform.start_services([*sequencers(1), "anchoring"])
        narrator.step("sealing them")
        async with open_ledger(platform) as ledger:
            await ledger.reach(events + 1, narrator, "sealed and final")
        for name in list(platform.services):
            await platform.stop_service(name)
        runs = [
            await _run(platform, narrator, 0, deep=False),
            await _run(platform, narrator, cores(), deep=False),
        ]
        if deep:
            runs.append(await _run(platform, narrator, cores(), deep=True))
    limits = {name: cost for name, cost in measure_limits().items() if name.startswith(LIMITS)}
    return _outcome(runs, facts, limits)


async def _run(platform: Platform, narrator: Narrator, workers: int, *, deep: bool) -> Run:
    narrator.step(
        f"checking with {workers or 1} process{'es' if workers > 1 else ''}{', deep' if deep else ''}"
    )
    s3 = platform.s3
    address = StoreAddress(s3.endpoint, s3.access_key, s3.secret_key, s3.region, LEDGER_BUCKET, LOG_BUCKET)
    trust = Trust.from_network(platform.network.file.read_bytes())

    def show(step: Step) -> None:
        narrator.update(f"checked {step.done} of {step.total} {step.stage}")

    keep_freed_memory()  # as `salus ledger fsck` does
    began, cpu_s = time.perf_counter(), _cpu_s()
    report = await fsck(address, trust, workers=workers, deep=deep, on_progress=show)
    if not report.ok:
        raise CommandError(Exit.NO, f"the ledger is damaged: {report.errors[0]}")
    return Run(workers, report, time.perf_counter() - began, _cpu_s() - cpu_s)


def _cpu_s() -> float:
    """Return the processor time of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def _outcome(runs: list[Run], facts: Mapping[str, Any], limits: Mapping[str, float]) -> Outcome:
    one, all_, *deep = runs
    rows = one.report.counts.rows
    figures: dict[str, Any] = {
        "events_per_s_a_core": round(rows / one.cpu_s),
        "events_per_s_one_process": round(rows / one.seconds),
        "events_per_s": round(rows / all_.seconds),
        "workers": all_.workers,
        "events": rows,
        "blocks": one.report.counts.blocks,
        "body_mb": round(one.report.counts.body_bytes / 1e6, 1),
        "cpu_us_per_event": round(1e6 * one.cpu_s / rows, 2),
    }
    if deep:
        figures["events_per_s_deep"] = round(rows / deep[0].seconds)
    lines = {"events/s": [(1.0, rows / one.seconds), (float(all_.workers), rows / all_.seconds)]}
    panels = [Panel("processes", "events/s", lines, {"goal a core": 150_000})]
    return Outcome("fsck", facts, figures, GOALS, panels, limits)
