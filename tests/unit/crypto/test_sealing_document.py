"""docs/vectors/sealing.json opens as docs/sealing.md says; `SALUS_WRITE_DOCS=1` seals its vectors anew."""

from __future__ import annotations

import json
import os
from base64 import b64decode, b64encode
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from salus.crypto.errors import UnsealError
from salus.crypto.sealing import SUITE, SealedValue, key_pair_of, load_private_key, seal, unseal
from salus.events.contexts import CATALOGUE
from salus.events.contexts.clinical import EncounterRecorded, ObservationRecorded
from salus.events.contexts.consent import GlassBroken
from salus.events.contexts.lab import ResultReleased
from salus.events.envelope import decode_event, encode_event
from salus.events.sealing_context import context_of, sealing_context

FILE = Path(__file__).parents[3] / "docs" / "vectors" / "sealing.json"
PATIENT = "urn:uuid:6f1c3a52-7a0e-4d5f-9c2b-1f2e3d4c5b6a"
SOURCE = "did:web:hospital.example"
CONTEXTS = {
    sealing_context(ResultReleased, source=SOURCE, id="result-1"): b"a finding",
    sealing_context(ObservationRecorded, source=SOURCE, id="1", object="scan-1"): "37,5 °C".encode(),
    sealing_context(EncounterRecorded, source=SOURCE, id="Ü 1"): b"",
    sealing_context(GlassBroken, source="did:web:doctor.example", id="", object="scan-1"): bytes(range(256)),
}


def written() -> dict[str, Any]:
    """New vectors: what is sealed is another each time, and opens to the same."""
    vectors = []
    for number, (context, plaintext) in enumerate(CONTEXTS.items()):
        pair = key_pair_of(sha256(f"salus sealing vector {number}".encode()).digest())
        key = f"{PATIENT}#{number:016x}"
        sealed = seal(plaintext, public_key=pair.public_key, key=key, context=context)
        vectors.append(
            {
                "context": context,
                "private_key": pair.private_key.hex(),
                "public_key": b64encode(pair.public_key).decode(),
                "info": f"salus.health/sealed/v1\n{key}\n{context}".encode().hex(),
                "plaintext": plaintext.hex(),
                "sealed": {"suite": sealed.suite, "key": sealed.key, "ciphertext": sealed.ciphertext},
            }
        )
    about = (
        "Sealed values of Salus and what they open to; docs/sealing.md has the construction. private_key is"
        " the X-Wing seed, public_key its key in base64; private_key, info and plaintext are hex. The keys"
        " are for tests only."
    )
    return {"about": about, "vectors": vectors}


if os.environ.get("SALUS_WRITE_DOCS") == "1":
    FILE.write_text(json.dumps(written(), indent=1) + "\n")
VECTORS: list[dict[str, Any]] = json.loads(FILE.read_text())["vectors"]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["context"].partition("\n")[0])
def test_a_vector_opens_to_its_plaintext_and_in_no_other_context(vector: dict[str, Any]) -> None:
    pair = key_pair_of(bytes.fromhex(vector["private_key"]))
    sealed = SealedValue(**vector["sealed"])

    assert pair.public_key == b64decode(vector["public_key"])
    opened = unseal(sealed, private_key=pair.private_key, context=vector["context"])
    assert opened == bytes.fromhex(vector["plaintext"])
    with pytest.raises(UnsealError):
        unseal(
            sealed,
            private_key=pair.private_key,
            context=vector["context"].replace("did:web:", "did:web:another-"),
        )


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["context"].partition("\n")[0])
def test_a_vector_opens_by_the_construction_of_the_document_alone(vector: dict[str, Any]) -> None:
    """With nothing of ours but the expansion of the seed: HPKE, mode base, `info` as told, no `aad`."""
    hpke = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
    private_key = load_private_key(bytes.fromhex(vector["private_key"]))
    raw = b64decode(vector["sealed"]["ciphertext"], validate=True)
    opened = hpke.decrypt(raw, private_key, info=bytes.fromhex(vector["info"]))
    _, key, context = bytes.fromhex(vector["info"]).decode().split("\n", 2)

    assert opened == bytes.fromhex(vector["plaintext"])
    assert (key, context) == (vector["sealed"]["key"], vector["context"])
    assert len(raw) == 1120 + len(opened) + 16


def test_the_vectors_are_of_the_suite_that_is_used_and_of_every_kind() -> None:
    assert {vector["sealed"]["suite"] for vector in VECTORS} == {SUITE}
    assert {vector["context"]: bytes.fromhex(vector["plaintext"]) for vector in VECTORS} == CONTEXTS


def test_what_is_sealed_as_the_readme_says_opens_for_its_event() -> None:
    # It named the event's type as the context: what was sealed so was accepted, and opened for nobody.
    page = (Path(__file__).parents[3] / "libs" / "crypto" / "README.md").read_text()
    pair, key = key_pair_of(bytes(32)), f"{PATIENT}#{0:016x}"
    names: dict[str, Any] = {"text": "37,5 °C", "my_did": SOURCE, "event_id": "1"}
    names |= {"subject_public_key": pair.public_key, "subject_key_id": key}
    exec(page.split("```python\n")[1].split("```")[0], names)
    data = ObservationRecorded(patient=PATIENT, observation="temperature", content=names["content"])
    value = encode_event(data, source=SOURCE, id="1", subject=PATIENT, time=datetime(2026, 1, 1, tzinfo=UTC))
    context = context_of(decode_event(value, CATALOGUE))

    assert unseal(data.content, private_key=pair.private_key, context=context) == "37,5 °C".encode()
