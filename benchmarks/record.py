"""Writes what the suite measured into docs/performance.md, between two marks, so that no figure is typed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[1] / "docs" / "performance.md"
BEGIN = "<!-- measured: begin (written by `make bench BENCH=--record`) -->"
END = "<!-- measured: end -->"
PLOTTED = {
    "drain-1": "Draining a backlog with one shard: events under a final checkpoint, and memory",
    "drain-2": "The same with two shards",
    "steady": "Steady load: publish to final checkpoint, and lag",
    "steady-witnessed": "The same with three witnesses, of which two must cosign",
    "receipt": "How long a receipt takes with 32 connections asking",
    "contracts": "How long commands and GETs of a contract service take",
    "tiles": "Proofs and appends as the log grows",
}
# What of each benchmark is worth a line beside its goals.
TOLD = {
    "drain": ("cpu_us_per_event", "rss_mb_growth_per_million_events", "anchoring_cpu_us_per_event"),
    "steady": ("max_ms", "lag_growth_events_per_s", "generator_late_ms_max"),
    "receipt": ("p50_ms", "p99_ms", "anchoring_cpu_us_per_receipt"),
    "contracts": (
        "cpu_us_per_command_sqlite",
        "cpu_us_per_command_postgresql",
        "folds_per_s_postgresql",
        "fold_cpu_us",
        "kafka_alone_per_s",
        "sql_alone_per_s",
        "rss_mb_max",
    ),
    "fsck": ("events_per_s", "cpu_us_per_event"),
    "tiles": ("entries_per_s", "compact_range_bytes", "inclusion_us", "proof_hashes_max"),
}


def record(outcomes: Mapping[str, Mapping[str, Any]], day: str) -> None:
    """Put the figures between the marks; everything else in the page stays.

    Raises:
        ValueError: the page has lost a mark.
    """
    page = DOCS.read_text()
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{DOCS.name} lacks the marks between which the figures go")
    DOCS.write_text(f"{before}{BEGIN}\n\n{section(outcomes, day)}\n{END}{after}")


def section(outcomes: Mapping[str, Mapping[str, Any]], day: str) -> str:
    """Return the Markdown of one run of the suite."""
    machine = next(iter(outcomes.values()))["machine"]
    loads = [outcome["machine"]["load_before"] for outcome in outcomes.values()]
    sha = "with" if machine["sha_instructions"] else "**without**"
    where = f"{machine['cpu']} ({machine['cores']} cores, {machine['memory_gb']} GB, {sha} SHA instructions)"
    system = f"{machine['system']}, Python {machine['python']}"
    parts = [
        f"Measured {day} on {where}, {system}; load before each benchmark: {min(loads)} to {max(loads)}.\n",
        "| benchmark | figure | measured | goal | |",
        "|---|---|---|---|---|",
        *(line for name, outcome in outcomes.items() for line in _lines(name, outcome)),
    ]
    if "drain-1" in outcomes:
        parts += ["", *_limits(outcomes["drain-1"])]
    pictures = [
        f"![{title}](../benchmarks/results/{name}.svg)" for name, title in PLOTTED.items() if name in outcomes
    ]
    return "\n".join([*parts, "", *pictures, ""])


def _lines(name: str, outcome: Mapping[str, Any]) -> list[str]:
    goals = []
    for figure, goal in outcome["goals"].items():
        mark = "✓" if goal["holds"] else "✗"
        goals.append(f"| {name} | `{figure}` | **{_text(outcome.get(figure))}** | {goal['goal']} | {mark} |")
    told = [f for f in TOLD[outcome["benchmark"]] if f in outcome and f not in outcome["goals"]]
    return goals + [f"| | `{figure}` | {_text(outcome[figure])} | | |" for figure in told]


def _limits(drained: Mapping[str, Any]) -> list[str]:
    rows = [
        f"| {step} | {cost:.2f} | {1e6 / cost:,.0f} |"
        for step, cost in drained["limits_us_per_event"].items()
        if cost
    ]
    whole = drained["cpu_us_per_event"]
    return [
        f"One shard spent {whole} µs of processor time an event. Each step alone, in the same run:\n",
        "| step | µs/event | events/s |",
        "|---|---|---|",
        *rows,
    ]


def _text(value: object) -> str:
    return f"{value:,}" if isinstance(value, int | float) else str(value)
