"""A disk is lost, then all of Kafka: what was on the ledger is there, proven, and known to every service."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from aiokafka import AIOKafkaProducer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.asking import NETWORK
from tests.conftest import PlatformFactory
from tests.integration.raw_kafka import produce, record_batch

from salus.archive.fsck import StoreAddress, fsck
from salus.archive.report import Report
from salus.archive.trust import Trust
from salus.client import Publisher, RequestSigner
from salus.client.auth import make_possession
from salus.devkit.platform import Platform
from salus.events.contexts.clinical import DocumentRegistered
from salus.events.did import LocalSigner, multibase_of
from salus.ledger.policy import Policy
from salus.ledger.receipt import verify_receipt
from salus.messaging import Producer
from salus.runtime.manifests import services

pytestmark = pytest.mark.timeout(600)
CLINICAL = "salus.clinical.events"
CACHES = tuple(manifest.name for manifest in services() if manifest.is_party)
PATIENCE_S = 60


@dataclass(frozen=True)
class Published:
    """Where an event stands, and its value."""

    topic: str
    partition: int
    offset: int
    value: bytes


async def join(platform: Platform) -> LocalSigner:
    """Register a hospital at identity."""
    member = LocalSigner(Ed25519PrivateKey.generate())
    now = datetime.now(UTC)
    key = {
        "id": member.verification_method,
        "multibase": multibase_of(member.public_key),
        "valid_from": (now - timedelta(minutes=5)).isoformat(),
        "proof": make_possession(member, network=NETWORK, now=now),
    }
    body = {"did": member.did, "kind": "member", "name": "A hospital", "keys": [key]}
    auth = RequestSigner(platform.network.signer("operator"), "identity", network=NETWORK)
    async with httpx.AsyncClient(base_url=platform.service_url("identity"), timeout=60) as http:
        answer = await http.post("/parties", json=body, auth=auth)
    assert answer.status_code == 201, answer.text
    return member


async def publish(platform: Platform, member: LocalSigner, count: int) -> list[Published]:
    """Publish good events, and records that become rejected leaves between them."""
    published = []
    async with (
        Publisher(platform.kafka_bootstrap, member) as publisher,
        Producer(platform.kafka_bootstrap, client_id="anybody") as anybody,
    ):
        for number in range(count):
            patient = f"urn:uuid:{uuid.uuid4()}"
            data = DocumentRegistered(patient=patient, object=f"scan-{number}", media_type="image/png")
            handle = await publisher.publish(data, subject=patient)
            at = await handle.position()
            published.append(Published(at.topic, at.partition, at.offset, handle.value))
            if number % 5 == 0:
                await anybody.send(CLINICAL, key=patient.encode(), value=b"garbage" if number % 2 else None)
    return published


async def send_odd_records(platform: Platform, partition: int) -> int:
    """Send what takes more offsets than it has leaves; return the offset of its last leaf.

    A transaction's marker is no record, and a batch whose records both say offset 0 is one leaf for two.
    """
    bootstrap = str(platform.kafka_bootstrap)
    member = AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id="a member")
    async with member as producer, producer.transaction():
        await producer.send_and_wait(CLINICAL, b"one", partition=partition)
    return 1 + await produce(bootstrap, CLINICAL, partition, record_batch([(0, b"odd"), (0, b"odd")]))


async def require_refused(platform: Platform, partition: int, offset: int) -> None:
    """The record is on the ledger, as one that nobody can read."""
    policy = Policy.from_network(platform.network.file.read_bytes())
    place: dict[str, str | int] = {"topic": CLINICAL, "partition": partition, "offset": offset, "wait_s": 30}
    async with httpx.AsyncClient(base_url=platform.service_url("anchoring"), timeout=PATIENCE_S) as http:
        answer = await http.get("/receipts", params=place)
    assert answer.status_code == 200, answer.text
    assert verify_receipt(answer.content, policy).leaf.status == "rejected:unreadable"


async def require_receipts(platform: Platform, published: list[Published]) -> None:
    """Every event has a receipt that verifies offline for its value."""
    policy = Policy.from_network(platform.network.file.read_bytes())
    async with httpx.AsyncClient(base_url=platform.service_url("anchoring"), timeout=PATIENCE_S) as http:
        for one in published:
            place: dict[str, str | int] = {"topic": one.topic, "partition": one.partition}
            place |= {"offset": one.offset, "wait_s": 30}
            answer = await http.get("/receipts", params=place)
            assert answer.status_code == 200, answer.text
            assert verify_receipt(answer.content, policy, event=one.value).leaf.status == "accepted"


async def require_known(platform: Platform, member: LocalSigner) -> None:
    """Identity knows the hospital, and audit tells how it joined."""
    async with httpx.AsyncClient(base_url=platform.service_url("identity"), timeout=60) as http:
        party = await http.get(f"/parties/{member.did}")
    assert party.status_code == 200, party.text
    assert await trail(platform, type="salus.identity.party-registered.v1", about=member.did)


async def trail(platform: Platform, *, about: str = "", **question: str) -> list[dict[str, Any]]:
    """Return the entries that answer a question, `about` something or anything, once there are any.

    A trail that is being made anew shows what it has so far.
    """
    operator = platform.network.signer("operator")
    async with (
        asyncio.timeout(PATIENCE_S),
        httpx.AsyncClient(base_url=platform.service_url("audit"), timeout=60) as http,
    ):
        while True:
            auth = RequestSigner(operator, "audit", network=NETWORK)
            answer = await http.get("/trail", params=question, auth=auth)
            assert answer.status_code == 200, answer.text
            if entries := [e for e in answer.json()["entries"] if about in {"", e["object"]}]:
                return entries
            await asyncio.sleep(0.2)


async def check(platform: Platform) -> Report:
    s3 = platform.s3
    address = StoreAddress(s3.endpoint, s3.access_key, s3.secret_key, s3.region, "salus-ledger", "salus-log")
    return await fsck(address, Trust.from_network(platform.network.file.read_bytes()), deep=True)


async def salus(platform: Platform, *arguments: str) -> tuple[int, str, str]:
    """Run a command on the platform's state folder."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "salus.cli", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "SALUS_STATE": str(platform.state.folder)},
    )
    out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


async def test_lost_disks_and_a_lost_kafka_lose_nothing_that_is_on_the_ledger(
    platform_factory: PlatformFactory,
) -> None:
    platform = await platform_factory()
    member = await join(platform)
    published = await publish(platform, member, 40)
    await require_receipts(platform, published)

    for service in CACHES:
        await platform.stop_service(service)
        shutil.rmtree(platform.state.data / service)
    await platform.start_services()

    await require_receipts(platform, published[::10])
    await require_known(platform, member)
    published += await publish(platform, member, 5)
    await require_receipts(platform, published[-5:])
    # Case redB8 7: an honest sequencer took what is filled in for these for a forgery.
    partition = published[-1].partition
    await require_refused(platform, partition, await send_odd_records(platform, partition))

    await platform.stop()
    shutil.rmtree(platform.state.data / "kafka")
    code, out, err = await salus(platform, "ledger", "restore-topics", "--json")
    assert code == 0, err
    restored = json.loads(out)
    assert restored["recorded"]
    await platform.start()

    await require_known(platform, member)
    later = await publish(platform, member, 20)
    await require_receipts(platform, published + later)
    assert not {(p.partition, p.offset) for p in published} & {(p.partition, p.offset) for p in later}
    report = await check(platform)
    assert report.errors == []
    assert report.counts.judged > 65
    [entry] = await trail(platform, type="salus.network.topics-restored.v1")
    assert entry["object"] == str(restored["log_size"])
