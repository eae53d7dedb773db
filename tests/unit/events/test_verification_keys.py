"""Keys of P-256 sign as those of Ed25519 do, by the one rule of their kind, and by no other algorithm."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, SECP384R1, derive_private_key
from hypothesis import given
from hypothesis import strategies as st
from tests.asking import NETWORK, UNASKED, truly_asked
from tests.unit.events.samples import (
    MEMBER,
    NOON,
    PATIENT,
    SERVICES,
    document,
    encoded,
    network_ring,
    party,
    public_key,
    records_of,
    row,
    verdict,
)

from salus.client.auth import make_bearer, make_possession
from salus.events.accountability import signed_by
from salus.events.bearer import audience_of, read_bearer
from salus.events.contexts.storage import ObjectRead
from salus.events.did import LocalSigner, key_of, multibase_of
from salus.events.ed25519 import Signature
from salus.events.errors import Reason, RejectedError
from salus.events.judging import Judged, judge_batch
from salus.events.keyring import KeyRing
from salus.events.possession import PossessionError, verify_possession
from salus.events.signature import sign_values
from salus.events.verification_keys import KeyKind, VerificationKey, verifies, verify_each

VECTORS = Path(__file__).parents[2] / "data/crypto/wycheproof/ecdsa_secp256r1_sha256_p1363_test.json"
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
PHONE = LocalSigner(derive_private_key(7, SECP256R1()))
CASES = [
    pytest.param(group["publicKey"], case, id=str(case["tcId"]))
    for group in json.loads(VECTORS.read_text())["testGroups"]
    for case in group["tests"]
]


def ring_with(signer: LocalSigner) -> KeyRing:
    ring = network_ring()
    ring.apply(party(signer))
    return ring


def raw_of(signer: LocalSigner) -> bytes:
    return VerificationKey.of(signer.public_key).raw


@pytest.mark.parametrize(("key", "case"), CASES)
def test_wycheproof(key: dict[str, str], case: dict[str, str]) -> None:
    x, y = (int(key[name], 16) for name in ("wx", "wy"))
    raw = bytes([2 + y % 2]) + x.to_bytes(32, "big")
    found = verifies(raw, bytes.fromhex(case["sig"]), bytes.fromhex(case["msg"]))

    assert found is (case["result"] == "valid"), case["comment"]


@given(st.integers(1, ORDER - 1), st.binary(max_size=50))
def test_any_s_is_taken_and_no_other_text_or_key(secret: int, text: bytes) -> None:
    signer = LocalSigner(derive_private_key(secret, SECP256R1()))
    signature, raw = signer.sign(text), raw_of(signer)
    s = int.from_bytes(signature[32:], "big")

    assert len(signature) == 64
    assert verifies(raw, signature, text)
    assert verifies(raw, signature[:32] + (ORDER - s).to_bytes(32, "big"), text)
    assert not verifies(raw, signature, text + b"x")
    assert not verifies(raw_of(MEMBER), signature, text)
    assert key_of(multibase_of(signer.public_key)) == VerificationKey.of(signer.public_key)


def test_signatures_of_several_kinds_are_verified_together_as_each_alone() -> None:
    all_ = [
        Signature(raw_of(signer), signer.sign(b"%d" % (number if number % 3 else 99)), b"%d" % number)
        for number in range(8)
        for signer in (MEMBER, PHONE)
    ]

    assert verify_each(all_) == [verifies(*one) for one in all_]
    assert {True, False} == {*verify_each(all_[::2])} == {*verify_each(all_[1::2])}


@pytest.mark.parametrize(
    "raw", [b"", bytes(33), b"\x02" + b"\xff" * 32, b"\x04" + bytes(32), b"\x02" + bytes(31)]
)
def test_what_is_no_compressed_point_is_no_key(raw: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # whatever it says
        VerificationKey.of_raw(KeyKind.P256, raw)
    if len(raw) != 32:
        assert not verifies(raw, bytes(64), b"")


def test_other_curves_have_no_keys_here() -> None:
    with pytest.raises(ValueError, match="curve"):
        VerificationKey.of(derive_private_key(7, SECP384R1()).public_key())


def test_an_event_by_a_key_of_p256_is_judged_as_any() -> None:
    ring = ring_with(PHONE)
    values = [encoded(document(n), source=PHONE.did, number=n) for n in range(3)]
    rows = [row(v, signature=header) for v, header in zip(values, sign_values(values, PHONE), strict=True)]
    foreign = row(encoded(document(9), source=PHONE.did, number=9), signature=sign_values([b"x"], PHONE)[0])

    assert all(isinstance(verdict(each, ring=ring), Judged) for each in rows)
    refused = verdict(foreign, ring=ring)
    assert isinstance(refused, RejectedError)
    assert refused.reason is Reason.BAD_SIGNATURE
    together = judge_batch(records_of([*rows, foreign]), ring=ring)
    assert {number: error.reason for number, error in together.refused.items()} == {3: Reason.BAD_SIGNATURE}


def test_a_service_states_what_was_asked_with_a_key_of_p256() -> None:
    ring, storage = ring_with(PHONE), SERVICES["storage"]
    said = ObjectRead("obj-1", PATIENT, PHONE.did, "dec-1", "TREAT", request=UNASKED)
    value = encoded(truly_asked(said, PHONE, at=NOON), source=storage.did)
    record = row(value, signer=storage, topic="salus.storage.events", key=PATIENT.encode())
    by_another = ring_with(LocalSigner(derive_private_key(8, SECP256R1()), PHONE.verification_method))

    assert isinstance(verdict(record, ring=ring), Judged)
    assert not judge_batch(records_of([record]), ring=ring).refused
    refused = verdict(record, ring=by_another)
    assert isinstance(refused, RejectedError)
    assert refused.reason is Reason.INVALID_REQUEST


def with_algorithm(token: str, algorithm: str, signer: LocalSigner) -> str:
    """Return the token with another `alg`, signed again by the same key in the way of the key's kind."""
    header, payload, _ = token.split(".")
    said = json.loads(urlsafe_b64decode(header + "=="))
    text = _part(json.dumps(said | {"alg": algorithm}).encode()) + b"." + payload.encode()
    return (text + b"." + _part(signer.sign(text))).decode()


def _part(data: bytes) -> bytes:
    return urlsafe_b64encode(data).rstrip(b"=")


@pytest.mark.parametrize(("signer", "other"), [(MEMBER, "ES256"), (PHONE, "EdDSA")], ids=["Ed25519", "P-256"])
def test_a_token_of_another_algorithm_is_not_by_the_key(signer: LocalSigner, other: str) -> None:
    """Alg confusion: the key says how it is verified, and the header does not."""
    ring, audience = ring_with(signer), audience_of("consent", NETWORK)
    token = make_bearer(signer, audience, now=NOON)

    assert signed_by(read_bearer(token, audience=audience), ring=ring, at=NOON)
    confused = with_algorithm(token, other, signer)
    assert not signed_by(read_bearer(confused, audience=audience), ring=ring, at=NOON)
    proof = make_possession(signer, network=NETWORK, now=NOON)
    facts: dict[str, Any] = {"key": public_key(signer), "member": None, "network": NETWORK, "at": NOON}
    verify_possession(proof, **facts)
    with pytest.raises(PossessionError, match="not signed by the key"):
        verify_possession(with_algorithm(proof, other, signer), **facts)
