"""The SOC's example follows audit's findings with Faust, as audit signs them, and nobody else's."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from unittest.mock import AsyncMock
from uuid import uuid4

import msgspec
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from tests.asking import NETWORK
from tests.unit.audit.samples import AROUND, NOON
from tests.unit.audit.test_detection import GLASS, ocsf

from salus.audit.adapters.signatures import OwnSignatures
from salus.audit.adapters.topics import KafkaOutputs
from salus.audit.domain.blocks import BlockRefusedError
from salus.audit.domain.detection import Json, block_finding, glass_finding
from salus.audit.ports import Message
from salus.devkit.addresses import Addresses
from salus.events.contexts import CATALOGUE
from salus.events.did import LocalSigner
from salus.events.keyring import KeyRing
from salus.events.signature import sign_values
from salus.messaging import Topic, ensure_topics

PROGRAM = Path(__file__).parents[3] / "examples" / "soc" / "follow_findings.py"
LINE_S_MAX = 60
AUDIT, THIEF = (LocalSigner.from_seed(bytes([n]) * 32) for n in (1, 2))


def program() -> ModuleType:
    spec = importlib.util.spec_from_file_location("follow_findings", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FOLLOW = program()


def signatures(signer: LocalSigner) -> OwnSignatures:
    return OwnSignatures(signer, lambda: KeyRing(CATALOGUE, NETWORK))


def is_signed(value: bytes, header: bytes) -> bool:
    answer: bool = FOLLOW.is_signed(value, header, method=AUDIT.verification_method, key=AUDIT.public_key)
    return answer


@given(st.lists(st.binary(max_size=8), min_size=1, max_size=20), st.data())
def test_it_knows_what_audit_signed_and_no_changed_byte_of_it(
    values: list[bytes], data: st.DataObject
) -> None:
    headers = signatures(AUDIT).of(values)
    assert all(map(is_signed, values, headers))

    index = data.draw(st.integers(0, len(values) - 1))
    header = bytearray(headers[index])
    place = data.draw(st.integers(0, len(header) - 1))
    header[place] ^= data.draw(st.integers(1, 127))
    assert not is_signed(values[index], bytes(header))
    assert not is_signed(values[index] + b"x", headers[index])
    assert not any(map(is_signed, values, signatures(THIEF).of(values)))
    # An event that audit signed is no output of audit's.
    assert not any(map(is_signed, values, sign_values(values, AUDIT)))


@pytest.mark.parametrize(
    "header", [b"", b"v1", b"\xff" * 9, b"v1 a 0/1 ==", b"v1 a 0/0 AA==", b"v1 " + b"x" * 5000]
)
def test_what_is_no_signature_is_none(header: bytes) -> None:
    assert not is_signed(b"{}", header)


def message(topic: str, event: Json) -> Message:
    value = msgspec.json.encode(event)
    return Message(topic=topic, key="k", value=value, uid="u", content_type="application/json")


async def publish(kafka: str, signer: LocalSigner, topic: str, events: Sequence[Json]) -> None:
    outputs = KafkaOutputs(kafka, signatures(signer), AsyncMock())
    try:
        await outputs.publish([message(topic, event) for event in events])
    finally:
        await outputs.close()


async def test_each_finding_is_one_line_and_what_others_wrote_is_none(
    parts: Addresses, tmp_path: Path
) -> None:
    kafka, topic = parts.kafka_bootstrap, f"soc-{uuid4().hex[:8]}.ocsf"
    await ensure_topics(kafka, [Topic(topic, 2)])
    refusal = BlockRefusedError(shard=2, height=7, code="block-root", detail="")
    glass, block = glass_finding(ocsf(GLASS)), block_finding(refusal, AROUND, at=NOON)
    forged = glass | {"metadata": glass["metadata"] | {"uid": "f" * 64}}
    await publish(kafka, THIEF, topic, [forged])
    await publish(kafka, AUDIT, topic, [ocsf(GLASS), glass, glass])
    (tmp_path / "audit.pem").write_bytes(
        AUDIT.public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    folder = tmp_path / "temporary"
    folder.mkdir()
    arguments = {"bootstrap": kafka, "method": AUDIT.verification_method, "group": topic, "topic": topic}
    arguments["public-key"] = str(tmp_path / "audit.pem")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(PROGRAM),
        *(f"--{name}={value}" for name, value in arguments.items()),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(folder)},
    )
    assert process.stdout is not None
    try:
        first = await asyncio.wait_for(process.stdout.readline(), LINE_S_MAX)
        await publish(kafka, AUDIT, topic, [glass, block])
        second = await asyncio.wait_for(process.stdout.readline(), LINE_S_MAX)
        process.terminate()
        rest = await asyncio.wait_for(process.stdout.read(), LINE_S_MAX)
        code = await asyncio.wait_for(process.wait(), LINE_S_MAX)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()

    lines = [json.loads(line) for line in (first, second)]
    assert [(line["uid"], line["rule"]) for line in lines] == [
        (each["metadata"]["uid"], each["metadata"]["event_code"]) for each in (glass, block)
    ]
    assert (rest, code) == (b"", 0)
    assert list(folder.iterdir()) == []
