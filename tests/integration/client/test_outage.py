"""A broker that dies: nothing that was confirmed is lost, nothing that was not is silent."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from salus.client import DeliveryError, Publisher
from salus.devkit.kafka_server import KafkaServer
from salus.devkit.narration import PlainNarrator
from salus.devkit.processes import Place
from salus.events.contexts.clinical import DocumentRegistered
from salus.events.did import LocalSigner
from salus.messaging import Reader, Topic, ensure_topics

TOPIC = "salus.clinical.events"
SIGNER = LocalSigner.from_seed(b"memb" * 8)
PATIENT = f"urn:uuid:{uuid.uuid4()}"


@pytest.fixture
async def broker(session_folder: Path) -> AsyncIterator[KafkaServer]:
    """A broker of this test's own, to be killed."""
    folder = session_folder / f"outage-{uuid.uuid4().hex[:8]}"
    server = KafkaServer(Place(folder, folder / "logs", detached=False), PlainNarrator())
    await server.start()
    yield server
    await server.stop()


def kill(broker: KafkaServer) -> None:
    assert broker.process is not None
    os.kill(broker.process.pid, signal.SIGKILL)


async def stored(bootstrap: str) -> list[str]:
    async with Reader(bootstrap, starts={(TOPIC, 0): 0}) as reader:
        end = (await reader.end_offsets())[TOPIC, 0]
        found: list[str] = []
        while len(found) < end:
            records = await reader.poll(max_records=1000, timeout_ms=1000)
            found += [json.loads(record.value or b"")["data"]["object"] for record in records]
    return found


async def test_a_killed_broker_costs_time_and_no_event(broker: KafkaServer) -> None:
    await ensure_topics(broker.bootstrap, [Topic(TOPIC, 1)])
    async with Publisher(broker.bootstrap, SIGNER) as publisher:

        async def publish(number: int) -> None:
            data = DocumentRegistered(patient=PATIENT, object=f"object-{number}", media_type="a/b")
            await publisher.publish(data, subject=PATIENT)

        for number in range(100):
            await publish(number)
        await publisher.flush()
        kill(broker)
        for number in range(100, 200):
            await publish(number)
        # What is sent now finds nobody; the broker comes back on the same port with what it had.
        await asyncio.sleep(0.5)
        await broker.stop()
        await broker.start()
        await publisher.flush()
        there = await stored(broker.bootstrap)

    assert there == [f"object-{number}" for number in range(200)]


async def test_a_broker_that_stays_away_is_reported_by_name(
    broker: KafkaServer, complaints: list[dict[str, object]]
) -> None:
    await ensure_topics(broker.bootstrap, [Topic(TOPIC, 1)])

    async def story() -> None:
        async with Publisher(broker.bootstrap, SIGNER, delivery_s=5) as publisher:
            data = DocumentRegistered(patient=PATIENT, object="o", media_type="a/b")
            await (await publisher.publish(data, subject=PATIENT, id="confirmed")).position()
            kill(broker)
            await publisher.publish(data, subject=PATIENT, id="not confirmed")

    with pytest.raises(DeliveryError) as caught:
        await story()

    assert [u.id for u in caught.value.undelivered] == ["not confirmed"]
    gc.collect()
    assert complaints == []
