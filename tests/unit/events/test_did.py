"""did:key as its authors' vectors have it, and no key that holds its owner to nothing."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicNumbers
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.ledger.ed25519_cases import NO_KEYS

from salus.events.did import LocalSigner, did_key_of, key_of, multibase_of

FOLDER = Path(__file__).parents[2] / "data" / "vc" / "did-key"
ED25519: dict[str, Any] = json.loads((FOLDER / "ed25519-x25519.json").read_text())
_OTHERS: dict[str, Any] = {
    did: vector
    for name in ("x25519.json", "nist-curves.json")
    for did, vector in json.loads((FOLDER / name).read_text()).items()
}
P256 = {did: vector for did, vector in _OTHERS.items() if did.startswith("did:key:zDn")}
OTHERS = sorted(_OTHERS.keys() - P256.keys())


@pytest.mark.parametrize("did", ED25519)
def test_the_vectors_seeds_have_the_vectors_dids(did: str) -> None:
    seed = bytes.fromhex(ED25519[did]["seed"])
    signer = LocalSigner.from_seed(seed)

    assert signer.did == did
    # One of the vectors has the whole DID URL there.
    fragment = ED25519[did]["verificationKeyPair"]["id"].removeprefix(did)
    assert signer.verification_method == did + fragment
    assert did_key_of(key_of(did.removeprefix("did:key:")).public_key) == did


@pytest.mark.parametrize("did", OTHERS)
def test_keys_of_other_curves_are_refused(did: str) -> None:
    with pytest.raises(ValueError, match="key"):
        key_of(did.removeprefix("did:key:"))


def _number(coordinate: str) -> int:
    return int.from_bytes(urlsafe_b64decode(coordinate + "=" * (-len(coordinate) % 4)), "big")


@pytest.mark.parametrize("did", P256)
def test_the_vectors_keys_of_p256_have_the_vectors_dids(did: str) -> None:
    jwk = P256[did]["verificationMethod"].get("publicKeyJwk")
    assert key_of(did.removeprefix("did:key:")).kind == "P-256"
    if jwk is None:
        return
    public = EllipticCurvePublicNumbers(_number(jwk["x"]), _number(jwk["y"]), SECP256R1()).public_key()

    assert did_key_of(public) == did
    assert key_of(did.removeprefix("did:key:")).public_key == public


@given(st.binary(min_size=32, max_size=32))
def test_multibase_goes_there_and_back(seed: bytes) -> None:
    public = Ed25519PrivateKey.from_private_bytes(seed).public_key()

    assert key_of(multibase_of(public)).public_key == public


@pytest.mark.parametrize("point", NO_KEYS, ids=bytes.hex)
def test_a_point_under_which_anybody_signs_is_no_key(point: bytes) -> None:
    multibase = multibase_of(Ed25519PublicKey.from_public_bytes(point))

    with pytest.raises(ValueError, match="holds its owner"):
        key_of(multibase)


@given(st.text(max_size=70) | st.text("z123456789ABCabc", max_size=70))
def test_arbitrary_text_is_no_key(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # whatever it says
        key_of(text)
