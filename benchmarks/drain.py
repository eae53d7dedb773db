"""How fast one sequencer drains a backlog: signed events on Kafka to committed blocks in the object store.

    python benchmarks/drain.py --events 200000

Starts Kafka and MinIO of its own, publishes the backlog, then starts one `salus.sequencer` process on it. The
rate counts from the moment the chain was restored to the commit of the last block. The last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
from harness import cpu_seconds, machine, peak_memory_mb, report, say
from limits import measure_fetch, measure_limits
from load import signed_batches

from salus.client import Publisher
from salus.devkit.addresses import Addresses
from salus.devkit.free_ports import free_ports
from salus.devkit.narration import PlainNarrator
from salus.devkit.network import NetworkFolder, Plan, create_topics
from salus.devkit.parts import find_parts
from salus.devkit.processes import Place
from salus.events.catalogue import PartyRegistered, PublicKey
from salus.events.did import LocalSigner, multibase_of
from salus.events.signature import SIGNATURE_HEADER
from salus.messaging import Producer
from salus.objects import Admin

TOPIC = "salus.clinical.events"
BUCKET = "salus-ledger"
DRAIN_S_MAX = 1800.0
_STAGE = re.compile(r'salus_sequencer_stage_seconds_(sum|count)\{shard="0",stage="(\w+)"\} (\S+)')


@dataclass(frozen=True)
class Drained:
    """What was seen of the sequencer."""

    seconds: float
    leaves: int
    accepted: int
    blocks: int
    cpu_s: float
    rss_mb_max: float
    stages: Mapping[str, float]


async def publish_backlog(parts: Addresses, folder: NetworkFolder, count: int) -> None:
    """Publish the hospital's key and then its events; producing is not what is measured."""
    hospital = LocalSigner.from_seed(b"hospital of the benchmark, 32 by")
    identity = folder.signer("identity")
    since = datetime.fromisoformat(folder.read()["root"]["key"]["valid_from"])
    key = PublicKey(hospital.verification_method, multibase_of(hospital.public_key), since)
    joined = PartyRegistered(did=hospital.did, kind="member", keys=(key,))
    async with Publisher(parts.kafka_bootstrap, identity) as publisher:
        await (await publisher.publish(joined, subject=hospital.did)).position()
    async with Producer(parts.kafka_bootstrap, client_id="benchmark") as producer:
        for batch in signed_batches(count, hospital):
            for subject, value, signature in batch:
                await producer.enqueue(
                    TOPIC, key=subject, value=value, headers=[(SIGNATURE_HEADER, signature)]
                )
        await producer.flush()


async def drain(parts: Addresses, folder: NetworkFolder, count: int, log: Path) -> Drained:
    """Start a sequencer, wait until it has sealed so many leaves, and return what it took."""
    (port,) = free_ports(1)
    environment = {
        "SALUS_KAFKA_BOOTSTRAP": parts.kafka_bootstrap,
        "SALUS_S3_ENDPOINT": parts.s3.endpoint,
        "SALUS_S3_ACCESS_KEY": parts.s3.access_key,
        "SALUS_S3_SECRET_KEY": parts.s3.secret_key,
        "SALUS_LEDGER_BUCKET": BUCKET,
        "SALUS_NETWORK_FILE": str(folder.file),
        "SALUS_SIGNING_KEY_FILE": str(folder.key_file("sequencer")),
        "SALUS_NOTE_KEY_FILE": str(folder.key_file("shard-0")),
        "SALUS_HTTP_PORT": str(port),
    }
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "salus.sequencer",
            env=os.environ | environment,
            stdout=output,
            stderr=output,
        )
    try:
        await _wait_until(lambda: bool(_lines(log, "chain restored")), log, process)
        cpu_s = cpu_seconds(process.pid)
        await _wait_until(
            lambda: sum(b["leaves"] for b in _lines(log, "block sealed")) >= count, log, process
        )
        cpu_s = cpu_seconds(process.pid) - cpu_s
        async with httpx.AsyncClient() as client:
            metrics = (await client.get(f"http://127.0.0.1:{port}/metrics")).text
        return _drained(log, metrics, cpu_s=cpu_s, rss_mb_max=peak_memory_mb(process.pid))
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _wait_until(fact: Callable[[], bool], log: Path, process: asyncio.subprocess.Process) -> None:
    give_up_at = time.monotonic() + DRAIN_S_MAX
    while not fact():
        if process.returncode is not None or time.monotonic() > give_up_at:
            raise RuntimeError(f"the sequencer did not get to the end:\n{_tail(log)}")
        await asyncio.sleep(0.2)


