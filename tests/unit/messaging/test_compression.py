"""Whatever a batch says it is compressed with, it is expanded to its records or refused, within bounds."""

from __future__ import annotations

import struct
from contextlib import suppress

import cramjam
import pytest
from aiokafka import codec
from hypothesis import given
from hypothesis import strategies as st

from salus.messaging import compression
from salus.messaging.compression import (
    ATTRIBUTES_AT,
    GZIP_MEMBERS_MAX,
    LENGTH_AT,
    RECORDS_AT,
    SNAPPY_BLOCKS_MAX,
    UnreadableError,
    is_compressed,
    uncompressed,
)

ENCODE = {
    1: codec.gzip_encode,
    2: codec.snappy_encode,
    3: codec.lz4_encode,
    4: codec.zstd_encode,
}
LOG_APPEND_TIME = 0x08


def batch(number: int, records: bytes) -> memoryview:
    header = bytearray(RECORDS_AT)
    struct.pack_into(">i", header, LENGTH_AT, RECORDS_AT + len(records) - 12)
    struct.pack_into(">h", header, ATTRIBUTES_AT, number | LOG_APPEND_TIME)
    return memoryview(bytes(header) + records)


@pytest.mark.parametrize("number", ENCODE)
@given(records=st.binary(max_size=2000), times=st.integers(1, 50))
def test_a_batch_is_the_same_without_its_compression(number: int, records: bytes, times: int) -> None:
    plain = uncompressed(batch(number, ENCODE[number](records * times)))

    assert plain == batch(0, records * times)
    assert not is_compressed(memoryview(plain))


def test_snappy_without_frames_is_read_as_librdkafka_sends_it() -> None:
    assert uncompressed(batch(2, bytes(cramjam.snappy.compress_raw(b"abc" * 99)))) == batch(0, b"abc" * 99)


@pytest.mark.parametrize("number", ENCODE)
def test_what_expands_to_more_than_a_topic_takes_is_refused(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compression, "MESSAGE_BYTES_MAX", 100_000)

    uncompressed(batch(number, ENCODE[number](bytes(100_000))))
    with pytest.raises(UnreadableError):
        uncompressed(batch(number, ENCODE[number](bytes(100_001))))


def test_many_small_members_do_not_add_up_to_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "MESSAGE_BYTES_MAX", 100_000)

    with pytest.raises(UnreadableError):
        uncompressed(batch(1, codec.gzip_encode(bytes(1000)) * 101))


def test_many_empty_members_or_blocks_are_refused_before_they_take_time() -> None:
    # Each gzip member copied what followed it: 2 MiB of empty ones took the event loop 2 s.
    empty, block = codec.gzip_encode(b""), struct.pack(">i", 1) + bytes(cramjam.snappy.compress_raw(b""))
    xerial = b"\x82SNAPPY\0" + struct.pack(">ii", 1, 1)

    assert uncompressed(batch(1, empty * GZIP_MEMBERS_MAX)) == batch(0, b"")
    assert uncompressed(batch(2, xerial + block * SNAPPY_BLOCKS_MAX)) == batch(0, b"")
    for number, records in (
        (1, empty * (GZIP_MEMBERS_MAX + 1)),
        (2, xerial + block * (SNAPPY_BLOCKS_MAX + 1)),
    ):
        with pytest.raises(UnreadableError):
            uncompressed(batch(number, records))


@given(st.lists(st.binary(max_size=200), max_size=20), st.integers(1, 99))
def test_the_members_of_a_batch_are_read_wherever_they_end(members: list[bytes], piece: int) -> None:
    records = b"".join(map(codec.gzip_encode, members))
    with pytest.MonkeyPatch.context() as small:
        small.setattr(compression, "_GZIP_PIECE_BYTES", piece)

        assert uncompressed(batch(1, records)) == batch(0, b"".join(members))


@pytest.mark.parametrize("number", [*ENCODE, 5, 6, 7])
@given(records=st.binary(max_size=100))
def test_anything_else_is_refused_and_nothing_else_happens(number: int, records: bytes) -> None:
    try:
        uncompressed(batch(number, records))
    except UnreadableError:
        return
    assert number in ENCODE


@pytest.mark.parametrize("number", ENCODE)
@given(st.data())
def test_what_is_cut_off_or_changed_ends_likewise(number: int, data: st.DataObject) -> None:
    sound = bytearray(ENCODE[number](b"salus" * 50))
    sound[data.draw(st.integers(0, len(sound) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    broken = bytes(sound[: data.draw(st.integers(0, len(sound)))])

    with suppress(UnreadableError):
        assert len(uncompressed(batch(number, broken))) < 10_000
