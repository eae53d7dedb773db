"""Witness cosignatures are made and read as C2SP says, Ed25519 and ML-DSA-44."""

from __future__ import annotations

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from salus.ledger.checkpoint import Checkpoint
from salus.ledger.cosignature import (
    COSIGNED_ED25519,
    COSIGNED_MLDSA44,
    CosignatureSigner,
    CosignatureVerifier,
    cosigned_message,
    time_of_cosignature,
)
from salus.ledger.errors import CheckpointError, KeyTextError
from salus.ledger.note import NoteVerifier, encode_vkey

ED25519 = CosignatureSigner("witness.example/w1", Ed25519PrivateKey.from_private_bytes(bytes(32)))
MLDSA44 = CosignatureSigner("witness.example/w2", MLDSA44PrivateKey.from_seed_bytes(bytes(32)))
CHECKPOINT = Checkpoint("example.com/behind-the-sofa", 20852163, bytes(range(32)), ("extension",))
BOTH = pytest.mark.parametrize("signer", [ED25519, MLDSA44], ids=["ed25519", "mldsa44"])


@BOTH
def test_a_cosignature_is_verified_by_whoever_holds_the_vkey(signer: CosignatureSigner) -> None:
    signature = signer.cosign(CHECKPOINT, seconds=1679315147)
    verifier = CosignatureVerifier.from_vkey(signer.vkey)

    verifier.check(CHECKPOINT.text().encode(), signature.signature)
    assert (signature.name, signature.key_id) == (verifier.name, verifier.key_id)
    assert time_of_cosignature(signature.signature) == 1679315147


@BOTH
def test_a_right_signature_is_verified_once_and_a_wrong_one_is_wrong_each_time(
    signer: CosignatureSigner, monkeypatch: pytest.MonkeyPatch
) -> None:
    right, text = signer.cosign(CHECKPOINT, seconds=5).signature, CHECKPOINT.text().encode()
    wrong = right[:-1] + bytes([right[-1] ^ 1])
    verifier, verified = CosignatureVerifier.from_vkey(signer.vkey), []
    really = CosignatureVerifier.verify

    def verify(self: CosignatureVerifier, text: bytes, signature: bytes) -> None:
        verified.append(signature)
        really(self, text, signature)

    monkeypatch.setattr(CosignatureVerifier, "verify", verify)
    for _ in range(3):
        verifier.check(text, right)
        with pytest.raises(InvalidSignature):
            verifier.check(text, wrong)
        with pytest.raises(InvalidSignature):
            verifier.check(text.replace(b"20852163", b"20852164"), right)

    assert (verified.count(right), verified.count(wrong)) == (1 + 3, 3)


@BOTH
@given(data=st.data())
def test_no_flipped_bit_of_a_cosignature_or_its_time_verifies(
    signer: CosignatureSigner, data: st.DataObject
) -> None:
    signature = bytearray(signer.cosign(CHECKPOINT, seconds=1679315147).signature)
    bit = data.draw(st.integers(0, len(signature) * 8 - 1))
    signature[bit // 8] ^= 1 << bit % 8

    with pytest.raises(InvalidSignature):
        signer.verifier.check(CHECKPOINT.text().encode(), bytes(signature))


@BOTH
@given(junk=st.binary(max_size=100))
def test_arbitrary_bytes_are_invalid_signatures(signer: CosignatureSigner, junk: bytes) -> None:
    signature = signer.cosign(CHECKPOINT, seconds=1).signature

    for text, wrong in ((junk, signature), (CHECKPOINT.text().encode(), junk)):
        with pytest.raises(InvalidSignature):
            signer.verifier.check(text, wrong)


def test_the_ed25519_message_is_the_specifications_text() -> None:
    message = cosigned_message(COSIGNED_ED25519, "ignored", 1679315147, CHECKPOINT.text())

    assert message == f"cosignature/v1\ntime 1679315147\n{CHECKPOINT.text()}".encode()


def test_the_mldsa_message_is_the_specifications_structure() -> None:
    message = cosigned_message(COSIGNED_MLDSA44, "w", 5, CHECKPOINT.text())

    expected = b"subtree/v1\n\0" + b"\x01w" + bytes(7) + b"\x05" + b"\x1b" + CHECKPOINT.origin.encode()
    assert message == expected + bytes(8) + (20852163).to_bytes(8, "big") + CHECKPOINT.root


def test_the_mldsa_message_has_room_for_names_of_255_bytes_only() -> None:
    with pytest.raises(CheckpointError):
        cosigned_message(COSIGNED_MLDSA44, "w" * 256, 5, CHECKPOINT.text())


@pytest.mark.parametrize("seconds", [0, 2**63])
def test_a_time_that_says_nothing_is_neither_signed_nor_believed(seconds: int) -> None:
    message = cosigned_message(COSIGNED_ED25519, ED25519.name, seconds, CHECKPOINT.text())
    signed = seconds.to_bytes(8, "big") + ED25519._key.sign(message)

    with pytest.raises(ValueError, match="not a time"):
        ED25519.cosign(CHECKPOINT, seconds=seconds)
    with pytest.raises(InvalidSignature):
        ED25519.verifier.check(CHECKPOINT.text().encode(), signed)


def test_an_empty_signature_has_no_time() -> None:
    with pytest.raises(InvalidSignature):
        time_of_cosignature(bytes(8))


def test_a_plain_note_key_is_not_a_witness_key_and_the_reverse() -> None:
    with pytest.raises(KeyTextError, match="unsupported-algorithm"):
        CosignatureVerifier.from_vkey(encode_vkey("w.example", 0x01, bytes(32)))
    with pytest.raises(KeyTextError, match="unsupported-algorithm"):
        NoteVerifier.from_vkey(MLDSA44.vkey)
    with pytest.raises(KeyTextError, match="malformed"):
        CosignatureVerifier.from_vkey(encode_vkey("w.example", 0x06, bytes(32)))
