"""How many receipts one anchoring makes a second over HTTP, and how many one core verifies."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from salus.cli.bench.http_client import KeptConnection
from salus.cli.bench.load import TOPIC
from salus.cli.bench.outcome import Goal, Outcome, machine, percentile
from salus.cli.bench.plots import Panel
from salus.cli.bench.stage import ends, open_ledger, open_stage, preload, sequencers
from salus.cli.bench.watching import Watch, look_at
from salus.cli.exits import CommandError, Exit
from salus.devkit.narration import Narrator
from salus.devkit.platform import Platform
from salus.ledger.policy import Policy
from salus.ledger.receipt import verify_receipt
from salus.messaging import Reader

PARTITIONS = 4
VERIFIED_MAX = 2_000
ROUNDS = 3
GOALS = (Goal("receipts_per_s", least=2000), Goal("verified_per_s", least=5000))


@dataclass(slots=True)
class Asked:
    """What came of asking: how long each answer took (s), and the receipts of some records."""

    took: list[float]
    receipts: dict[tuple[int, int], bytes]
    seconds: float = 0.0
    cold_s: float = 0.0
    cpu_s: float = 0.0


async def receipts(narrator: Narrator, *, events: int, requests: int, clients: int) -> Outcome:
    """Seal some events, ask for receipts of random ones from many connections, and verify some."""
    facts = machine()
    async with open_stage(narrator) as platform:
        await preload(platform, narrator, events, partitions=PARTITIONS)
        await platform.start_services([*sequencers(1), "anchoring"])
        narrator.step("sealing them")
        async with open_ledger(platform) as ledger:
            await ledger.reach(events + 1, narrator, "sealed and final")
            blocks = len(ledger.headers)
        await platform.stop_service("sequencer")
        places = await _places(platform)
        narrator.step(f"asking for {requests:,} receipts over {clients} connections")
        asked = await _ask(platform, narrator, places, requests, clients)
        policy = Policy.from_network(platform.network.file.read_bytes())
        values = await _values(platform, asked.receipts)
    narrator.step("verifying")
    verified = _verify(policy, asked.receipts, values)
    return _outcome(asked, verified, {"events": events, "blocks": blocks, "clients": clients}, facts)


async def _places(platform: Platform) -> list[tuple[int, int]]:
    there = await ends(platform.kafka_bootstrap, PARTITIONS)
    return [(partition, offset) for partition, end in there.items() for offset in range(end)]


async def _ask(
    platform: Platform, narrator: Narrator, places: Sequence[tuple[int, int]], requests: int, clients: int
) -> Asked:
    url = platform.service_url("anchoring")
    chance = random.Random(1)  # noqa: S311  # which receipts to ask for
    waiting = [chance.choice(places) for _ in range(requests)]
    asked = Asked([], {})
    watches: dict[str, Watch] = {}
    pid = {"anchoring": platform.services["anchoring"].process.pid}
    async with AsyncExitStack() as stack:
        connections = [await stack.enter_async_context(KeptConnection(url)) for _ in range(clients)]
        began = time.perf_counter()
        # One of each block's, so that what follows is not the reading of bodies.
        await _ask_on(connections[0], narrator, waiting[-min(100, requests) :], Asked([], {}))
        asked.cold_s = time.perf_counter() - began
        look_at(pid, watches)
        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for connection in connections:
                group.create_task(_ask_on(connection, narrator, waiting, asked))
        asked.seconds = time.perf_counter() - began
        look_at(pid, watches)
    first, last = watches["anchoring"].looks
    asked.cpu_s = last.cpu_s - first.cpu_s
    return asked


async def _ask_on(
    connection: KeptConnection, narrator: Narrator, waiting: list[tuple[int, int]], asked: Asked
) -> None:
    """Ask for one after the other until none is left."""
    while waiting:
        partition, offset = waiting.pop()
        began = time.perf_counter()
        path = f"/receipts?topic={TOPIC}&partition={partition}&offset={offset}"
        status, receipt = await connection.get(path)
        if status != 200:
            raise CommandError(Exit.NO, f"{path} is answered with {status}: {receipt[:300].decode()}")
        asked.took.append(time.perf_counter() - began)
        if len(asked.receipts) < VERIFIED_MAX:
            asked.receipts[partition, offset] = receipt
        if len(waiting) % 1000 == 0:
            narrator.update(f"{len(waiting):,} receipts to go")


async def _values(
    platform: Platform, wanted: Mapping[tuple[int, int], bytes]
) -> dict[tuple[int, int], bytes]:
    """Read the events that the receipts are of."""
    there = await ends(platform.kafka_bootstrap, PARTITIONS)
    left, found = sum(there.values()), {}
    async with Reader(platform.kafka_bootstrap, starts={(TOPIC, n): 0 for n in there}) as reader:
        while left:
            for record in await reader.poll(max_records=10_000, timeout_ms=1000):
                left -= 1
                if (record.partition, record.offset) in wanted:
                    found[record.partition, record.offset] = record.value or b""
    return found


def _verify(
    policy: Policy,
    taken: Mapping[tuple[int, int], bytes],
    values: Mapping[tuple[int, int], bytes],
) -> float:
    """Return how many receipts, with their events, a second of one core's time verifies."""
    pairs = [(receipt, values[place]) for place, receipt in taken.items()]
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.process_time()
        for receipt, value in pairs:
            verify_receipt(receipt, policy, event=value)
        best = min(best, time.process_time() - began)
    return len(pairs) / best


def _outcome(asked: Asked, verified: float, figures: Mapping[str, Any], facts: Mapping[str, Any]) -> Outcome:
    took = sorted(asked.took)
    made = {
        "receipts_per_s": round(len(took) / asked.seconds),
        "p50_ms": round(1000 * percentile(took, 0.50), 2),
        "p99_ms": round(1000 * percentile(took, 0.99), 2),
        "max_ms": round(1000 * took[-1], 2),
        "anchoring_cpu_us_per_receipt": round(1e6 * asked.cpu_s / len(took), 1),
        "verified_per_s": round(verified),
        "receipts": len(took),
        "first_hundred_s": round(asked.cold_s, 3),
        **figures,
    }
    curve = [(1000 * percentile(took, share / 200), share / 2) for share in range(1, 200)]
    panels = [Panel("ms", "share of answers that take no longer, %", {"receipts": curve})]
    return Outcome("receipt", facts, made, GOALS, panels)
