"""Sealing: opens with the key, id and context it was made for, and with nothing else."""

from __future__ import annotations

from base64 import b64decode, b64encode
from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salus.crypto.errors import InvalidKeyError, UnknownSuiteError, UnsealError
from salus.crypto.sealing import (
    PUBLIC_KEY_BYTES,
    SUITE,
    SealedValue,
    generate_key_pair,
    key_pair_of,
    seal,
    unseal,
)
from salus.events.fields import SEALED_CHARS_MIN, Suite

PAIR = key_pair_of(bytes(range(32)))


def sealed(plaintext: bytes = b"secret", *, key: str = "patient#1", context: str = "a field") -> SealedValue:
    return seal(plaintext, public_key=PAIR.public_key, key=key, context=context)


@given(plaintext=st.binary(max_size=2000))
def test_what_is_sealed_opens_to_the_same(plaintext: bytes) -> None:
    assert unseal(sealed(plaintext), private_key=PAIR.private_key, context="a field") == plaintext


def test_sealing_twice_gives_two_ciphertexts() -> None:
    assert sealed() != sealed()


@given(data=st.data())
def test_no_flipped_bit_opens(data: st.DataObject) -> None:
    value = sealed()
    raw = bytearray(b64decode(value.ciphertext))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    altered = replace(value, ciphertext=b64encode(bytes(raw)).decode())

    with pytest.raises(UnsealError):
        unseal(altered, private_key=PAIR.private_key, context="a field")


def test_another_key_does_not_open() -> None:
    with pytest.raises(UnsealError):
        unseal(sealed(), private_key=generate_key_pair().private_key, context="a field")


def test_a_value_cannot_be_passed_off_as_sealed_to_another_key_id() -> None:
    with pytest.raises(UnsealError):
        unseal(replace(sealed(), key="patient#2"), private_key=PAIR.private_key, context="a field")


def test_a_value_cannot_be_used_in_another_context() -> None:
    with pytest.raises(UnsealError):
        unseal(sealed(), private_key=PAIR.private_key, context="another field")


@pytest.mark.parametrize("ciphertext", ["", "AAAA", "not base64!", "é"])
def test_garbage_does_not_open(ciphertext: str) -> None:
    with pytest.raises(UnsealError):
        unseal(replace(sealed(), ciphertext=ciphertext), private_key=PAIR.private_key, context="a field")


def test_an_unknown_suite_is_named() -> None:
    with pytest.raises(UnknownSuiteError, match="rot13"):
        unseal(replace(sealed(), suite="rot13"), private_key=PAIR.private_key, context="a field")


@pytest.mark.parametrize("public_key", [b"", bytes(PUBLIC_KEY_BYTES - 1), b"\xff" * PUBLIC_KEY_BYTES])
def test_what_is_not_a_public_key_is_refused(public_key: bytes) -> None:
    with pytest.raises(InvalidKeyError):
        seal(b"", public_key=public_key, key="k", context="")


def test_a_private_key_of_another_length_is_refused() -> None:
    with pytest.raises(InvalidKeyError):
        key_pair_of(bytes(31))


def test_a_key_id_cannot_hold_the_line_break_that_separates_it() -> None:
    with pytest.raises(InvalidKeyError):
        sealed(key="a\nb")


def test_the_suite_is_named_in_the_value_and_no_key_is_in_a_repr() -> None:
    assert sealed().suite == SUITE
    assert str(PAIR.private_key) not in repr(PAIR)


def test_events_take_what_is_sealed_here_and_nothing_shorter() -> None:
    """Case SEC9: the catalogue's suite and least length are those of sealing nothing."""
    nothing = seal(b"", public_key=PAIR.public_key, key="k", context="a field")

    assert get_args(Suite) == (SUITE,)
    assert len(nothing.ciphertext) == SEALED_CHARS_MIN
