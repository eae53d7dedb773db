"""Segments: what comes back is what went in, or an error that names the segment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salus.crypto.errors import CryptoError, SegmentError
from salus.crypto.segments import TAG_BYTES, Segments

SEGMENT = 1024
WHOLE = SEGMENT + TAG_BYTES


def segments(*, key: bytes = bytes(32), prefix: bytes = bytes(7), context: bytes = b"object-1") -> Segments:
    return Segments(data_key=key, prefix=prefix, context=context, segment_bytes=SEGMENT)


async def stream(pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


def sealed(plaintext: bytes, **choices: bytes) -> list[bytes]:
    async def collect() -> list[bytes]:
        return [piece async for piece in segments(**choices).seal_all(stream([plaintext]))]

    return asyncio.run(collect())


def opened(pieces: Iterable[bytes], **choices: bytes) -> bytes:
    async def collect() -> bytes:
        return b"".join([piece async for piece in segments(**choices).open_all(stream(pieces))])

    return asyncio.run(collect())


def content(size: int) -> bytes:
    return bytes(index % 251 for index in range(size))


@given(sizes=st.lists(st.integers(0, 3000), max_size=6), cut=st.integers(1, 2500))
def test_what_is_sealed_opens_to_the_same_whatever_the_pieces(sizes: list[int], cut: int) -> None:
    pieces = [content(size) for size in sizes]

    async def there_and_back() -> bytes:
        ciphertext = b"".join([piece async for piece in segments().seal_all(stream(pieces))])
        again = [ciphertext[start : start + cut] for start in range(0, len(ciphertext), cut)]
        return b"".join([piece async for piece in segments().open_all(stream(again))])

    assert asyncio.run(there_and_back()) == b"".join(pieces)


@pytest.mark.parametrize("size", [0, 1, SEGMENT - 1, SEGMENT, SEGMENT + 1, 3 * SEGMENT])
def test_sizes_around_a_segment_survive(size: int) -> None:
    pieces = sealed(content(size))

    assert opened(pieces) == content(size)
    assert len(pieces) == max(1, -(-size // SEGMENT))
    assert all(len(piece) == WHOLE for piece in pieces[:-1])


@given(size=st.integers(0, 4 * SEGMENT), data=st.data())
def test_no_flipped_bit_opens_and_its_segment_is_named(size: int, data: st.DataObject) -> None:
    ciphertext = bytearray(b"".join(sealed(content(size))))
    at = data.draw(st.integers(0, len(ciphertext) - 1))
    ciphertext[at] ^= 1 << data.draw(st.integers(0, 7))

    with pytest.raises(SegmentError) as caught:
        opened([bytes(ciphertext)])

    assert caught.value.segment == at // WHOLE
    assert caught.value.fault == "altered"


@given(size=st.integers(0, 4 * SEGMENT), data=st.data())
def test_no_truncation_opens(size: int, data: st.DataObject) -> None:
    ciphertext = b"".join(sealed(content(size)))
    kept = data.draw(st.integers(0, len(ciphertext) - 1))

    with pytest.raises(SegmentError) as caught:
        opened([ciphertext[:kept]])

    assert caught.value.segment == max(0, -(-kept // WHOLE) - 1)


@given(size=st.integers(0, 4 * SEGMENT), more=st.binary(min_size=1, max_size=2 * WHOLE))
def test_nothing_can_be_added(size: int, more: bytes) -> None:
    with pytest.raises(SegmentError):
        opened([*sealed(content(size)), more])


@given(order=st.permutations(range(4)))
def test_segments_open_in_their_own_order_only(order: list[int]) -> None:
    pieces = sealed(content(4 * SEGMENT))
    reordered = [pieces[index] for index in order]

    if list(order) == [0, 1, 2, 3]:
        assert opened(reordered) == content(4 * SEGMENT)
        return
    with pytest.raises(SegmentError) as caught:
        opened(reordered)

    first_wrong = next(place for place, index in enumerate(order) if place != index)
    assert caught.value.segment == first_wrong


def test_an_object_cut_at_a_segment_is_truncated() -> None:
    with pytest.raises(SegmentError) as caught:
        opened(sealed(content(3 * SEGMENT))[:2])

    assert (caught.value.segment, caught.value.fault) == (1, "truncated")


def test_an_object_with_a_segment_after_the_last_is_extended() -> None:
    pieces = sealed(content(2 * SEGMENT))

    with pytest.raises(SegmentError) as caught:
        opened([*pieces, pieces[-1]])

    assert (caught.value.segment, caught.value.fault) == (1, "extended")


@pytest.mark.parametrize(
    "other",
    [{"key": b"k" * 32}, {"prefix": b"p" * 7}, {"context": b"object-2"}],
    ids=["key", "prefix", "context"],
)
def test_a_segment_of_another_stream_does_not_open(other: dict[str, bytes]) -> None:
    with pytest.raises(SegmentError) as caught:
        opened(sealed(content(10)), **other)

    assert caught.value.segment == 0


def test_what_is_yielded_before_an_error_is_authentic() -> None:
    pieces = sealed(content(3 * SEGMENT))
    pieces[2] = bytes(len(pieces[2]))
    got: list[bytes] = []

    async def collect() -> None:
        async for piece in segments().open_all(stream(pieces)):
            got.append(piece)  # noqa: PERF401  # a comprehension would lose what came before the error

    with pytest.raises(SegmentError):
        asyncio.run(collect())

    assert b"".join(got) == content(3 * SEGMENT)[: 2 * SEGMENT]


@pytest.mark.parametrize(
    "wrong",
    [{"data_key": b"short"}, {"prefix": b"long prefix"}, {"segment_bytes": 1}, {"segment_bytes": 2**21}],
)
def test_a_stream_of_wrong_dimensions_is_refused(wrong: dict[str, object]) -> None:
    right = {"data_key": bytes(32), "prefix": bytes(7), "context": b"", "segment_bytes": SEGMENT}

    with pytest.raises(CryptoError):
        Segments(**{**right, **wrong})  # type: ignore[arg-type]  # wrong on purpose


def test_segment_numbers_do_not_wrap_around() -> None:
    with pytest.raises(CryptoError):
        segments().seal(2**32, b"", last=True)


def test_nothing_secret_is_in_the_repr() -> None:
    assert "data_key" not in repr(segments())
