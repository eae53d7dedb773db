"""Latency under steady load: events at a fixed rate, whatever the system does, to their final checkpoint.

Open loop: each event has a moment at which it is due, and its latency counts from then, also when the
generator or the system were late (no coordinated omission). An event waits for its batch of 64 to be
complete before it can be signed; that wait is in its latency. The checkpoint's moment is when the broker took
its announcement, which is made after it was published with all cosignatures that it needs.
"""

from __future__ import annotations

import asyncio
import gc
import time
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from salus.cli.bench.load import TOPIC, Signed, partition_of, signed_batches
from salus.cli.bench.outcome import Goal, Outcome, machine, percentile
from salus.cli.bench.plots import Panel
from salus.cli.bench.stage import HOSPITAL_SEED, Ledger, ends, open_ledger, open_stage, sequencers
from salus.cli.bench.watching import Watch, slope, watch
from salus.cli.exits import CommandError, Exit
from salus.devkit.narration import Narrator
from salus.devkit.platform import Platform
from salus.events.did import LocalSigner
from salus.ledger.records import SIGNATURE_HEADER
from salus.messaging import Producer

PARTITIONS = 4
WARM_UP_S = 3.0
LAG_PERIOD_S = 0.25
GOALS = (Goal("p50_ms", most=250), Goal("p99_ms", most=600))


@dataclass(frozen=True, slots=True)
class Load:
    """What is offered, and to what: events a second, for how long, shards, witnesses, settings."""

    rate: int
    seconds: float
    shards: int
    witnesses: int
    settings: Mapping[str, str]


@dataclass(slots=True)
class Sent:
    """When each event was due (Unix seconds), by partition and in offset order, and how late we were."""

    due: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    late_s_max: float = 0.0
    cpu_s: float = 0.0


async def steady(narrator: Narrator, load: Load) -> Outcome:
    """Offer the load, and tell the latency of each event."""
    facts = machine()
    async with open_stage(
        narrator, shards=load.shards, witnesses=load.witnesses, environment=load.settings
    ) as platform:
        sealing = sequencers(load.shards)
        cosigning = [f"witness-{number}" for number in range(1, load.witnesses + 1)]
        await platform.start_services([*cosigning, *sealing, "anchoring"])
        narrator.step("making events")
        hospital = LocalSigner.from_seed(HOSPITAL_SEED)
        # Made before, so that making them does not compete with what is measured.
        batches = list(signed_batches(int(load.rate * (WARM_UP_S + load.seconds)), hospital))
        watches: dict[str, Watch] = {}
        watching = asyncio.create_task(watch(platform, watches))
        try:
            async with open_ledger(platform) as ledger:
                sent = await _offer(platform, narrator, batches, load.rate)
                await ledger.reach(sum(map(len, batches)) + 1, narrator, "final")
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        await _require_all(platform, sent)
    return _outcome(sent, ledger, load, facts, watches)


async def _offer(
    platform: Platform, narrator: Narrator, batches: Sequence[Sequence[Signed]], rate: int
) -> Sent:
    """Send each batch when the last of its events is due; never wait for an answer."""
    sent = Sent()
    # The events are many objects, and looking through them for garbage would hold up the sending.
    gc.collect()
    gc.freeze()
    narrator.step(f"offering {rate:,} events a second")
    async with Producer(platform.kafka_bootstrap, client_id="salus-bench-steady") as producer:
        began, number, cpu_s = time.time() + 0.2, 0, time.process_time()
        for batch in batches:
            last_due = began + (number + len(batch) - 1) / rate
            await asyncio.sleep(max(0.0, last_due - time.time()))
            sent.late_s_max = max(sent.late_s_max, time.time() - last_due)
            for key, value, signature in batch:
                partition = partition_of(key, PARTITIONS)
                sent.due[partition].append(began + number / rate)
                number += 1
                headers = [(SIGNATURE_HEADER, signature)]
                await producer.enqueue(TOPIC, key=key, value=value, headers=headers, partition=partition)
            narrator.update(f"sent {number:,} events")
        await producer.flush()
    sent.cpu_s = time.process_time() - cpu_s
    gc.unfreeze()
    return sent


