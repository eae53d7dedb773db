"""The stage of a benchmark: a platform of its own, a hospital that publishes, and the ledger as it grows."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import msgspec

from salus.archive.log import LogReader
from salus.cli.bench.load import TOPIC, public_key_of
from salus.cli.checking import LOG_BUCKET
from salus.cli.exits import CommandError, Exit
from salus.client import Publisher
from salus.client.auth import RequestLine, make_bearer, make_possession
from salus.crypto.scratch_folders import scratch_folder
from salus.devkit.narration import Narrator
from salus.devkit.network import Plan
from salus.devkit.platform import Platform
from salus.devkit.processes import Place, exit_code, is_alive, spawn, stop
from salus.devkit.services import sequencer_name
from salus.devkit.waiting import until
from salus.events.bearer import audience_of
from salus.events.contexts import CATALOGUE
from salus.events.contexts.identity import PartyRegistered
from salus.events.contexts.ledger import CheckpointPublished
from salus.events.did import LocalSigner
from salus.events.envelope import decode_event
from salus.events.event_types import type_of
from salus.events.requests import SIGNED, Request
from salus.ledger.block import Header, parse_header
from salus.ledger.note import split_note
from salus.messaging import Bootstrap, Reader

CHECKPOINTS = type_of(CheckpointPublished).topic
HOSPITAL_SEED = b"hospital of the benchmark, 32 by"
STALL_S_MAX = 120.0
LOOK_EVERY_S = 1.0
LOADERS = 2


@asynccontextmanager
async def open_stage(
    narrator: Narrator, *, shards: int = 1, witnesses: int = 0, environment: Mapping[str, str] | None = None
) -> AsyncIterator[Platform]:
    """Start Kafka and MinIO and make a network; everything is gone when the context is left."""
    with scratch_folder("salus-bench-") as folder:
        plan = Plan(shards=shards, witnesses=witnesses)
        async with Platform(folder, narrator=narrator, plan=plan, environment=environment) as platform:
            await platform.start_parts()
            await _register_hospital(platform)
            yield platform


def sequencers(shards: int) -> list[str]:
    """Return the names of the sequencers of a network."""
    return [sequencer_name(shard) for shard in range(shards)]


async def _register_hospital(platform: Platform) -> None:
    """State what identity states as the operator founds the network and asks for the hospital."""
    since = datetime.fromisoformat(platform.network.read()["root"]["key"]["valid_from"])
    identity, operator = platform.network.signer("identity"), platform.network.signer("operator")
    hospital = LocalSigner.from_seed(HOSPITAL_SEED)
    founded = PartyRegistered(
        did=operator.did,
        kind="person",
        keys=(public_key_of(operator, since),),
        roles=("operator",),
        request=Request.of_service(identity.did),
    )
    key, origin = public_key_of(hospital, since), platform.network.read()["origin"]
    proven = {
        **msgspec.to_builtins(key),
        "proof": make_possession(hospital, network=origin, now=datetime.now(UTC)),
    }
    body = msgspec.json.encode({"did": hospital.did, "kind": "member", "keys": [proven]})
    asked = RequestLine("POST", "/parties", body)
    request = Request(
        by=operator.did,
        authentication=SIGNED,
        proof=make_bearer(operator, audience_of("identity", origin), now=datetime.now(UTC), request=asked),
        body=body.decode(),
    )
    joined = PartyRegistered(did=hospital.did, kind="member", keys=(key,), request=request)
    async with Publisher(platform.kafka_bootstrap, identity) as publisher:
        for party in (founded, joined):
            await (await publisher.publish(party, subject=party.did, expected_version=0)).position()


async def ends(bootstrap: Bootstrap, partitions: int) -> dict[int, int]:
    """Return how many records each partition of the events' topic has."""
    async with Reader(bootstrap, starts={(TOPIC, number): 0 for number in range(partitions)}) as reader:
        return {number: end for (_, number), end in (await reader.end_offsets()).items()}


async def preload(platform: Platform, narrator: Narrator, count: int, *, partitions: int = 4) -> None:
    """Publish so many signed events; publishing is not what is measured. Raises as `preload_with`."""
    narrator.step(f"publishing {count:,} events of 1 KiB, signed in batches of 64")

    async def there() -> str:
        published = sum((await ends(platform.kafka_bootstrap, partitions)).values())
        return f"published {published:,} of {count:,} events"

    module = "salus.cli.bench.loading"
    await preload_with(platform, narrator, module, [str(partitions)], first=0, end=count, tell=there)


