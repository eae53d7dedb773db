"""An integrator's way: join, publish, hold a receipt; and what everything bad gets when it is sent anyway."""

from __future__ import annotations

import asyncio
import gzip
import json
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from tests.asking import NETWORK, UNASKED

from salus.client import IdReusedError, Publisher, RequestSigner
from salus.client.auth import make_possession
from salus.devkit.platform import Platform
from salus.events.contexts.clinical import DocumentRegistered
from salus.events.contexts.consent import PolicySetAdopted
from salus.events.did import LocalSigner, multibase_of
from salus.events.envelope import encode_event
from salus.events.errors import Reason, RejectedError
from salus.events.signature import sign_values
from salus.ledger.policy import Policy
from salus.ledger.receipt import verify_receipt
from salus.ledger.records import SIGNATURE_HEADER
from salus.messaging import Position, Producer

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "clients" / "python" / "publish_with_salus.py"
DEEP = ROOT / "tests/data/abuse/JSONTestSuite/n_structure_100000_opening_arrays.json.gz"
TOPIC = "salus.clinical.events"
RECEIPT_S_MAX = 60
EXAMPLE_S_MAX = 120


@dataclass(frozen=True)
class Member:
    """A registered organisation, and a patient of its own."""

    signer: LocalSigner
    key_file: Path
    patient: str


@pytest.fixture
async def member(platform: Platform, tmp_path: Path) -> Member:
    key = Ed25519PrivateKey.generate()
    signer = LocalSigner(key)
    now = datetime.now(UTC)
    body = {
        "did": signer.did,
        "kind": "member",
        "name": "A hospital",
        "keys": [
            {
                "id": signer.verification_method,
                "multibase": multibase_of(signer.public_key),
                "valid_from": (now - timedelta(minutes=5)).isoformat(),
                "proof": make_possession(signer, network=NETWORK, now=now),
            }
        ],
    }
    auth = RequestSigner(platform.network.signer("operator"), "identity", network=NETWORK)
    async with httpx.AsyncClient(base_url=platform.service_url("identity"), timeout=60) as http:
        answer = await http.post("/parties", json=body, auth=auth)
    assert answer.status_code == 201, answer.text
    file = tmp_path / "key.pem"
    file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return Member(signer, file, f"urn:uuid:{uuid.uuid4()}")


def policy_of(platform: Platform) -> Policy:
    return Policy.from_network(platform.network.file.read_bytes())


async def status_of(platform: Platform, at: Position, value: bytes | None) -> str:
    """The leaf's status in the record's receipt, which is verified."""
    query: dict[str, str | int] = {"topic": at.topic, "partition": at.partition, "offset": at.offset}
    deadline = asyncio.get_running_loop().time() + RECEIPT_S_MAX
    async with httpx.AsyncClient(base_url=platform.service_url("anchoring"), timeout=60) as http:
        answer = await http.get("/receipts", params=query | {"wait_s": 30})
        while answer.status_code != 200 and asyncio.get_running_loop().time() < deadline:
            answer = await http.get("/receipts", params=query | {"wait_s": 30})
    assert answer.status_code == 200, answer.text
    return verify_receipt(answer.content, policy_of(platform), event=value).leaf.status


async def test_the_python_example_ends_with_a_receipt_that_verifies(
    platform: Platform, member: Member, tmp_path: Path
) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(EXAMPLE), str(platform.network.file), str(platform.kafka_bootstrap)),
        *(platform.service_url("anchoring"), str(member.key_file), member.signer.verification_method),
        *(member.patient, "letter-1"),
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(EXAMPLE_S_MAX):
        printed, complaints = await process.communicate()
    assert process.returncode == 0, complaints.decode()
    _, topic, partition, offset = printed.decode().split()
    proven = verify_receipt((tmp_path / "letter-1.salus").read_bytes(), policy_of(platform))

    assert proven.leaf.is_accepted
    assert (proven.leaf.topic, proven.leaf.partition, proven.leaf.offset) == (
        topic,
        int(partition),
        int(offset),
    )


# case K4
async def test_an_event_sent_twice_is_on_the_ledger_once_and_both_hear_so(
    platform: Platform, member: Member
) -> None:
    async with Publisher(
        platform.kafka_bootstrap,
        member.signer,
        receipts_url=platform.service_url("anchoring"),
        policy=policy_of(platform),
    ) as publisher:
        data = DocumentRegistered(patient=member.patient, object="o", media_type="a/b")
        other = DocumentRegistered(patient=member.patient, object="p", media_type="a/b")
        first, again = [await publisher.publish(data, subject=member.patient, id="one") for _ in range(2)]
        reused = await publisher.publish(other, subject=member.patient, id="one")
        proven = (await first.receipt(timeout_s=RECEIPT_S_MAX)).verified
        repetition = await again.receipt(timeout_s=RECEIPT_S_MAX)
        repeated = repetition.verified
        with pytest.raises(IdReusedError) as refused:
            await reused.receipt(timeout_s=RECEIPT_S_MAX)
        position = await first.position()

    assert proven is not None
    assert repeated is not None
    assert proven.leaf.is_accepted
    assert repeated.leaf == proven.leaf
    assert proven.leaf.offset == position.offset
    assert repetition.value == first.value != again.value
    assert (
        verify_receipt(refused.value.receipt, policy_of(platform)).leaf.status
        == f"rejected:{Reason.DUPLICATE}"
    )


