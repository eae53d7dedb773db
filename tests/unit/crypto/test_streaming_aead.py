"""Streams that open segment by segment, as Tink makes and opens them."""

from __future__ import annotations

import json
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salus.crypto.errors import CryptoError, SegmentError
from salus.crypto.streaming_aead import (
    SEGMENT_BYTES_MIN,
    STREAM_HEADER_BYTES,
    TAG_BYTES,
    SegmentCipher,
    SegmentPlan,
    new_stream_header,
)

VECTORS = Path(__file__).parents[2] / "data" / "crypto" / "tink" / "aes_gcm_hkdf_streaming.json"
ROOM = SEGMENT_BYTES_MIN - TAG_BYTES
HEADER = new_stream_header()
EDGES = [0, 1, ROOM - 41, ROOM - 40, ROOM - 39, 2 * ROOM - 40, 2 * ROOM - 39, 3000]


def vectors() -> list[dict[str, Any]]:
    return list(json.loads(VECTORS.read_text())["vectors"])


def content(size: int) -> bytes:
    return bytes(index % 251 for index in range(size))


def cipher(key: bytes = bytes(32), associated_data: bytes = b"a", header: bytes = HEADER) -> SegmentCipher:
    return SegmentCipher(
        key=key, associated_data=associated_data, stream_header=header, segment_bytes=SEGMENT_BYTES_MIN
    )


def sealed(plaintext: bytes, by: SegmentCipher) -> bytes:
    plan = SegmentPlan(len(plaintext), by.segment_bytes)
    return by.stream_header + b"".join(
        by.seal(index, plaintext[plan.plaintext_start(index) : plan.plaintext_start(index + 1)], last=last)
        for index, last in ((index, index == plan.count - 1) for index in range(plan.count))
    )


def opened(ciphertext: bytes, by: SegmentCipher, plaintext_bytes: int) -> bytes:
    plan = SegmentPlan(plaintext_bytes, by.segment_bytes)
    return b"".join(
        by.open(
            index,
            ciphertext[plan.ciphertext_start(index) : plan.ciphertext_start(index + 1)],
            last=index == plan.count - 1,
        )
        for index in range(plan.count)
    )


@pytest.mark.parametrize("vector", vectors(), ids=lambda v: f"{v['plaintext_bytes']}")
def test_what_tink_made_opens_here_and_is_what_we_make(vector: dict[str, Any]) -> None:
    size, ciphertext = vector["plaintext_bytes"], b64decode(vector["ciphertext"])
    ours = SegmentCipher(
        key=bytes.fromhex(vector["key"]),
        associated_data=bytes.fromhex(vector["associated_data"]),
        stream_header=ciphertext[:STREAM_HEADER_BYTES],
        segment_bytes=vector["segment_bytes"],
    )

    assert opened(ciphertext, ours, size) == content(size)
    assert sealed(content(size), ours) == ciphertext
    assert SegmentPlan(size, vector["segment_bytes"]).ciphertext_bytes == len(ciphertext)


@pytest.mark.parametrize("size", EDGES)
def test_sizes_around_a_segment_survive(size: int) -> None:
    assert opened(sealed(content(size), cipher()), cipher(), size) == content(size)


@given(size=st.integers(0, 10_000), segment=st.integers(1024, 4096))
def test_the_plan_covers_everything_once(size: int, segment: int) -> None:
    plan = SegmentPlan(size, segment)
    starts = [plan.plaintext_start(index) for index in range(plan.count + 1)]
    stored = [plan.ciphertext_start(index) for index in range(plan.count + 1)]

    assert (starts[0], starts[-1]) == (0, size)
    assert (stored[0], stored[-1]) == (STREAM_HEADER_BYTES, plan.ciphertext_bytes)
    for index in range(plan.count):
        assert stored[index + 1] - stored[index] == starts[index + 1] - starts[index] + TAG_BYTES
        assert size == 0 or starts[index] < starts[index + 1]
    for offset in range(0, size, 97):
        index = plan.segment_at(offset)
        assert starts[index] <= offset < starts[index + 1]


@given(data=st.data())
def test_no_segment_opens_elsewhere_changed_or_under_another_key(data: st.DataObject) -> None:
    """Case SEC5: reordered, swapped, cut and foreign segments open nowhere."""
    plan = SegmentPlan(3000, SEGMENT_BYTES_MIN)
    ciphertext = sealed(content(3000), cipher())
    index = data.draw(st.integers(0, plan.count - 1))
    stored = ciphertext[plan.ciphertext_start(index) : plan.ciphertext_start(index + 1)]
    last = index == plan.count - 1
    flipped = bytearray(stored)
    flipped[data.draw(st.integers(0, len(stored) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    other = data.draw(st.integers(0, plan.count - 1).filter(lambda number: number != index))
    wrong = [
        (cipher(), index, bytes(flipped), last),
        (cipher(), index, stored[: data.draw(st.integers(0, len(stored) - 1))], last),
        (cipher(), index, stored, not last),
        (cipher(), other, stored, last),
        (cipher(key=b"\x01" * 32), index, stored, last),
        (cipher(associated_data=b"b"), index, stored, last),
        (cipher(header=new_stream_header()), index, stored, last),
    ]

    for by, number, raw, is_last in wrong:
        with pytest.raises(SegmentError):
            by.open(number, raw, last=is_last)


@pytest.mark.parametrize(
    "header",
    [b"", HEADER[:-1], HEADER + b"x", b"\x29" + HEADER[1:]],
    ids=["none", "short", "long", "other"],
)
def test_another_stream_header_is_refused(header: bytes) -> None:
    with pytest.raises(CryptoError):
        cipher(header=header)


def test_keys_and_segments_of_other_sizes_are_refused() -> None:
    with pytest.raises(CryptoError):
        cipher(key=bytes(16))
    with pytest.raises(CryptoError):
        SegmentCipher(key=bytes(32), associated_data=b"", stream_header=HEADER, segment_bytes=1023)
    with pytest.raises(CryptoError):
        cipher().seal(2**32, b"", last=True)
