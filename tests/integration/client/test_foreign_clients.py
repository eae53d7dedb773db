"""Clients that nobody here wrote publish by the integrator's page, and read what we publish."""

from __future__ import annotations

import asyncio
import json
import sys
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from tests.asking import NETWORK, UNASKED

from salus.client import Publisher
from salus.devkit.addresses import Addresses
from salus.devkit.kafka_server import kafka_classpath
from salus.devkit.narration import PlainNarrator
from salus.events.contexts import CATALOGUE
from salus.events.contexts.clinical import DocumentRegistered
from salus.events.contexts.identity import PartyRegistered, PublicKey
from salus.events.did import LocalSigner, multibase_of
from salus.events.event_types import type_of
from salus.events.judging import Judged, judge
from salus.events.keyring import KeyRing
from salus.events.signature import parse_signature
from salus.ledger.records import SIGNATURE_HEADER
from salus.messaging import Position, Reader, Record, Topic, ensure_topics

EXAMPLES = Path(__file__).parents[3] / "examples" / "clients"
TOPIC = "salus.clinical.events"
ENTRY = type_of(DocumentRegistered)
OBJECTS = ["letter-1", "letter-2", "letter-3"]
TOOL_S_MAX = 120


@dataclass(frozen=True)
class Member:
    """An organisation with its key in a file, and a patient of its own."""

    signer: LocalSigner
    key_file: Path
    patient: str
    bootstrap: str

    def ring(self) -> KeyRing:
        ring = KeyRing(CATALOGUE, NETWORK)
        key = PublicKey(
            id=self.signer.verification_method,
            multibase=multibase_of(self.signer.public_key),
            valid_from=datetime(2026, 1, 1, tzinfo=UTC),
        )
        ring.apply(PartyRegistered(did=self.signer.did, kind="member", keys=(key,), request=UNASKED))
        return ring

    def arguments(self) -> list[str]:
        return [
            *("--key", str(self.key_file)),
            *("--method", self.signer.verification_method),
            *("--dataschema", ENTRY.dataschema),
            *("--patient", self.patient),
            *OBJECTS,
        ]

    async def records(self, positions: list[Position]) -> list[Record]:
        """Read what is at these positions."""
        found = []
        for at in positions:
            starts = {(at.topic, at.partition): at.offset}
            async with Reader(self.bootstrap, starts=starts) as reader:
                while not (records := await reader.poll(max_records=1, timeout_ms=1000)):
                    pass
            found.append(records[0])
        return found

    async def partition(self) -> int:
        """Say where the publisher puts the patient's events: everybody must put them there."""
        async with Publisher(self.bootstrap, self.signer) as publisher:
            data = DocumentRegistered(patient=self.patient, object="o", media_type="a/b")
            return (await (await publisher.publish(data, subject=self.patient)).position()).partition

    def judged(self, record: Record) -> Judged:
        """The sequencer's verdict; raises RejectedError."""
        return judge(
            topic=record.topic,
            key=record.key,
            value=record.value,
            signature=record.header(SIGNATURE_HEADER),
            ring=self.ring(),
            at=datetime.now(UTC),
        )


@pytest.fixture
async def member(parts: Addresses, tmp_path: Path) -> Member:
    await ensure_topics(parts.kafka_bootstrap, [Topic(TOPIC, 4)])
    key = Ed25519PrivateKey.generate()
    file = tmp_path / "key.pem"
    file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return Member(LocalSigner(key), file, f"urn:uuid:{uuid.uuid4()}", parts.kafka_bootstrap)


