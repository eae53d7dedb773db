"""Topics that got more partitions while everything runs: they are named, and there is a way out."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions
from tests.conftest import PlatformFactory

from salus.cli.sharding import unassigned
from salus.cli.shards import assign_on, look
from salus.devkit.narration import PlainNarrator
from salus.devkit.platform import Platform
from salus.devkit.waiting import until
from salus.events.contexts.clinical import DocumentRegistered
from salus.events.did import LocalSigner
from salus.events.envelope import encode_event
from salus.events.signature import sign_values
from salus.messaging import Position, Producer

CLINICAL, CONSENT = "salus.clinical.events", "salus.consent.events"
PATIENT = f"urn:uuid:{uuid.UUID(int=7)}"
WAIT_S = 90.0


async def extend(platform: Platform, topic: str, partitions: int) -> None:
    """Do what the Kafka manual teaches: `kafka-topics --alter --partitions`."""
    admin = AdminClient({"bootstrap.servers": str(platform.kafka_bootstrap)})
    done = admin.create_partitions([NewPartitions(topic, partitions)])[topic]
    await asyncio.to_thread(done.result, WAIT_S)


async def publish(platform: Platform, signer: LocalSigner, partition: int) -> Position:
    """Publish a signed event to a partition, as a client that knows of it may."""
    data = DocumentRegistered(patient=PATIENT, object=uuid.uuid4().hex, media_type="a/b")
    value = encode_event(
        data, id=uuid.uuid4().hex, source=signer.did, subject=PATIENT, time=datetime.now(UTC)
    )
    headers = [("salus-signature", sign_values([value], signer)[0])]
    async with Producer(platform.kafka_bootstrap, client_id="test") as producer:
        return await (
            await producer.enqueue(
                CLINICAL, key=PATIENT.encode(), value=value, headers=headers, partition=partition
            )
        )


async def page(platform: Platform, service: str, path: str) -> tuple[int, Any]:
    async with httpx.AsyncClient(trust_env=False, timeout=60) as http:
        answer = await http.get(f"{platform.service_url(service)}{path}")
    return answer.status_code, answer.json() if "json" in answer.headers["content-type"] else answer.text


async def says(platform: Platform, service: str, sentence: str) -> bool:
    code, answer = await page(platform, service, "/readyz")
    return code == 503 and any(sentence in said for said in answer["checks"].values())


def receipt_of(at: Position) -> str:
    return f"/receipts?topic={at.topic}&partition={at.partition}&offset={at.offset}&wait_s=20"


@pytest.mark.timeout(600)
async def test_new_partitions_are_named_assigned_and_sealed_from_their_beginning(
    platform_factory: PlatformFactory,
) -> None:
    # case K1
    platform = await platform_factory(start=False)
    await platform.start_parts()
    await platform.start_services(["identity", "sequencer", "anchoring", "consent"])
    operator = platform.network.signer("operator")
    member = platform.network.signer("operator")
    assignment, _ = await look(platform)
    fresh = 1 + max(partition for topic, partition in assignment.homes if topic == CLINICAL)
    await extend(platform, CLINICAL, fresh + 2)
    before = await publish(platform, member, fresh + 1)

    async def is_named() -> bool:
        return await says(platform, "sequencer", f"no shard seals {CLINICAL} {fresh + 1}")

    assert await until(is_named, deadline_s=WAIT_S)
    assert unassigned((await look(platform))[1]) == [(CLINICAL, fresh), (CLINICAL, fresh + 1)]
    code, problem = await page(platform, "anchoring", receipt_of(before).replace("wait_s=20", "wait_s=0"))
    assert (code, problem["code"]) == (404, "unknown-partition")
    assert "no shard has sealed" in problem["detail"]

    moves = [f"{CLINICAL}/{fresh + more}=0" for more in range(2)]
    await assign_on(platform, operator, None, moves, wait=True, narrator=PlainNarrator())
    after = await publish(platform, member, fresh + 1)

    assert (before.offset, after.offset) == (0, 1)
    assert [(await page(platform, "anchoring", receipt_of(at)))[0] for at in (before, after)] == [200, 200]

    async def is_ready() -> bool:
        return (await page(platform, "sequencer", "/readyz"))[0] == 200

    assert await until(is_ready, deadline_s=WAIT_S)

    await extend(platform, CONSENT, 2)

    async def fails_closed() -> bool:
        return await says(platform, "consent", f"nobody reads {CONSENT} 1")

    assert await until(fails_closed, deadline_s=WAIT_S)
    assert await until(lambda: says(platform, "sequencer", f"no shard seals {CONSENT} 1"), deadline_s=WAIT_S)
