"""A shard on real Kafka and MinIO, its sequencers as processes, and the laws its chain must keep."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
from tests.founding import founding, joining

from salus.archive.body import ACCEPTED, decode_body
from salus.client import Publisher
from salus.devkit.addresses import Addresses
from salus.devkit.free_ports import free_ports
from salus.devkit.network import NetworkFolder, Plan, create_topics
from salus.devkit.waiting import until
from salus.events.contexts.clinical import DocumentRegistered
from salus.events.did import LocalSigner
from salus.ledger.block import Header, Leaf, body_key, check_succession, open_header
from salus.ledger.merkle import leaf_hash, root_of
from salus.ledger.note import NoteVerifier
from salus.ledger.records import timestamp_at
from salus.messaging import Reader, Record
from salus.objects import Admin, S3Objects, open_store, refuse_stray
from salus.runtime.network import Network

CLINICAL = "salus.clinical.events"
PATIENT = "urn:uuid:00000000-0000-4000-8000-000000000001"
DEADLINE_S = 60
Place = tuple[str, int, int]


@dataclass
class SequencerProcess:
    """One `python -m salus.sequencer`."""

    process: asyncio.subprocess.Process
    url: str
    log: Path

    async def kill(self) -> None:
        """End it as a power cut does."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGKILL)
        await self.process.wait()

    async def stop(self) -> int:
        """End it as an orchestrator does, and return its exit code."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        return await self.process.wait()

    async def is_ready(self) -> bool:
        return (await self.answer("/readyz"))[0] == 200

    async def lacks(self, part: str) -> bool:
        """Tell whether it says that it is not ready for want of this part."""
        code, page = await self.answer("/readyz")
        return code == 503 and page["checks"][part] != "ok"

    async def answer(self, path: str) -> tuple[int, Any]:
        """Return status and JSON of one of its pages; 0 while it does not listen."""
        async with httpx.AsyncClient() as client:
            try:
                response = await client.get(self.url + path, timeout=60)
            except httpx.TransportError:
                return 0, None
        return response.status_code, response.json()


@dataclass
class Shard:
    """A network of one shard with its own bucket, on topics that other tests may write to as well."""

    parts: Addresses
    folder: NetworkFolder
    bucket: str
    store: S3Objects
    hospital: LocalSigner = field(default_factory=lambda: LocalSigner.from_seed(secrets.token_bytes(32)))
    started: list[SequencerProcess] = field(default_factory=list)

    @property
    def verifier(self) -> NoteVerifier:
        return NoteVerifier.from_vkey(Network.read(self.folder.file).shards[0].verifier_key)

    @property
    def origin(self) -> str:
        """The network's origin."""
        return Network.read(self.folder.file).origin

    @property
    def partitions(self) -> list[tuple[str, int]]:
        topics = Network.read(self.folder.file).shards[0].topics
        return [(topic, number) for topic, numbers in topics.items() for number in numbers]

    async def start_sequencer(self, **settings: str) -> SequencerProcess:
        """Start one more sequencer of the shard."""
        (port,) = free_ports(1)
        environment = {
            "SALUS_KAFKA_BOOTSTRAP": self.parts.kafka_bootstrap,
            "SALUS_S3_ENDPOINT": self.parts.s3.endpoint,
            "SALUS_S3_ACCESS_KEY": self.parts.s3.access_key,
            "SALUS_S3_SECRET_KEY": self.parts.s3.secret_key,
            "SALUS_LEDGER_BUCKET": self.bucket,
            "SALUS_NETWORK_FILE": str(self.folder.file),
            "SALUS_SIGNING_KEY_FILE": str(self.folder.key_file("sequencer")),
            "SALUS_NOTE_KEY_FILE": str(self.folder.key_file("shard-0")),
            "SALUS_HTTP_PORT": str(port),
        }
        log = self.folder.folder / f"sequencer-{len(self.started)}.log"
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "salus.sequencer",
                env=os.environ | environment | settings,
                stdout=output,
                stderr=output,
            )
        started = SequencerProcess(process, f"http://127.0.0.1:{port}", log)
        self.started.append(started)
        return started

    @asynccontextmanager
    async def publisher(self, *, batch_max: int = 64) -> AsyncIterator[Publisher]:
        async with Publisher(self.parts.kafka_bootstrap, self.hospital, batch_max=batch_max) as publisher:
            yield publisher

    async def join_hospital(self) -> None:
        """Register the hospital with the network's identity."""
        operator = self.folder.signer("operator")
        joined = [
            *(fact for fact in founding(self.folder.file) if fact.did == operator.did),
            joining(self.hospital, by=operator, kind="member", network=self.origin),
        ]
        async with Publisher(self.parts.kafka_bootstrap, self.folder.signer("identity")) as publisher:
            for fact in joined:
                handle = await publisher.publish(fact, subject=fact.did, expected_version=0)
                await handle.position()

    async def publish_documents(self, count: int, *, name: str = "object") -> None:
        """Publish so many good events, spread over the partitions, and wait for their acknowledgement."""
        async with self.publisher() as publisher:
            for number in range(count):
                patient = f"urn:uuid:00000000-0000-4000-8000-{number % 97:012d}"
                data = DocumentRegistered(patient=patient, object=f"{name}-{number}", media_type="text/plain")
                await publisher.publish(data, subject=patient)

    async def records(self) -> dict[Place, Record]:
        """Return every committed record of the shard's partitions."""
        found: dict[Place, Record] = {}
        starts = dict.fromkeys(self.partitions, 0)
        async with Reader(self.parts.kafka_bootstrap, starts=starts) as reader:
            ends = await reader.end_offsets()
            while {at: await reader.position(*at) for at in starts} != ends:
                for record in await reader.poll(max_records=5000, timeout_ms=500):
                    found[record.topic, record.partition, record.offset] = record
        return found

    async def chain(self) -> list[tuple[Header, bytes]]:
        """Return every header with its note."""
        keys = [
            e.key
            async for e in self.store.list("shard/0", on_stray=refuse_stray)
            if e.key.endswith("/header")
        ]
        notes = [await self.store.get(key, bytes_max=1 << 30) for key in keys]
        return [(open_header(note, self.verifier), note) for note in notes]

    async def rows(self) -> list[dict[str, Any]]:
        """Check the whole chain from the store alone and return every leaf's row, in order."""
        before: tuple[Header, bytes] | None = None
        rows: list[dict[str, Any]] = []
        for header, note in await self.chain():
            check_succession(before, header)
            body = await self.store.get(body_key(0, header.height, header.root), bytes_max=1 << 30)
            assert (len(body), sha256(body).digest()) == (header.body_bytes, header.body_sha256)
            block = decode_body(body, verify_pages=True).to_pylist()
            leaves = [leaf_of(row).hash() for row in block]
            assert root_of(leaves) == header.root
            assert leaves == [row["leaf_hash"] for row in block]
            assert (len(block), sum(row["status"] == ACCEPTED for row in block)) == (
                header.leaves,
                header.accepted,
            )
            rows += block
            before = header, note
        return rows

    async def wait_until_sealed(self) -> None:
        """Wait until every record that is in the topics now is in a block."""
        places = await self.records()

        async def is_sealed() -> bool:
            chain = await self.chain()
            sealed = chain[-1][0].next_offsets if chain else {}
            return all(offset < sealed.get((topic, part), 0) for topic, part, offset in places)

        assert await until(is_sealed, deadline_s=DEADLINE_S), [
            s.log.read_text()[-2000:] for s in self.started
        ]

    async def require_laws(self) -> list[dict[str, Any]]:
        """Every record is one leaf, none is lost, twice, moved or changed; return the rows."""
        rows, records = await self.rows(), await self.records()
        places = [(row["topic"], row["partition"], row["offset"]) for row in rows]
        assert len(places) == len(set(places))
        assert set(places) == set(records)
        assert sorted(places, key=lambda place: place[:2]) == sorted(places)
        for row, place in zip(rows, places, strict=True):
            assert row["value"] == (records[place].value if row["status"] == ACCEPTED else None)
        return rows


def leaf_of(row: dict[str, Any]) -> Leaf:
    digest = row["digest"] if row["value"] is None else leaf_hash(row["value"])
    place = row["topic"], row["partition"], row["offset"], timestamp_at(row["timestamp"])
    return Leaf(*place, row["status"], digest, row["signature"])


@asynccontextmanager
async def open_shard(parts: Addresses, folder: Path) -> AsyncIterator[Shard]:
    """Make a network with a bucket of its own; whatever was started is killed in the end."""
    network = NetworkFolder(folder)
    network.create(Plan(origin=f"test/{secrets.token_hex(4)}"))
    await create_topics(parts.kafka_bootstrap, Plan())
    bucket = f"ledger-{secrets.token_hex(6)}"
    s3 = parts.s3
    admin = Admin(endpoint=s3.endpoint, access_key=s3.access_key, secret_key=s3.secret_key, region=s3.region)
    await admin.ensure_bucket(bucket, object_lock=True)
    store = open_store(
        endpoint=s3.endpoint,
        access_key=s3.access_key,
        secret_key=s3.secret_key,
        region=s3.region,
        bucket=bucket,
    )
    shard = Shard(parts, network, bucket, store)
    try:
        yield shard
    finally:
        for started in shard.started:
            await started.kill()