async def run(*command: str, given: str = "") -> str:
    """Run a program and return what it prints; what it complains of is shown if it fails."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(TOOL_S_MAX):
        out, complaints = await process.communicate(given.encode())
    assert process.returncode == 0, complaints.decode()
    return out.decode()


def positions_in(printed: str) -> list[Position]:
    rows = [line.split() for line in printed.splitlines()]
    return [Position(topic, int(partition), int(offset)) for _, topic, partition, offset in rows]


async def test_the_plain_python_example_publishes_what_is_accepted(member: Member) -> None:
    script = str(EXAMPLES / "python" / "publish_foreign.py")
    printed = await run(sys.executable, script, "--bootstrap", member.bootstrap, *member.arguments())
    positions = positions_in(printed)
    records = await member.records(positions)
    judged = [member.judged(record) for record in records]

    assert {at.partition for at in positions} == {await member.partition()}
    assert [j.event.data for j in judged] == [
        DocumentRegistered(patient=member.patient, object=name, media_type="application/fhir+json")
        for name in OBJECTS
    ]
    assert {parse_signature(r.header(SIGNATURE_HEADER) or b"").size for r in records} == {3}


async def test_the_java_example_publishes_what_is_accepted(member: Member, tmp_path: Path) -> None:
    classpath = await kafka_classpath(PlainNarrator())
    source = str(EXAMPLES / "java" / "Publish.java")
    await run("javac", "-d", str(tmp_path), "-cp", classpath, source)
    printed = await run(
        *("java", "-cp", f"{tmp_path}:{classpath}", "Publish"),
        *(member.bootstrap, str(member.key_file), member.signer.verification_method),
        *(ENTRY.dataschema, member.patient, *OBJECTS),
    )
    positions = positions_in(printed)
    records = await member.records(positions)
    judged = [member.judged(record) for record in records]

    assert {at.partition for at in positions} == {await member.partition()}
    assert [getattr(j.event.data, "object", None) for j in judged] == OBJECTS
    assert len({parse_signature(r.header(SIGNATURE_HEADER) or b"").signature for r in records}) == 1


async def test_the_console_producer_takes_the_lines_of_the_page(member: Member) -> None:
    classpath = await kafka_classpath(PlainNarrator())
    script = str(EXAMPLES / "python" / "publish_foreign.py")
    async with Publisher(member.bootstrap, member.signer) as publisher:
        data = DocumentRegistered(patient=member.patient, object="first", media_type="a/b")
        before = await (await publisher.publish(data, subject=member.patient)).position()
    lines = await run(sys.executable, script, "--lines", *member.arguments())
    await run(
        *("java", "-cp", classpath, "org.apache.kafka.tools.ConsoleProducer"),
        *("--bootstrap-server", member.bootstrap, "--topic", TOPIC, "--producer-property", "acks=all"),
        *("--producer-property", "enable.idempotence=false"),
        *("--producer-property", "max.in.flight.requests.per.connection=1"),
        *("--property", "parse.headers=true", "--property", "parse.key=true"),
        given=lines,
    )
    following = [Position(TOPIC, before.partition, before.offset + i) for i in (1, 2, 3)]
    records = await member.records(following)

    assert [getattr(member.judged(r).event.data, "object", None) for r in records] == OBJECTS
    assert [r.header("content-type") for r in records] == [b"application/cloudevents+json"] * 3


async def test_the_console_consumer_shows_our_events_with_their_headers(member: Member) -> None:
    classpath = await kafka_classpath(PlainNarrator())
    async with Publisher(member.bootstrap, member.signer) as publisher:
        data = DocumentRegistered(patient=member.patient, object="o", media_type="a/b")
        handle = await publisher.publish(data, subject=member.patient)
        at = await handle.position()
    printed = await run(
        *("java", "-cp", classpath, "org.apache.kafka.tools.consumer.ConsoleConsumer"),
        *("--bootstrap-server", member.bootstrap, "--topic", TOPIC),
        *("--partition", str(at.partition), "--offset", str(at.offset), "--max-messages", "1"),
        *("--property", "print.headers=true", "--property", "print.key=true"),
    )
    headers, _, rest = printed.rstrip("\n").partition("\t")

    assert rest.encode() == member.patient.encode() + b"\t" + handle.value
    assert f"salus-signature:v1 {member.signer.verification_method} 0/1 " in headers
    assert "content-type:application/cloudevents+json" in headers


async def test_confluent_kafka_reads_what_we_publish(member: Member) -> None:
    async with Publisher(member.bootstrap, member.signer) as publisher:
        data = DocumentRegistered(patient=member.patient, object="o", media_type="a/b")
        handle = await publisher.publish(data, subject=member.patient)
        at = await handle.position()
    consumer = Consumer({"bootstrap.servers": member.bootstrap, "group.id": uuid.uuid4().hex})
    try:
        consumer.assign([TopicPartition(at.topic, at.partition, at.offset)])
        message = await asyncio.to_thread(consumer.poll, 30)
    finally:
        consumer.close()

    assert message is not None
    assert (message.key(), message.value()) == (member.patient.encode(), handle.value)
    assert [pair[0] for pair in message.headers() or []][:2] == ["salus-signature", "content-type"]
    assert json.loads(message.value() or b"")["id"] == handle.id
