"""Sealed objects of the first form: a header and segments that belong together and to one object."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salus.crypto.errors import CryptoError, HeaderError
from salus.crypto.sealed_object_v1 import new_object, parse_header, sealed_bytes, split_header
from salus.crypto.sealing import generate_key_pair, key_pair_of

PAIR = key_pair_of(bytes(range(32)))
HEADER, SEGMENTS = new_object(object="o-1", patient="p-1", public_key=PAIR.public_key, key="p-1#k")


async def pieces_of(data: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def stored(content: bytes) -> bytes:
    async def collect() -> bytes:
        sealed = [piece async for piece in SEGMENTS.seal_all(pieces_of(content, 1000))]
        return HEADER.encode() + b"".join(sealed)

    return asyncio.run(collect())


def read(data: bytes, *, size: int = 777, private_key: bytes = PAIR.private_key) -> bytes:
    async def collect() -> bytes:
        header, rest = await split_header(pieces_of(data, size))
        segments = header.open_segments(private_key)
        return b"".join([piece async for piece in segments.open_all(rest)])

    return asyncio.run(collect())


@given(content=st.binary(max_size=3000), size=st.integers(1, 4000))
def test_what_is_stored_is_read_whatever_the_pieces(content: bytes, size: int) -> None:
    assert read(stored(content), size=size) == content


@given(content=st.binary(max_size=2000))
def test_the_stored_size_is_known_beforehand(content: bytes) -> None:
    assert len(stored(content)) == sealed_bytes(header=HEADER, plaintext_bytes=len(content))


@given(data=st.data())
def test_no_flipped_bit_anywhere_is_read(data: st.DataObject) -> None:
    raw = bytearray(stored(b"content"))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))

    with pytest.raises(CryptoError):
        read(bytes(raw))


@given(data=st.data())
def test_no_flipped_bit_of_the_header_reaches_the_segments(data: st.DataObject) -> None:
    raw = bytearray(HEADER.encode())
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))

    with pytest.raises((HeaderError, CryptoError)):
        parse_header(bytes(raw)).open_segments(PAIR.private_key)


def test_the_segments_of_one_object_do_not_open_under_the_header_of_another() -> None:
    other, _ = new_object(object="o-2", patient="p-1", public_key=PAIR.public_key, key="p-1#k")
    segments = stored(b"content")[len(HEADER.encode()) :]

    with pytest.raises(CryptoError):
        read(other.encode() + segments)


def test_another_patients_key_does_not_open() -> None:
    with pytest.raises(CryptoError):
        read(stored(b"content"), private_key=generate_key_pair().private_key)


@pytest.mark.parametrize("data", [b"", b"x", b"x" * 20_000, b"\n\n", HEADER.encode()[:-1], b"\xff\n\n"])
def test_what_has_no_header_is_refused(data: bytes) -> None:
    with pytest.raises(HeaderError):
        read(data)


def test_a_name_that_would_break_the_header_is_refused() -> None:
    with pytest.raises(HeaderError):
        new_object(object="o\nkey evil", patient="p", public_key=PAIR.public_key, key="k")
