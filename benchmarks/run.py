"""Runs every `salus bench` of the suite, one after the other, and compares what came out with the goals.

    make bench                      # 5 to 15 minutes on two cores
    make bench BENCH=--quick        # the same with small sizes, in about three; its figures mean little
    make bench BENCH="drain steady" # some of them
    make bench BENCH=--record       # all, and what came out goes into docs/performance.md

Each benchmark's line of JSON and its plot are kept in benchmarks/results/latest/; with --record in
benchmarks/results/, which is committed. docs/performance.md says what they mean.
The benchmarks themselves are in `salus.cli.bench`, so that an installed `salus` has them as well.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from children import output_of
from record import record
from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"
FLAME_EVENTS = "200000"
FLAME = Path(__file__).parents[1] / "docs" / "images" / "sequencer-flame.svg"
SALUS = Path(sys.executable).with_name("salus")


@dataclass(frozen=True, slots=True)
class Bench:
    """One benchmark: its command, its sizes, and the small ones of `--quick`."""

    name: str
    command: tuple[str, ...]
    full: tuple[str, ...] = ()
    quick: tuple[str, ...] = ()


SUITE = (
    Bench("tiles", ("tiles",), quick=("--entries", "20000")),
    Bench("drain-1", ("drain", "--shards", "1"), quick=("--events", "20000")),
    Bench("drain-2", ("drain", "--shards", "2"), quick=("--events", "20000")),
    Bench("steady", ("steady",), quick=("--rate", "500", "--seconds", "5")),
    Bench(
        "steady-witnessed",
        ("steady", "--witnesses", "3"),
        full=("--seconds", "30"),
        quick=("--rate", "500", "--seconds", "5"),
    ),
    Bench("receipt", ("receipt",), quick=("--events", "5000", "--requests", "2000")),
    Bench("contracts", ("contracts",), quick=("--commands", "400", "--events", "2000", "--seconds", "2")),
    Bench(
        "storage",
        ("storage",),
        quick=("--rounds", "1", "--small", "200", "--largest", "64", "--ranges", "10"),
    ),
    Bench("fsck", ("fsck",), quick=("--events", "5000")),
)


def main() -> int:
    """Run what was asked for; return 0 if everything ran, whether or not the goals were reached."""
    parser = argparse.ArgumentParser(description="Run the benchmarks.")
    parser.add_argument(
        "names", nargs="*", help="drain, steady, receipt, contracts, storage, fsck, tiles; all without it"
    )
    parser.add_argument("--quick", action="store_true", help="small sizes: does it work?")
    parser.add_argument("--record", action="store_true", help="into docs/performance.md; all, or none")
    asked = parser.parse_args()
    if asked.record and (asked.names or asked.quick):
        parser.error("--record is of the whole suite with its full sizes")
    chosen = [bench for bench in SUITE if not asked.names or bench.command[0] in asked.names]
    place = RESULTS if asked.record else RESULTS / "latest"
    place.mkdir(parents=True, exist_ok=True)
    outcomes = {bench.name: run(bench, place, quick=asked.quick) for bench in chosen}
    if "drain-1" in outcomes and not asked.quick:
        draw_flame(FLAME if asked.record else place / FLAME.name)
    show(outcomes)
    ran = {name: outcome for name, outcome in outcomes.items() if outcome is not None}
    if len(ran) < len(outcomes):
        return 1
    if asked.record:
        record(ran, datetime.now(UTC).date().isoformat())
    return 0


def run(bench: Bench, place: Path, *, quick: bool) -> dict[str, Any] | None:
    """Run one benchmark and keep its result; None if it failed, which it has told."""
    extra = bench.quick if quick else bench.full
    plot = place / f"{bench.name}.svg"
    command = [str(SALUS), "bench", *bench.command, *extra, "--plot", str(plot), "--json"]
    written = output_of(command)
    if written is None:
        return None
    outcome: dict[str, Any] = json.loads(written.splitlines()[-1])
    (place / f"{bench.name}.json").write_text(json.dumps(outcome, indent=1) + "\n")
    return outcome


def draw_flame(path: Path) -> None:
    """Drain once more with the profiler on the sequencer, which slows it down: its figures are not kept."""
    command = [str(SALUS), "bench", "drain", "--events", FLAME_EVENTS, "--flame", str(path), "--json"]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=False)


def show(outcomes: dict[str, dict[str, Any] | None]) -> None:
    """Print every goal beside what was measured, and all of it as one last line of JSON."""
    table = Table("benchmark", "figure", "measured", "goal", "", title="Goals", title_justify="left")
    for name, outcome in outcomes.items():
        if outcome is None:
            table.add_row(name, "", "failed", "", "✗")
            continue
        for figure, goal in outcome["goals"].items():
            table.add_row(name, figure, f"{outcome[figure]:,}", goal["goal"], "✓" if goal["holds"] else "✗")
    Console(stderr=True).print(table)
    sys.stdout.write(json.dumps(outcomes) + "\n")


if __name__ == "__main__":
    sys.exit(main())