class Sent:
    """A record that is sent by other means than our client, with one thing wrong."""

    def __init__(self, member: Member) -> None:
        self.member = member
        self.topic = TOPIC
        self.key: bytes | None = member.patient.encode()
        self.value: bytes | None = self.event()
        self.signer = member.signer
        self.signature: bytes | None = b""

    def event(self, **changes: object) -> bytes:
        """A good event, but for these attributes."""
        patient = self.member.patient
        value = encode_event(
            DocumentRegistered(patient=patient, object="o", media_type="a/b"),
            id=str(uuid.uuid4()),
            source=self.member.signer.did,
            subject=patient,
            time=datetime.now(UTC),
        )
        return json.dumps(json.loads(value) | changes).encode() if changes else value

    def signed(self) -> bytes | None:
        """The signature that goes with it: a good one, unless another was chosen."""
        return sign_values([self.value or b""], self.signer)[0] if self.signature == b"" else self.signature


def _adopted(sent: Sent) -> bytes:
    return encode_event(
        PolicySetAdopted(policy_set="0" * 64, contract="1" * 64, request=UNASKED),
        id=str(uuid.uuid4()),
        source=sent.member.signer.did,
        subject=sent.member.patient,
        time=datetime.now(UTC),
        expected_version=0,
    )


def _change(**changes: Callable[[Sent], object]) -> Callable[[Sent], None]:
    def apply(sent: Sent) -> None:
        for name, value in changes.items():
            setattr(sent, name, value(sent))

    return apply


WRONG: list[tuple[Reason, Callable[[Sent], None]]] = [
    (Reason.TOMBSTONE, _change(value=lambda _: None)),
    (Reason.TOO_LARGE, _change(value=lambda _: b"x" * 20_000_000)),
    (Reason.MISSING_SIGNATURE, _change(signature=lambda _: None)),
    (Reason.MALFORMED_SIGNATURE, _change(signature=lambda _: b"\xff\x00 not a signature")),
    (Reason.UNKNOWN_KEY, _change(signer=lambda _: LocalSigner(Ed25519PrivateKey.generate()))),
    (Reason.BAD_SIGNATURE, _change(signature=lambda s: sign_values([b"another"], s.signer)[0])),
    (Reason.MALFORMED_JSON, _change(value=lambda s: s.event()[:-1])),
    (Reason.MALFORMED_JSON, _change(value=lambda s: s.event().replace(b'"o"', b'"\xff"'))),
    (Reason.MALFORMED_JSON, _change(value=lambda s: s.event().replace(b'"id"', b'"id":"twice","id"'))),
    (Reason.MALFORMED_JSON, _change(value=lambda _: gzip.decompress(DEEP.read_bytes()))),
    (
        Reason.MALFORMED_JSON,
        _change(value=lambda s: s.event().replace(b'"o"', gzip.decompress(DEEP.read_bytes()))),
    ),
    (Reason.INVALID_ENVELOPE, _change(value=lambda s: s.event(specversion="0.3"))),
    (Reason.UNKNOWN_TYPE, _change(value=lambda s: s.event(type="salus.clinical.patient-healed.v1"))),
    (Reason.WRONG_SOURCE, _change(value=lambda s: s.event(source="did:web:elsewhere.example"))),
    (Reason.WRONG_TOPIC, _change(topic=lambda _: "salus.lab.events")),
    (Reason.NOT_OWNER, _change(value=_adopted, topic=lambda _: "salus.consent.events")),
    (Reason.WRONG_KEY, _change(key=lambda _: None)),
    (Reason.SCHEMA_VIOLATION, _change(value=lambda s: s.event(data={"patient": s.member.patient}))),
]


async def test_whatever_is_wrong_becomes_a_leaf_with_its_reason_and_the_rest_goes_on(
    platform: Platform, member: Member
) -> None:
    sent = []
    for _, spoil in WRONG:
        record = Sent(member)
        spoil(record)
        sent.append(record)
    sent.append(Sent(member))
    async with Producer(platform.kafka_bootstrap, client_id="abuse") as producer:
        positions = []
        for record in sent:
            signature = record.signed()
            headers = [(SIGNATURE_HEADER, signature)] if signature is not None else []
            answer = await producer.enqueue(record.topic, key=record.key, value=record.value, headers=headers)
            positions.append(await answer)
    statuses = [
        await status_of(platform, at, record.value) for at, record in zip(positions, sent, strict=True)
    ]

    assert statuses == [*(f"rejected:{reason}" for reason, _ in WRONG), "accepted"]


async def test_the_client_refuses_a_record_of_20_mb_before_sending(
    platform: Platform, member: Member
) -> None:
    async with Publisher(platform.kafka_bootstrap, member.signer) as publisher:
        with pytest.raises(RejectedError) as refused:
            await publisher.publish_encoded(b"x" * 20_000_000)

    assert refused.value.reason is Reason.TOO_LARGE


async def test_each_service_serves_the_document_in_the_docs(platform: Platform) -> None:
    # case formats.md 10
    documents = {file.stem: file for file in (Path(__file__).parents[2] / "docs" / "openapi").glob("*.json")}
    for name in sorted(platform.services):
        async with httpx.AsyncClient(base_url=platform.service_url(name), timeout=60) as http:
            served = (await http.get("/openapi.json")).json()

        assert served == json.loads(documents[name].read_text(encoding="utf-8")), name