def _tail(log: Path) -> str:
    return log.read_text()[-3000:]


def _lines(log: Path, event: str) -> list[dict[str, Any]]:
    lines = [line for line in log.read_text().splitlines() if line.startswith("{") and line.endswith("}")]
    return [line for line in map(json.loads, lines) if line.get("event") == event]


def _drained(log: Path, metrics: str, *, cpu_s: float, rss_mb_max: float) -> Drained:
    (restored,) = _lines(log, "chain restored")
    blocks = _lines(log, "block sealed")
    began, ended = (datetime.fromisoformat(line["timestamp"]) for line in (restored, blocks[-1]))
    return Drained(
        seconds=(ended - began).total_seconds(),
        leaves=sum(line["leaves"] for line in blocks),
        accepted=sum(line["accepted"] for line in blocks),
        blocks=len(blocks),
        cpu_s=cpu_s,
        rss_mb_max=rss_mb_max,
        stages={stage: float(total) for kind, stage, total in _STAGE.findall(metrics) if kind == "sum"},
    )


async def main(count: int) -> None:
    """Run the benchmark and report."""
    facts = machine()
    with tempfile.TemporaryDirectory(prefix="salus-bench-") as name:
        place = Path(name)
        provider = await find_parts(Place(place, place / "logs", detached=False), PlainNarrator())
        parts = await provider.start(None)
        try:
            folder = NetworkFolder(place / "network")
            folder.create(Plan())
            await create_topics(parts.kafka_bootstrap, Plan())
            s3 = parts.s3
            admin = Admin(s3.endpoint, s3.access_key, s3.secret_key, s3.region)
            await admin.ensure_bucket(BUCKET, object_lock=True)
            say(f"publishing {count:,} events")
            await publish_backlog(parts, folder, count)
            say("draining")
            drained = await drain(parts, folder, count + 1, place / "sequencer.log")
            say("measuring the physical limits")
            limits = measure_limits() | await measure_fetch(parts.kafka_bootstrap, TOPIC, min(count, 100_000))
        finally:
            await provider.stop()
    tell(facts, drained, limits)


def tell(facts: dict[str, Any], drained: Drained, limits: dict[str, float]) -> None:
    """Report the figures."""
    rate = drained.leaves / drained.seconds
    stages = {f"stage {k}": f"{1e6 * v / drained.leaves:6.2f} µs/event" for k, v in drained.stages.items()}
    figures = {
        "benchmark": "drain",
        "events_per_s": round(rate),
        "events": drained.leaves,
        "accepted": drained.accepted,
        "blocks": drained.blocks,
        "seconds": round(drained.seconds, 3),
        "cpu_us_per_event": round(1e6 * drained.cpu_s / drained.leaves, 2),
        "rss_mb_max": drained.rss_mb_max,
        "stages_us_per_event": {k: round(1e6 * v / drained.leaves, 2) for k, v in drained.stages.items()},
        "limits_us_per_event": {k: round(v, 2) for k, v in limits.items()},
        "machine": facts,
    }
    summary = {
        "drained": f"{drained.leaves:,} events in {drained.blocks} blocks, {drained.seconds:.2f} s",
        "rate": f"{rate:,.0f} events/s",
        "processor time": f"{figures['cpu_us_per_event']} µs/event",
        "memory, at most": f"{drained.rss_mb_max} MB",
        **stages,
    }
    alone = {name: f"{value:6.2f} µs/event" for name, value in limits.items()}
    report("drain", figures, {"one sequencer": summary, "limits, alone": alone, "machine": _text(facts)})


def _text(facts: dict[str, Any]) -> dict[str, str]:
    return {key: str(value) for key, value in facts.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Drain a backlog with one sequencer.")
    parser.add_argument("--events", type=int, default=200_000, help="how many events (default 200000)")
    asyncio.run(main(parser.parse_args().events))
