"""Kafka binds idempotence to no account: who knows a producer's next number has its record dropped."""

from __future__ import annotations

import secrets
import uuid
from dataclasses import replace

import pytest
from tests.integration.raw_kafka import NOBODY, Session, produce, record_batch, session_of

from salus.client import Publisher
from salus.devkit.addresses import Addresses
from salus.events.contexts.clinical import DocumentRegistered
from salus.events.did import LocalSigner
from salus.messaging import Position, Reader, RecoveringProducer, Topic, ensure_topics

CLINICAL = "salus.clinical.events"
PATIENT = "urn:uuid:00000000-0000-4000-8000-000000000001"


async def value_at(parts: Addresses, at: Position) -> bytes:
    async with Reader(parts.kafka_bootstrap, starts={(at.topic, at.partition): at.offset}) as reader:
        while not (records := await reader.poll(max_records=1, timeout_ms=1000)):
            pass
    return records[0].value or b""


async def take_the_place_after(parts: Addresses, at: Position, *, times: int = 1) -> Session:
    """Do what another member can: send under the id and next sequence of whoever sent the last batch."""
    session, count = await session_of(parts.kafka_bootstrap, at.topic, at.partition, at.offset)
    for number in range(times):
        following = replace(session, sequence=session.sequence + count + number)
        batch = record_batch([(0, b"of somebody else")], session=following)
        await produce(parts.kafka_bootstrap, at.topic, at.partition, batch)
    return session


@pytest.mark.parametrize("times", [1, 8], ids=["once", "more often than the broker remembers"])
async def test_what_a_member_is_told_of_is_there_whoever_else_writes(parts: Addresses, times: int) -> None:
    # case F6
    await ensure_topics(parts.kafka_bootstrap, [Topic(CLINICAL, 4)])
    hospital = LocalSigner.from_seed(secrets.token_bytes(32))
    async with Publisher(parts.kafka_bootstrap, hospital) as publisher:

        async def published(number: int) -> tuple[bytes, Position]:
            data = DocumentRegistered(patient=PATIENT, object=f"o-{number}", media_type="text/plain")
            handle = await publisher.publish(data, subject=PATIENT, id=f"result-{number}")
            return handle.value, await handle.position()

        _, last = await published(0)
        session = await take_the_place_after(parts, last, times=times)
        told = [await published(number) for number in range(1, 7)]

    assert session.producer == NOBODY.producer
    assert [await value_at(parts, position) for _, position in told] == [value for value, _ in told]


async def test_an_idempotent_producer_is_told_of_what_is_not_there(parts: Addresses) -> None:
    """Why members' events are sent without: this is what Kafka does, and no client can tell."""
    topic = f"sequence-{uuid.uuid4().hex}"
    await ensure_topics(parts.kafka_bootstrap, [Topic(topic, 1)])
    async with RecoveringProducer(parts.kafka_bootstrap, client_id="test", idempotent=True) as producer:
        last = await producer.send(topic, key=b"k", value=b"first")
        await take_the_place_after(parts, last)
        told = await producer.send(topic, key=b"k", value=b"second")

    assert await value_at(parts, told) == b"of somebody else"
