"""Audit as an app in this process, with real Kafka and MinIO behind it, on topics and a bucket of its own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from pydantic import SecretStr
from tests.founding import add_founder, founding
from tests.unit.audit.chain import Accepted, Chain, Refused
from tests.unit.audit.samples import MEMBER

from salus.audit import __main__ as audit
from salus.audit.identity_chain import IdentityTopic
from salus.audit.settings import Settings
from salus.client.auth import RequestSigner
from salus.crypto.keys import load_ed25519
from salus.devkit.addresses import Addresses
from salus.devkit.network import NetworkFolder, Plan
from salus.events.contexts.ledger import BlockSealed
from salus.events.did import LocalSigner
from salus.events.envelope import encode_event
from salus.ledger.block import body_key, header_key
from salus.ledger.note import NoteSigner
from salus.messaging import MESSAGE_BYTES_MAX, Producer, Reader, Record, Topic, ensure_topics
from salus.objects import Admin, S3Objects, open_store
from salus.runtime.network import Network
from salus.runtime.publishing import open_publisher

VALID_FROM = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class World:
    """A network with an analyst, a chain that the test seals, and audit, which it starts and stops."""

    folder: NetworkFolder
    settings: Settings
    chain: Chain
    bucket: S3Objects
    producer: Producer
    analyst: LocalSigner
    operator: LocalSigner
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    client: httpx.AsyncClient = field(default_factory=httpx.AsyncClient)

    @property
    def origin(self) -> str:
        """The network's origin."""
        return str(self.folder.read()["origin"])

    async def start(self) -> None:
        """Start audit."""
        app = await self.stack.enter_async_context(audit.open_app(self.settings))
        transport = httpx.ASGITransport(app=app)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://audit")
        self.stack.push_async_callback(self.client.aclose)

    async def stop(self) -> None:
        """Stop audit."""
        await self.stack.aclose()

    async def seal(self, records: Sequence[Accepted | Refused], *, announce: bool = True) -> None:
        """Write a block as the sequencer does: body, header, announcement."""
        header = self.chain.seal(records)
        shard, height = self.chain.shard, header.height
        keys = (body_key(shard, height, header.root), header_key(shard, height))
        for key in keys:
            await self.bucket.put(key, self.chain.objects[key])
        if announce:
            data = BlockSealed(shard, height, keys[1], keys[0], header.leaves, header.accepted)
            value = encode_event(
                data, id=uuid4().hex, source=MEMBER, subject=f"shard-{shard}", time=datetime.now(UTC)
            )
            await self.producer.send(self.settings.blocks_topic, key=b"0", value=value)

    async def get(self, path: str, **query: Any) -> httpx.Response:
        """Ask the API as the analyst."""
        auth = RequestSigner(self.analyst, "audit", network=self.origin)
        return await self.client.get(path, params=query, auth=auth)

    async def post(self, path: str, caller: LocalSigner) -> httpx.Response:
        """Ask the API to do something, as somebody."""
        return await self.client.post(
            path, auth=RequestSigner(caller, "audit", network=self.origin), timeout=60
        )

    async def published(self, topic: str, count: int, *, timeout_s: float = 30) -> list[Record]:
        """Return the records of a topic from its beginning, once there are that many."""
        found: list[Record] = []
        async with Reader(self.settings.kafka_bootstrap, starts={(topic, 0): 0}) as reader:
            async with asyncio.timeout(timeout_s):
                while len(found) < count:
                    found += await reader.poll(max_records=1000, timeout_ms=200)
        return found


def events_of(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Return the JSON values."""
    return [json.loads(record.value or b"") for record in records]


def unjudged(topic_of: Callable[[Network], IdentityTopic]) -> Callable[[Network], IdentityTopic]:
    """Return the same, but that no row is judged again."""
    return lambda network: replace(topic_of(network), judge=lambda *_: {})


@pytest.fixture
async def world(parts: Addresses, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    # The blocks of these tests hold what nobody signed; tests/unit/audit/test_judged_blocks.py has true ones.
    monkeypatch.setattr(audit, "identity_topic_of", unjudged(audit.identity_topic_of))
    run = uuid4().hex[:8]
    folder = NetworkFolder(tmp_path)
    network = folder.create(Plan(origin=f"salus.local/audit-{run}"))
    kafka, s3 = parts.kafka_bootstrap, parts.s3
    topics = {name: f"audit-{run}.{name}" for name in ("blocks", "ocsf", "fhir")}
    config = {"max.message.bytes": str(MESSAGE_BYTES_MAX)}
    wanted = [Topic(name, 1, config) for name in (*topics.values(), "salus.identity.events")]
    await ensure_topics(kafka, wanted)
    bucket_name = f"audit-{run}"
    facts: dict[str, Any] = {
        "endpoint": s3.endpoint,
        "access_key": s3.access_key,
        "secret_key": s3.secret_key,
        "region": s3.region,
    }
    await Admin(**facts).ensure_bucket(bucket_name)
    settings = Settings(
        kafka_bootstrap=kafka,
        network_file=folder.file,
        signing_key_file=folder.key_file("audit"),
        http_port=0,
        database_url=f"sqlite+aiosqlite:///{tmp_path}/audit.db",
        s3_endpoint=s3.endpoint,
        s3_access_key=s3.access_key,
        s3_secret_key=SecretStr(s3.secret_key),
        s3_region=s3.region,
        ledger_bucket=bucket_name,
        anchoring_url="http://anchoring",
        blocks_topic=topics["blocks"],
        ocsf_topic=topics["ocsf"],
        fhir_topic=topics["fhir"],
        refusals_max=3,
        compare_interval_s_min=0.2,
        poll_s=0.2,
    )
    analyst = LocalSigner.from_seed(uuid4().bytes + uuid4().bytes)
    operator = LocalSigner.from_seed(uuid4().bytes + uuid4().bytes)
    add_founder(folder.file, analyst, "person", ["soc-analyst"])
    add_founder(folder.file, operator, "person", ["operator"])
    async with open_publisher(kafka, folder.signer("identity")) as publisher:
        for fact in founding(folder.file):
            await publisher.publish(fact, subject=fact.did, expected_version=0)
    shard = network["shards"][0]["origin"]
    chain = Chain(origin=shard)
    chain.signer = NoteSigner(shard, load_ed25519(folder.key_file("shard-0")))
    async with Producer(kafka, client_id="tests") as producer:
        bucket = open_store(**facts, bucket=bucket_name)
        made = World(folder, settings, chain, bucket, producer, analyst, operator)
        yield made
        await made.stop()
