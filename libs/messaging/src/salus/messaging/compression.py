"""Undoes the compression of a record batch, up to the size that a topic takes uncompressed.

The client library would expand whatever a batch holds: one of a few kilobytes could end the process.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from mmap import mmap

import cramjam
from aiokafka.errors import CorruptRecordException

from salus.messaging.record import MESSAGE_BYTES_MAX

# Where a batch of format v2 has its length, attributes and records, and what its length does not count.
LENGTH_AT, ATTRIBUTES_AT, RECORDS_AT = 8, 21, 61
_OVERHEAD_BYTES = 12
_CODEC = 0x07
_LENGTH, _ATTRIBUTES = struct.Struct(">i"), struct.Struct(">h")
_GZIP = 16 + zlib.MAX_WBITS
_GZIP_PIECE_BYTES = 16 * 1024
GZIP_MEMBERS_MAX = 1024
SNAPPY_BLOCKS_MAX = 64 * 1024
"""Producers make one gzip member, and Snappy blocks of 32 KiB; each costs us time, also an empty one."""
# Snappy has no frames of its own; the Java client cuts it into blocks behind this header (xerial).
_XERIAL = b"\x82SNAPPY\x00" + struct.pack(">ii", 1, 1)


class UnreadableError(CorruptRecordException):  # type: ignore[misc]  # the library has no types
    """No records can be made of a batch, whose checksum is right all the same."""


def is_compressed(raw: memoryview) -> bool:
    """Tell whether the records of a batch of format v2 are compressed."""
    return bool(_attributes(raw) & _CODEC)


def uncompressed(raw: memoryview) -> bytes:
    """Return a compressed batch of format v2 without its compression; its checksum is left as it was.

    Raises:
        UnreadableError: it is not in its codec, expands to more than MESSAGE_BYTES_MAX, or the codec is none
            of gzip, snappy, lz4 and zstd.
    """
    attributes = _attributes(raw)
    expand = _EXPAND.get(attributes & _CODEC)
    if expand is None:
        raise UnreadableError(f"no codec has the number {attributes & _CODEC}")
    try:
        records = expand(raw[RECORDS_AT:])
    except (cramjam.DecompressionError, zlib.error, ValueError, struct.error) as error:
        raise UnreadableError("it does not expand to what a topic takes") from error
    batch = bytearray(raw[:RECORDS_AT]) + records
    _LENGTH.pack_into(batch, LENGTH_AT, len(batch) - _OVERHEAD_BYTES)
    _ATTRIBUTES.pack_into(batch, ATTRIBUTES_AT, attributes & ~_CODEC)
    return bytes(batch)


def _attributes(raw: memoryview) -> int:
    return int(_ATTRIBUTES.unpack_from(raw, ATTRIBUTES_AT)[0])


def _gunzip(data: memoryview) -> bytes:
    records, at, members = bytearray(), 0, 0
    while at < len(data):
        members += 1
        if members > GZIP_MEMBERS_MAX:
            raise ValueError("too many members")
        member = zlib.decompressobj(_GZIP)
        # The library copies what is behind the end of a member, so it gets small pieces.
        while not member.eof and at < len(data):
            piece = data[at : at + _GZIP_PIECE_BYTES]
            at += len(piece)
            records += member.decompress(piece, MESSAGE_BYTES_MAX + 1 - len(records))
            if len(records) > MESSAGE_BYTES_MAX:
                raise ValueError("too large")
        if not member.eof:
            raise ValueError("cut off")
        at -= len(member.unused_data)
    return bytes(records)


def _expand_with(codec: Callable[[bytes, mmap], int]) -> Callable[[memoryview], bytes]:
    def expand(data: memoryview) -> bytes:
        # Of this only what is written to takes memory.
        with mmap(-1, MESSAGE_BYTES_MAX) as room:
            return room[: codec(bytes(data), room)]

    return expand


def _unsnap(data: memoryview) -> bytes:
    if bytes(data[: len(_XERIAL)]) != _XERIAL:
        return _unsnap_block(data)
    records, at, blocks = bytearray(), len(_XERIAL), 0
    while at < len(data):
        blocks += 1
        if blocks > SNAPPY_BLOCKS_MAX:
            raise ValueError("too many blocks")
        end = at + 4 + _LENGTH.unpack_from(data, at)[0]
        if not at + 4 <= end <= len(data):
            raise ValueError("a block ends elsewhere")
        records += _unsnap_block(data[at + 4 : end])
        if len(records) > MESSAGE_BYTES_MAX:
            raise ValueError("too large")
        at = end
    return bytes(records)


def _unsnap_block(data: memoryview) -> bytes:
    block = bytes(data)
    if cramjam.snappy.decompress_raw_len(block) > MESSAGE_BYTES_MAX:
        raise ValueError("too large")
    return bytes(cramjam.snappy.decompress_raw(block))


_EXPAND: dict[int, Callable[[memoryview], bytes]] = {
    1: _gunzip,
    2: _unsnap,
    3: _expand_with(cramjam.lz4.decompress_into),
    4: _expand_with(cramjam.zstd.decompress_into),
}
