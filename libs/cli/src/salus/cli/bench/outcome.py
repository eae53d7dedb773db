"""What every benchmark comes to: figures, the machine, a table for people, one line of JSON, and a plot."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.table import Table

from salus.cli.bench.plots import Panel, draw
from salus.cli.console import emit_line
from salus.cli.display import Screen

MEGABYTE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Goal:
    """What a figure should be: at least, or at most, so much."""

    figure: str
    least: float | None = None
    most: float | None = None

    def holds(self, figures: Mapping[str, Any]) -> bool:
        """Tell whether the figure is there and good enough."""
        value = figures.get(self.figure)
        if value is None:
            return False
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)

    def __str__(self) -> str:
        """Return it as people write it."""
        return f"≥ {self.least:,g}" if self.least is not None else f"≤ {self.most:,g}"


@dataclass(slots=True)
class Outcome:
    """One benchmark's result; `figures` are numbers whose names end in their unit."""

    benchmark: str
    machine: Mapping[str, Any]
    figures: dict[str, Any]
    goals: Sequence[Goal] = ()
    panels: Sequence[Panel] = ()
    limits_us: Mapping[str, float] = field(default_factory=dict)

    def content(self) -> dict[str, Any]:
        """Return what goes into the line of JSON."""
        goals = {goal.figure: {"goal": str(goal), "holds": goal.holds(self.figures)} for goal in self.goals}
        limits = {"limits_us_per_event": dict(self.limits_us)} if self.limits_us else {}
        return {
            "benchmark": self.benchmark,
            **self.figures,
            **limits,
            "goals": goals,
            "machine": self.machine,
        }

    def tell(self, *, as_json: bool, plot: Path | None) -> None:
        """Print the tables, or the line; write the plot where told.

        With `--json` the line is the only thing on stdout, and people still see the tables on stderr.
        """
        console = Screen(stderr=as_json)
        for table in self._tables():
            console.print(table)
        if plot is not None and self.panels:
            draw(f"salus bench {self.benchmark}", self.panels, plot, caption=self._caption())
        if as_json:
            emit_line(self.content())

    def _tables(self) -> list[Table]:
        goals = {goal.figure: goal for goal in self.goals}
        measured = Table(
            "figure", "value", "goal", title=f"salus bench {self.benchmark}", title_justify="left"
        )
        for name, value in self.figures.items():
            goal = goals.get(name)
            mark = "" if goal is None else f"{goal} {'✓' if goal.holds(self.figures) else '✗'}"
            measured.add_row(name, _text(value), mark)
        tables = [measured]
        if self.limits_us:
            alone = Table(
                "step, measured alone in this run", "µs/event", "events/s a core", title_justify="left"
            )
            for name, value in self.limits_us.items():
                alone.add_row(name, f"{value:.2f}", f"{1e6 / value:,.0f}" if value else "")
            tables.append(alone)
        tables.append(_table_of("machine", self.machine))
        return tables

    def _caption(self) -> str:
        facts = self.machine
        return f"{facts['cpu']}, {facts['cores']} cores, {facts['memory_gb']} GB, Python {facts['python']}"


def _table_of(title: str, facts: Mapping[str, Any]) -> Table:
    table = Table(title=title, title_justify="left", show_header=False)
    for name, value in facts.items():
        table.add_row(name, _text(value))
    return table


def _text(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_text(one)}" for name, one in value.items())
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    cpu = next((line for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "")
    flags = next((line for line in _lines("/proc/cpuinfo") if line.startswith("flags")), "").split()
    memory = next((line for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), "0 0 kB")
    return {
        "cpu": cpu.partition(":")[2].strip() or platform.processor() or platform.machine(),
        "sha_instructions": "sha_ni" in flags,
        "cores": cores(),
        "memory_gb": round(int(memory.split()[1]) / MEGABYTE, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        # Others at work on the machine make every figure worse; this says how many there were.
        "load_before": round(os.getloadavg()[0], 2),
    }


def cores() -> int:
    """Return on how many cores this process may run."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the value that `share` of the ordered values do not exceed (nearest rank)."""
    rank = -int(-share * len(ordered) // 1)
    return ordered[min(max(rank, 1), len(ordered)) - 1]


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().split("\n")
    except OSError:
        return []
