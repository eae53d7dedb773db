"""The Ed25519 that notes use agrees with Wycheproof and with the vectors of its authors."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from salus.ledger.note import NoteSigner, NoteVerifier

DATA = Path(__file__).parents[2] / "data" / "crypto"
GROUPS: list[dict[str, Any]] = json.loads((DATA / "ed25519_test.json").read_bytes())["testGroups"]


def test_wycheproof_signatures_are_judged_as_its_authors_say() -> None:
    judged = 0
    for group in GROUPS:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(group["publicKey"]["pk"]))
        verifier = NoteVerifier("wycheproof.example", key)
        for test in group["tests"]:
            judged += 1
            message, signature = bytes.fromhex(test["msg"]), bytes.fromhex(test["sig"])
            if test["result"] == "valid":
                verifier.check(message, signature)
                continue
            with pytest.raises(InvalidSignature):
                verifier.check(message, signature)

    assert judged == 151


def test_the_authors_vectors_are_signed_and_verified_byte_for_byte() -> None:
    lines = gzip.decompress((DATA / "ed25519" / "sign.input.gz").read_bytes()).decode().splitlines()
    for line in lines:
        secret, public, message, signed = (bytes.fromhex(part) for part in line.split(":")[:4])
        signer = NoteSigner("ed25519.example", Ed25519PrivateKey.from_private_bytes(secret[:32]))

        assert signer.signature_of(message) == signed[:64]
        NoteVerifier("ed25519.example", Ed25519PublicKey.from_public_bytes(public)).check(
            message, signed[:64]
        )

    assert len(lines) == 1024
