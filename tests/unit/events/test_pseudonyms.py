"""A pseudonym is made of its steward's DID and a nonce: as docs/sealing.md says, and of nothing else."""

from __future__ import annotations

from hashlib import sha256
from uuid import RFC_4122, UUID

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from salus.client import new_pseudonym
from salus.events.fields import Nonce, Pseudonym
from salus.events.pseudonyms import pseudonym_of

CLINIC = "did:web:clinic.example"
NONCE = "000102030405060708090a0b0c0d0e0f"
NONCES = st.text("0123456789abcdef", min_size=32, max_size=32)
DIDS = st.from_regex(r"did:[a-z0-9]{1,8}:[A-Za-z0-9._:%-]{1,40}", fullmatch=True)


def test_the_example_of_the_documentation_holds() -> None:
    assert pseudonym_of(CLINIC, NONCE) == "urn:uuid:c70148e5-f666-8ab3-9006-d60be697d57b"


@given(DIDS, NONCES)
def test_it_is_the_digest_but_for_version_and_variant(steward: str, nonce: str) -> None:
    made = UUID(pseudonym_of(steward, nonce))
    digest = sha256(f"salus.health/pseudonym/v1\n{steward}\n{nonce}".encode()).hexdigest()

    assert (made.version, made.variant) == (8, RFC_4122)
    assert (made.hex[:12], made.hex[13:16], made.hex[17:]) == (digest[:12], digest[13:16], digest[17:32])
    assert msgspec.convert(pseudonym_of(steward, nonce), Pseudonym)


@given(DIDS, DIDS, NONCES, NONCES)
def test_another_steward_or_nonce_makes_another(a: str, b: str, one: str, two: str) -> None:
    assume((a, one) != (b, two))

    assert pseudonym_of(a, one) != pseudonym_of(b, two)


def test_a_new_one_is_made_of_a_nonce_of_its_own() -> None:
    one, two = new_pseudonym(CLINIC), new_pseudonym(CLINIC)

    assert one.patient == pseudonym_of(CLINIC, one.nonce)
    assert msgspec.convert(one.nonce, Nonce) != two.nonce


@pytest.mark.parametrize("nonce", ["", NONCE[1:], NONCE + "0", NONCE.upper(), NONCE[:-1] + "\n", " " * 32])
def test_what_is_no_nonce_is_refused(nonce: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(nonce, Nonce)
