"""Growing a tile log to a million entries: its speed, what is kept in memory, and how proofs grow."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from salus.cli.bench.outcome import Goal, Outcome, machine
from salus.cli.bench.plots import Panel
from salus.devkit.narration import Narrator
from salus.ledger.merkle import HASH_SIZE, hashes_of, verify_consistency, verify_inclusion
from salus.ledger.tiles import (
    CompactRange,
    consistency_proof,
    inclusion_proof,
    new_tiles,
    root_at,
    tile_path,
    tile_width,
    tiles_for_append,
    tiles_for_inclusion,
)

APPENDED = 512
ENTRY = "example.org/shard/0/block/{}\n20000\n" + "x" * 160
PROOFS = 200
VERIFIED = 20
# From a thousandth of the entries to all of them, log n doubles; n grows a thousandfold.
GROWTH_MAX = 4.0


@dataclass(slots=True)
class Log:
    """A log in memory: paths and bytes, as they would lie in a bucket, without the entry bundles.

    The bundles are made and hashed like the rest; only the last one is kept, which growing needs.
    """

    objects: dict[str, bytes] = field(default_factory=dict)
    tree: CompactRange = field(default_factory=CompactRange)

    def tile(self, level: int, index: int, width: int) -> bytes:
        """Return a tile or bundle."""
        return self.objects[tile_path(level, index, width)]

    def cut(self, level: int, index: int, width: int) -> bytes:
        """Return a tile of a smaller log, out of the one that is there now."""
        return self.tile(level, index, tile_width(level, index, self.tree.size))[: width * HASH_SIZE]

    def append(self, entries: list[bytes]) -> None:
        """Grow; partial tiles that gave way to fuller ones, and full bundles, are dropped."""
        edge = [ref.path for ref in tiles_for_append(self.tree.size)]
        written = new_tiles(self.tree.size, entries, self.tile)
        self.tree.extend(hashes_of(entries))
        kept = {ref.path for ref in tiles_for_append(self.tree.size)}
        # A level that no new hash reached keeps its tile.
        for path in edge:
            if path not in kept:
                del self.objects[path]
        self.objects |= {p: data for p, data in written.items() if p in kept or "entries" not in p}


@dataclass(frozen=True, slots=True)
class Cost:
    """What one more entry, and proofs, cost in a log of some size."""

    size: int
    append_us: float
    inclusion_us: float
    consistency_us: float
    proof_hashes: int
    tiles_read: int
    edge_bytes: int


def tiles(narrator: Narrator, *, entries: int) -> Outcome:
    """Grow a log to so many entries, and measure it at each power of ten on the way."""
    facts = machine()
    log = Log()
    costs: list[Cost] = []
    grown_s = 0.0
    narrator.step(f"growing a log to {entries:,} entries")
    for size in [*(10**power for power in range(3, 19) if 10**power < entries), entries]:
        grown_s += _grow(log, size, narrator)
        costs.append(_measure(log))
    return _outcome(costs, entries / grown_s, log, facts)


def _grow(log: Log, size: int, narrator: Narrator) -> float:
    """Grow the log to that size; return the processor time in s."""
    spent = 0.0
    while log.tree.size < size:
        first = log.tree.size
        fresh = [ENTRY.format(n).encode() for n in range(first, min(first + APPENDED, size))]
        began = time.process_time()
        log.append(fresh)
        spent += time.process_time() - began
        narrator.update(f"{log.tree.size:,} entries")
    return spent


def _measure(log: Log) -> Cost:
    """Measure at the present size; every proof is verified, outside the time that is measured."""
    size, root = log.tree.size, log.tree.root()
    chance = random.Random(size)  # noqa: S311  # which entries to prove
    indices = [chance.randrange(size) for _ in range(PROOFS)]
    proofs, inclusion_us = _timed(lambda: [inclusion_proof(i, size, log.tile) for i in indices])
    for index, path in zip(indices, proofs, strict=True):
        (leaf,) = hashes_of([ENTRY.format(index).encode()])
        verify_inclusion(leaf=leaf, index=index, tree_size=size, path=path, expected_root=root)
    old = [max(1, index) for index in indices]
    consistent, consistency_us = _timed(lambda: [consistency_proof(o, size, log.tile) for o in old])
    for first, proof in zip(old[:VERIFIED], consistent, strict=False):
        first_root = root_at(first, log.cut)
        verify_consistency(first=first, second=size, first_root=first_root, second_root=root, proof=proof)
    tree = CompactRange(size, log.tree.hashes)
    _, append_us = _timed(lambda: tree.extend(hashes_of([b"one more"] * PROOFS)))
    return Cost(
        size=size,
        append_us=append_us,
        inclusion_us=inclusion_us,
        consistency_us=consistency_us,
        proof_hashes=max(map(len, proofs)),
        tiles_read=max(len(tiles_for_inclusion(i, size)) for i in indices),
        edge_bytes=sum(map(sys.getsizeof, log.tree.hashes)),
    )


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """Return the result and the processor time in µs for each of PROOFS."""
    began = time.process_time()
    result = work()
    return result, round((time.process_time() - began) / PROOFS * 1e6, 2)


def _outcome(costs: list[Cost], rate: float, log: Log, facts: Mapping[str, Any]) -> Outcome:
    last = costs[-1]
    thousandth = next((cost for cost in costs if cost.size * 1000 >= last.size), costs[0])
    figures = {
        "entries_per_s": round(rate),
        "entries": last.size,
        "tiles_mb": round(sum(map(len, log.objects.values())) / 1e6, 1),
        "compact_range_bytes": last.edge_bytes,
        "compact_range_hashes": len(log.tree.hashes),
        "inclusion_us": last.inclusion_us,
        "consistency_us": last.consistency_us,
        "append_us": last.append_us,
        "proof_hashes_max": last.proof_hashes,
        "tiles_read_max": last.tiles_read,
        "proof_hashes_growth": round(last.proof_hashes / max(1, thousandth.proof_hashes), 2),
        "by_size": {str(cost.size): {"hashes": cost.proof_hashes, "us": cost.inclusion_us} for cost in costs},
    }
    lines = {
        "hashes in an inclusion proof": [(float(c.size), float(c.proof_hashes)) for c in costs],
        "tiles read for it": [(float(c.size), float(c.tiles_read)) for c in costs],
    }
    times = {
        "inclusion proof": [(float(c.size), c.inclusion_us) for c in costs],
        "consistency proof": [(float(c.size), c.consistency_us) for c in costs],
        "one more entry": [(float(c.size), c.append_us) for c in costs],
    }
    panels = [
        Panel("entries in the log", "count", lines, log_x=True),
        Panel("entries in the log", "µs of processor time", times, log_x=True),
    ]
    return Outcome("tiles", facts, figures, [Goal("proof_hashes_growth", most=GROWTH_MAX)], panels)
