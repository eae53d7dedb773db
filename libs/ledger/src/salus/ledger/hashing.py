"""SHA-256 of many messages at once: with the vector lanes of the processor where that pays, else one by one.

The results are hashlib's, byte for byte. `native/sha256_lanes.c` is compiled when the package is built on a
machine with a C compiler; without it, or on a processor for which it brings nothing, hashlib does the work.
"""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Callable, Sequence
from hashlib import sha256
from itertools import accumulate, pairwise

LIBRARY = f"{__file__.rpartition('/')[0]}/compiled.native"
# The number changes with the arguments: called with others it would end the process before it is compared.
FUNCTION = "salus_sha256_many_2"
SIZE = 32
# With fewer messages most lanes would be idle.
MESSAGES_MIN = 16
ASTRAY = "spans that go backwards or beyond the data"

Many = Callable[[bytes, bytes, "array[int]"], bytes]
"""(prefix, messages joined, where each begins and the last ends) -> the digests joined."""


def hash_each(prefix: bytes, messages: Sequence[bytes]) -> list[bytes]:
    """Return SHA-256(prefix || message) of each message, in order."""
    if _many is None or len(messages) < MESSAGES_MIN:
        return [sha256(prefix + message).digest() for message in messages]
    places = array("Q", accumulate(map(len, messages), initial=0))
    return split(_many(prefix, b"".join(messages), places))


def hash_spans(prefix: bytes, data: bytes, places: array[int]) -> bytes:
    """Return the joined SHA-256(prefix || span) of the spans of some bytes.

    `places` (type code Q) says where each span begins, and where the last one ends.

    Raises:
        ValueError: the places are not within the data, one after the other.
    """
    if _many is None or len(places) <= MESSAGES_MIN:
        if any(start > end for start, end in pairwise(places)) or places[-1] > len(data):
            raise ValueError(ASTRAY)
        return b"".join(sha256(prefix + data[start:end]).digest() for start, end in pairwise(places))
    return _many(prefix, data, places)


def hash_pieces(prefix: bytes, data: bytes, size: int) -> bytes:
    """Return the joined SHA-256(prefix || piece) of the pieces of `size` bytes that the data consists of."""
    places = range(0, len(data) + 1, size)
    if _many is None or len(places) <= MESSAGES_MIN:
        return b"".join(sha256(prefix + data[at : at + size]).digest() for at in places[:-1])
    return _many(prefix, data, array("Q", places))


def split(joined: bytes) -> list[bytes]:
    """Return the digests that were joined."""
    return [joined[at : at + SIZE] for at in range(0, len(joined), SIZE)]


def lanes() -> int:
    """Return how many messages are hashed at once; 1 if hashlib does it."""
    return _lanes


def load(path: str = LIBRARY) -> tuple[Many | None, int]:
    """Return the library's function and its number of lanes; None and 1 if it is not there or not right."""
    try:
        library = ctypes.CDLL(path)
        counted = int(library.salus_sha256_lanes())
        run = library[FUNCTION]
    except (OSError, AttributeError):
        return None, 1
    run.argtypes = [
        ctypes.c_char_p,
        ctypes.c_uint64,
        ctypes.c_char_p,
        ctypes.c_uint64,
        ctypes.c_void_p,
        ctypes.c_uint64,
        ctypes.c_void_p,
    ]

    def many(prefix: bytes, data: bytes, places: array[int]) -> bytes:
        # ctypes releases the interpreter lock during the call.
        count = len(places) - 1
        out = ctypes.create_string_buffer(SIZE * count)
        if run(prefix, len(prefix), data, len(data), places.buffer_info()[0], count, out):
            raise ValueError(ASTRAY)
        return out.raw

    return (many, counted) if counted > 1 and _is_right(many) else (None, 1)


def _is_right(many: Many) -> bool:
    """Compare with hashlib: a library of another processor or version must not make a single hash."""
    messages = [bytes(range(256)) * 2] * 2 + [b"x" * size for size in range(130)]
    places = array("Q", accumulate(map(len, messages), initial=0))
    expected = b"".join(sha256(b"\x00" + message).digest() for message in messages)
    return many(b"\x00", b"".join(messages), places) == expected


_many, _lanes = load()