async def preload_with(  # a program and its share
    platform: Platform,
    narrator: Narrator,
    module: str,
    arguments: Sequence[str],
    *,
    first: int,
    end: int,
    tell: Callable[[], Awaitable[str]] | None = None,
) -> None:
    """Publish the events of these numbers with processes that run a module; each gets a share of them.

    Raises:
        CommandError: one of them failed.
    """
    shares = [first + (end - first) * part // LOADERS for part in range(LOADERS + 1)]
    folder, kafka = platform.state.folder, str(platform.kafka_bootstrap)
    place = Place(folder / "loading", folder / "logs", detached=False)
    loaders = [
        spawn(
            f"loader-{part}",
            [sys.executable, "-m", module, kafka, *arguments, str(begin), str(until_)],
            place,
            env=os.environ,
        )
        for part, (begin, until_) in enumerate(pairwise(shares))
    ]

    async def done() -> bool:
        if tell is not None:
            narrator.update(await tell())
        return not any(map(is_alive, loaders))

    try:
        while not await until(done, deadline_s=STALL_S_MAX, period_s=2.0):
            continue
    finally:
        for loader in loaders:
            failed = exit_code(loader)
            await stop(loader)
            if failed:
                raise CommandError(Exit.NO, f"a loader failed: {loader.log_tail()[-800:]}")


@dataclass(frozen=True, slots=True)
class Point:
    """A final checkpoint: when it was announced (Unix seconds), its size, and the leaves under it."""

    at: float
    size: int
    leaves: int


@dataclass(slots=True)
class Ledger:
    """The final checkpoints so far, and the headers under them, out of Kafka and the log's bucket."""

    reader: Reader
    log: LogReader
    points: list[Point] = field(default_factory=list)
    headers: list[Header] = field(default_factory=list)

    async def advance(self, *, wait_ms: int = 500) -> int:
        """Take what is new; return the leaves under the last final checkpoint."""
        records = await self.reader.poll(max_records=1000, timeout_ms=wait_ms)
        announced = [
            (record.timestamp_ms / 1000, decode_event(record.value or b"", CATALOGUE).data)
            for record in records
        ]
        sizes = [(at, data.size) for at, data in announced if isinstance(data, CheckpointPublished)]
        if sizes:
            async for note in self.log.entries(len(self.headers), sizes[-1][1]):
                self.headers.append(parse_header(split_note(note)[0]))
        leaves, counted = (self.points[-1].leaves, self.points[-1].size) if self.points else (0, 0)
        for at, size in sizes:
            leaves += sum(header.leaves for header in self.headers[counted:size])
            counted = size
            self.points.append(Point(at, size, leaves))
        return leaves

    async def reach(self, leaves: int, narrator: Narrator, what: str) -> None:
        """Follow until so many leaves are under a final checkpoint.

        Raises:
            CommandError: nothing moved for STALL_S_MAX.
        """
        seen = len(self.points)

        async def there() -> bool:
            done = await self.advance()
            narrator.update(f"{what}: {done:,} of {leaves:,}")
            return done >= leaves or len(self.points) > seen

        while not self.points or self.points[-1].leaves < leaves:
            seen = len(self.points)
            if not await until(there, deadline_s=STALL_S_MAX, period_s=0.2):
                raise CommandError(Exit.NO, f"no checkpoint for {STALL_S_MAX:.0f} s while {what}")
            # Looking more often would take processor time that is measured; the broker stamps moments.
            await asyncio.sleep(LOOK_EVERY_S)


@asynccontextmanager
async def open_ledger(platform: Platform) -> AsyncIterator[Ledger]:
    """Follow the platform's ledger from its beginning."""
    async with Reader(platform.kafka_bootstrap, starts={(CHECKPOINTS, 0): 0}) as reader:
        yield Ledger(reader, LogReader(platform.bucket(LOG_BUCKET)))


def first_moment(services: Sequence[str], platform: Platform, event: str) -> float | None:
    """Return when the first of these services logged an event (Unix seconds), None if none did."""
    found = []
    for name in services:
        for line in Path(platform.services[name].process.log).read_text().split("\n"):
            if f'"event": "{event}"' in line or f'"event":"{event}"' in line:
                stamp = line.partition('"timestamp"')[2].split('"')[1]
                found.append(datetime.fromisoformat(stamp).timestamp())
                break
    return min(found, default=None)
