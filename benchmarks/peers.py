"""Measures what people would pick instead, and Salus, one after the other on this machine, and compares them.

    make peers                      # about three minutes on two cores
    make peers PEERS=--quick        # the same with small sizes; its figures mean nothing
    make peers PEERS=--record       # what came out goes into benchmarks/results/peers.json

benchmarks/README.md says what is compared, and what each does for its figure.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from children import output_of
from rich.console import Console
from rich.table import Table

from salus.cli.bench.outcome import machine

MODULE = Path(__file__).parent / "peers"
RESULTS = Path(__file__).parent / "results"
SALUS = Path(sys.executable).with_name("salus")


@dataclass(frozen=True, slots=True)
class System:
    """One system: its command, the small sizes of `--quick`, and the figure that is compared."""

    name: str
    command: tuple[str, ...]
    quick: tuple[str, ...]
    rate: str
    ours: bool = False

    def line(self, program: Path, *, quick: bool) -> list[str]:
        """Return the whole command."""
        return [str(SALUS if self.ours else program), *self.command, *(self.quick if quick else ())]


def _drain(shards: int) -> System:
    # With the start, as theirs count from the first value to the last.
    command = ("bench", "drain", "--shards", str(shards), "--json")
    name = f"Salus, {shards} shard{'s' if shards > 1 else ''}"
    return System(name, command, ("--events", "20000"), "events_per_s_with_start", ours=True)


SYSTEMS = (
    System("immudb", ("immudb",), ("-values", "50000"), "values_per_s"),
    System("immudb, index asynchronous", ("immudb", "-no-wait"), ("-values", "50000"), "values_per_s"),
    System("Tessera, in process", ("tessera",), ("-entries", "20000"), "entries_per_s"),
    _drain(1),
    _drain(2),
)


def main() -> int:
    """Measure every system; return 0 if each could be measured."""
    parser = argparse.ArgumentParser(description="Compare Salus with immudb and Tessera on this machine.")
    parser.add_argument("--quick", action="store_true", help="small sizes: does it work?")
    parser.add_argument("--record", action="store_true", help="into benchmarks/results/peers.json")
    asked = parser.parse_args()
    if asked.record and asked.quick:
        parser.error("--record is of the full sizes")
    go = shutil.which("go")
    if go is None:
        parser.exit(1, "make peers: `go` is not on the PATH; immudb and Tessera are built with it\n")
    facts = machine()
    # The systems write into it as well, so that nothing is left of one that had to be killed.
    with tempfile.TemporaryDirectory(prefix="salus-peers-") as folder:
        program = Path(folder) / "peers"
        if output_of([go, "build", "-o", str(program), "."], cwd=MODULE) is None:
            return 1
        outcomes: dict[str, dict[str, Any]] = {}
        for system in SYSTEMS:
            written = output_of(system.line(program, quick=asked.quick), temporary=folder)
            if written is None:
                return 1
            outcomes[system.name] = json.loads(written.splitlines()[-1])
    tell(outcomes, facts, RESULTS if asked.record else RESULTS / "latest")
    return 0


def tell(outcomes: Mapping[str, Mapping[str, Any]], facts: Mapping[str, Any], place: Path) -> None:
    """Keep what came out, print the table, and all of it as one last line of JSON."""
    rates = {system.name: int(outcomes[system.name][system.rate]) for system in SYSTEMS}
    ours = [system.name for system in SYSTEMS if system.ours]
    ratios = {one: {name: round(rates[one] / rate, 2) for name, rate in rates.items()} for one in ours}
    table = Table("system", "values/s", "seconds", *(f"{one}: times as fast" for one in ours), title="Peers")
    for name, rate in rates.items():
        shares = [f"{ratios[one][name]:.2f}" for one in ours]
        table.add_row(name, f"{rate:,}", f"{outcomes[name]['seconds']:.1f}", *shares)
    Console(stderr=True).print(table)
    content = {
        "benchmark": "peers",
        "day": datetime.now(UTC).date().isoformat(),
        "per_s": rates,
        "ratios": ratios,
        "outcomes": outcomes,
        "machine": facts,
    }
    place.mkdir(parents=True, exist_ok=True)
    (place / "peers.json").write_text(json.dumps(content, indent=1) + "\n")
    sys.stdout.write(json.dumps(content) + "\n")


if __name__ == "__main__":
    sys.exit(main())