async def _require_all(platform: Platform, sent: Sent) -> None:
    there = await ends(platform.kafka_bootstrap, PARTITIONS)
    if any(there[partition] != len(due) for partition, due in sent.due.items()):
        raise CommandError(Exit.NO, "the topic does not hold exactly what was sent")


def latencies(sent: Sent, ledger: Ledger) -> list[tuple[float, float]]:
    """Return when each event was due and how long it took to be final, in s; in the order of being due."""
    sizes = [point.size for point in ledger.points]
    found: list[tuple[float, float]] = []
    for partition, due in sent.due.items():
        blocks = [
            (r.next, index)
            for index, header in enumerate(ledger.headers)
            for r in header.ranges
            if (r.topic, r.partition) == (TOPIC, partition) and r.first < r.next
        ]
        blocks.sort()
        ends_of_blocks = [following for following, _ in blocks]
        for offset, moment in enumerate(due):
            index = blocks[bisect_right(ends_of_blocks, offset)][1]
            # The first checkpoint that is larger than the header's index covers it.
            final = ledger.points[bisect_right(sizes, index)]
            found.append((moment, final.at - moment))
    return sorted(found)


def lag_over_time(measured: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return, every LAG_PERIOD_S, how many events were due and not final yet."""
    due = [moment for moment, _ in measured]
    final = sorted(moment + took for moment, took in measured)
    began = due[0]
    steps = int((due[-1] - began) / LAG_PERIOD_S) + 1
    moments = [began + step * LAG_PERIOD_S for step in range(steps)]
    return [(m - began, float(bisect_right(due, m) - bisect_left(final, m))) for m in moments]


def _outcome(
    sent: Sent,
    ledger: Ledger,
    load: Load,
    facts: Mapping[str, Any],
    watches: Mapping[str, Watch],
) -> Outcome:
    everything = latencies(sent, ledger)
    began = everything[0][0] + WARM_UP_S
    measured = [one for one in everything if one[0] >= began] or everything
    took = sorted(latency for _, latency in measured)
    lag = lag_over_time(measured)
    last_final = max(moment + latency for moment, latency in measured)
    window = (measured[0][0], measured[-1][0])
    figures = {
        "events_per_s": round(len(measured) / (last_final - window[0])),
        "offered_per_s": load.rate,
        "events": len(measured),
        "p50_ms": round(1000 * percentile(took, 0.50), 1),
        "p90_ms": round(1000 * percentile(took, 0.90), 1),
        "p99_ms": round(1000 * percentile(took, 0.99), 1),
        "max_ms": round(1000 * took[-1], 1),
        "lag_events_max": round(max(events for _, events in lag)),
        "lag_growth_events_per_s": round(slope(lag), 1),
        "generator_cpu_us_per_event": round(1e6 * sent.cpu_s / len(everything), 1),
        "generator_late_ms_max": round(1000 * sent.late_s_max, 1),
        "checkpoints": len(ledger.points),
        "shards": load.shards,
        "witnesses": load.witnesses,
        "seconds": load.seconds,
        "cpu_share": {
            name: round(w.cpu_between(*window) / (window[1] - window[0]), 2) for name, w in watches.items()
        }
        if window[1] > window[0]
        else {},
    }
    if load.settings:
        figures["settings"] = dict(load.settings)
    return Outcome("steady", facts, figures, GOALS, _panels(measured, lag))


def _panels(measured: Sequence[tuple[float, float]], lag: Sequence[tuple[float, float]]) -> list[Panel]:
    began = measured[0][0]
    slots: dict[int, list[float]] = defaultdict(list)
    for moment, latency in measured:
        slots[int((moment - began) / LAG_PERIOD_S)].append(latency * 1000)
    shares = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    lines = {
        name: [(slot * LAG_PERIOD_S, percentile(sorted(all_), share)) for slot, all_ in sorted(slots.items())]
        for name, share in shares.items()
    }
    return [
        Panel("seconds", "publish to final checkpoint, ms", lines, {"p50 goal": 250, "p99 goal": 600}),
        Panel("seconds", "events due and not final yet", {"lag": lag}),
    ]
