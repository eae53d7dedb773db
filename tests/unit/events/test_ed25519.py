"""Signatures of events are valid exactly if the rule of the ledger says so, whoever is asked first."""

from __future__ import annotations

import gzip
import json
import re
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st
from nacl.bindings import crypto_sign_open
from nacl.exceptions import BadSignatureError
from tests.unit.ledger.ed25519_cases import (
    BASE,
    ORDER,
    SMALL_ORDER,
    add,
    challenge,
    decoded,
    encoded,
    honest,
    mixed_order,
    of_small_half,
    times,
    verdict,
    wycheproof,
)

from salus.events import ed25519
from salus.events.did import LocalSigner
from salus.events.ed25519 import Signature, load, verifies, verify_each
from salus.events.verification_keys import VerificationKey

DATA = Path(__file__).parents[2] / "data" / "crypto"
NATIVE = Path(__file__).parents[3] / "libs/ledger/native/s2n_bignum"
LIBRARY = load()
needs_library = pytest.mark.skipif(LIBRARY is None, reason="no C compiler")
SIGNER = LocalSigner.from_seed(b"seed" * 8)
KEY = VerificationKey.of(SIGNER.public_key).raw
SCALARS = st.integers(1, ORDER - 1)
needs_instructions = pytest.mark.skipif(
    LIBRARY is None or not any(LIBRARY.certain([Signature(KEY, SIGNER.sign(b""), b"")])),
    reason="a processor without BMI2 and ADX",
)
# Encodings of points of small order, and of none ("Taming the many EdDSAs", Chalkias and others, 2020).
POINTS = [
    bytes([1, *bytes(31)]),
    bytes(32),
    bytes([*bytes(31), 0x80]),
    bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
    bytes.fromhex("edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    bytes.fromhex("eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    b"\xff" * 32,
]


def openssl_says(key: bytes, signature: bytes, text: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, text)
    except InvalidSignature:
        return False
    return True


def signed_by_nobody(key: bytes) -> tuple[bytes, bytes, bytes]:
    """A signature that fits the equation under a key of small order, with an R that is not of small order."""
    half = encoded(times(99, BASE))
    texts = (b"%d" % number for number in range(1000))
    text = next(text for text in texts if challenge(half, key, text) % 8 == 0)
    return key, half + (99).to_bytes(32, "little"), text


def test_wycheproof_signatures_are_judged_as_its_authors_say() -> None:
    groups = json.loads((DATA / "ed25519_test.json").read_bytes())["testGroups"]
    judged = [
        (
            verifies(
                bytes.fromhex(group["publicKey"]["pk"]), *map(bytes.fromhex, (test["sig"], test["msg"]))
            ),
            test,
        )
        for group in groups
        for test in group["tests"]
    ]

    assert len(judged) == 151
    assert [test["tcId"] for said, test in judged if said is not (test["result"] == "valid")] == []


def test_the_authors_signatures_are_valid() -> None:
    lines = gzip.decompress((DATA / "ed25519" / "sign.input.gz").read_bytes()).decode().splitlines()
    parts = [[bytes.fromhex(part) for part in line.split(":")[:4]] for line in lines]

    assert len(parts) == 1024
    assert all(verifies(public, signed[:64], text) for _, public, text, signed in parts)


@given(st.binary(max_size=80), st.integers(0, 63), st.integers(0, 255))
def test_a_signature_with_a_changed_byte_is_judged_as_by_openssl(text: bytes, at: int, byte: int) -> None:
    signature = SIGNER.sign(text)
    changed = signature[:at] + bytes([byte]) + signature[at + 1 :]

    assert verifies(KEY, changed, text) is openssl_says(KEY, changed, text)
    assert verifies(KEY, changed, text) is (changed == signature)


@pytest.mark.parametrize("key", [KEY, *POINTS], ids=bytes.hex)
@pytest.mark.parametrize("half", POINTS, ids=bytes.hex)
def test_points_of_small_order_sign_nothing(key: bytes, half: bytes) -> None:
    """Case SEC11: anybody could make such signatures; OpenSSL alone takes some of them."""
    assert not any(verifies(key, half + bytes(32), b"%d" % number) for number in range(16))


def test_openssl_takes_what_libsodium_and_the_rule_refuse() -> None:
    """So that the tests above see who has the last word."""
    key, signature = POINTS[0], POINTS[0] + bytes(32)

    with pytest.raises(BadSignatureError):
        crypto_sign_open(signature + b"text", key)
    assert openssl_says(key, signature, b"text")
    assert not verifies(key, signature, b"text")


def test_libsodium_takes_nothing_that_the_rule_refuses() -> None:
    cases = [*mixed_order(), *honest(), of_small_half()]

    assert [verifies(*case) for case in cases] == [verdict(*case) for case in cases]


@pytest.mark.parametrize("way", ["compiled", "python"])
def test_many_are_verified_as_one_by_one(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    library = load()
    if way == "python":
        monkeypatch.setattr(ed25519, "_library", None)
    elif library is None:
        pytest.skip("no C compiler")
    lines = [b"%d" % number for number in range(20)]
    good = [Signature(KEY, SIGNER.sign(line), line) for line in lines]
    changed = [one._replace(text=one.text + b"!") for one in good[:10]]
    short = [one._replace(signature=one.signature[:size]) for one in good[:1] for size in (0, 63)]
    cases = [Signature(*case) for case in [*mixed_order(), *honest(), of_small_half()]]
    all_ = [*good, *changed, *short, *cases, *good]

    assert verify_each([]) == []
    assert verify_each(all_) == [len(one.signature) == 64 and verdict(*one) for one in all_]
    assert verify_each(all_) == [verifies(*one) for one in all_]
    assert [*map(all, (verify_each(good), verify_each(good + changed)))] == [True, False]


@needs_library
def test_a_key_that_is_not_as_long_as_one_is_refused() -> None:
    assert LIBRARY is not None
    with pytest.raises(ValueError, match="32 bytes"):
        LIBRARY.valid([Signature(KEY[:31], bytes(64), b"")])


@needs_library
@needs_instructions
def test_what_is_certain_is_what_the_rule_says() -> None:
    assert LIBRARY is not None
    lines = gzip.decompress((DATA / "ed25519" / "sign.input.gz").read_bytes()).decode().splitlines()
    parts = [[bytes.fromhex(part) for part in line.split(":")[:4]] for line in lines]
    small = [
        (key, half + bytes(32), b"%d" % n) for key in [KEY, *POINTS] for half in POINTS for n in range(8)
    ]
    cases = [*wycheproof(), *mixed_order(), *honest(), of_small_half(), *small]
    cases += [(public, signed[:64], text) for _, public, text, signed in parts]
    cases += [signed_by_nobody(key) for key in SMALL_ORDER]

    certain = LIBRARY.certain([Signature(*case) for case in cases])
    assert certain == [verdict(*case) for case in cases]
    assert len(parts) < sum(certain) < len(cases)


@needs_library
@needs_instructions
@given(
    st.integers(1, ORDER - 1), st.sampled_from(SMALL_ORDER), st.integers(1, ORDER - 1), st.binary(max_size=9)
)
def test_keys_of_mixed_order_sign_what_they_sign_to_all(
    secret: int, small: bytes, nonce: int, text: bytes
) -> None:
    """Multiplied by a scalar that is the same modulo the order, and another one, they would not."""
    assert LIBRARY is not None
    key = encoded(add(times(secret, BASE), decoded(small)))
    half = encoded(times(nonce, BASE))
    scalar = (nonce + challenge(half, key, text) * secret) % ORDER
    case = Signature(key, half + scalar.to_bytes(32, "little"), text)

    assert LIBRARY.certain([case]) == LIBRARY.valid([case]) == [verdict(*case)]


@needs_library
@needs_instructions
@given(st.binary(max_size=80), st.integers(0, 95), st.integers(0, 255))
def test_of_a_changed_byte_nothing_is_certain(text: bytes, at: int, byte: int) -> None:
    assert LIBRARY is not None
    signed = bytearray(KEY + SIGNER.sign(text))
    is_same = signed[at] == byte
    signed[at] = byte

    assert LIBRARY.certain([Signature(bytes(signed[:32]), bytes(signed[32:]), text)]) == [is_same]


@needs_library
def test_of_long_texts_libsodium_tells() -> None:
    assert LIBRARY is not None
    texts = [b"x" * size for size in (8192, 8193, 100_000)]
    signatures = [Signature(KEY, SIGNER.sign(text), text) for text in texts]

    assert LIBRARY.certain(signatures[1:]) == [False, False]
    assert LIBRARY.valid(signatures) == [True, True, True]


def test_the_functions_of_others_are_as_they_were_taken() -> None:
    said = re.findall(r"`(\w+\.[Sh])` \| `([0-9a-f]{64})`", (NATIVE / "README.md").read_text())
    files = {file.name: sha256(file.read_bytes()).hexdigest() for file in NATIVE.rglob("*.[Sh]")}
    del files["boringssl_prefix_symbols_asm.h"]

    assert files == dict(said)
