"""The publisher on real Kafka: order, acknowledgement, and a broker that goes away."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections import defaultdict
from datetime import UTC, datetime

import pytest
from tests.asking import NETWORK, UNASKED

from salus.client import Publisher
from salus.devkit.addresses import Addresses
from salus.events.contexts import CATALOGUE
from salus.events.contexts.clinical import DocumentRegistered
from salus.events.contexts.identity import PartyRegistered, PublicKey
from salus.events.did import LocalSigner, multibase_of
from salus.events.judging import judge_batch
from salus.events.keyring import KeyRing
from salus.ledger.records import SIGNATURE_HEADER, Row, records_of
from salus.messaging import BrokerAwayError, Position, Reader, Topic, ensure_topics

TOPIC = "salus.clinical.events"
SIGNER = LocalSigner.from_seed(b"memb" * 8)


def document(number: int, patient: str) -> DocumentRegistered:
    return DocumentRegistered(patient=patient, object=f"object-{number}", media_type="a/b")


def ring() -> KeyRing:
    known = KeyRing(CATALOGUE, NETWORK)
    key = PublicKey(
        id=SIGNER.verification_method,
        multibase=multibase_of(SIGNER.public_key),
        valid_from=datetime(2026, 1, 1, tzinfo=UTC),
    )
    known.apply(PartyRegistered(did=SIGNER.did, kind="member", keys=(key,), request=UNASKED))
    return known


async def test_a_thousand_events_arrive_once_in_order_and_are_accepted(parts: Addresses) -> None:
    await ensure_topics(parts.kafka_bootstrap, [Topic(TOPIC, 4)])
    patients = [f"urn:uuid:{uuid.uuid4()}" for _ in range(7)]
    async with Publisher(parts.kafka_bootstrap, SIGNER) as publisher:
        handles = [
            await publisher.publish(document(i, patients[i % 7]), subject=patients[i % 7])
            for i in range(1000)
        ]
        positions = [await handle.position() for handle in handles]
    first: dict[tuple[str, int], int] = {}
    for at in positions:
        first.setdefault((at.topic, at.partition), at.offset)
    mine: defaultdict[bytes, list[int]] = defaultdict(list)
    seen: set[Position] = set()
    async with Reader(parts.kafka_bootstrap, starts=first) as reader:
        while len(seen) < 1000:
            records = await reader.poll(max_records=500, timeout_ms=1000)
            records = [r for r in records if r.key is not None and r.key.decode() in patients]
            rows = [
                Row(
                    *(r.topic, r.partition, r.offset, r.timestamp_ms),
                    *(r.key, r.value, r.header(SIGNATURE_HEADER)),
                )
                for r in records
            ]
            said = judge_batch(records_of(rows), ring=ring())
            assert not said.refused
            for record in records:
                subject = record.key or b""
                number = int(json.loads(record.value or b"")["data"]["object"].removeprefix("object-"))
                mine[subject].append(number)
                seen.add(record.at)

    assert seen == set(positions)
    assert all(numbers == sorted(set(numbers)) for numbers in mine.values())


async def test_a_broker_that_is_not_there_is_said_to_be_away() -> None:
    with pytest.raises(BrokerAwayError):
        async with Publisher("127.0.0.1:1", SIGNER):
            pass


async def test_publishers_on_many_tasks_lose_nothing(parts: Addresses) -> None:
    await ensure_topics(parts.kafka_bootstrap, [Topic(TOPIC, 4)])
    async with Publisher(parts.kafka_bootstrap, SIGNER, batch_max=16) as publisher:

        async def one(number: int) -> Position:
            patient = f"urn:uuid:{uuid.uuid4()}"
            return await (await publisher.publish(document(number, patient), subject=patient)).position()

        positions = await asyncio.gather(*(one(i) for i in range(200)))

    assert len(set(positions)) == 200
