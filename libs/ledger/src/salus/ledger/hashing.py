"""SHA-256 of many messages at once: with the vector lanes of the processor where that pays, else one by one.

The results are hashlib's, byte for byte. `native/sha256_lanes.c` is compiled when the package is built on a
machine with a C compiler; without it, or on a processor for which it brings nothing, hashlib does the work.
"""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Sequence
from hashlib import sha256
from itertools import accumulate, pairwise

LIBRARY = f"{__file__.rpartition('/')[0]}/compiled.native"
# The numbers change with the arguments: called with others they would end the process, not be compared.
FUNCTIONS = ("salus_sha256_many_2", "salus_sha256_apart_1")
SIZE = 32
# With fewer messages most lanes would be idle, and the call is dearer than hashing them one by one.
MESSAGES_MIN = 8
# From so many bytes a message on it is dearer to join them all than to point to each.
APART_BYTES_MIN = 16 * 1024
ASTRAY = "spans that go backwards or beyond the data"


def hash_each(prefix: bytes, messages: Sequence[bytes]) -> list[bytes]:
    """Return SHA-256(prefix || message) of each message, in order."""
    if _library is None or len(messages) < MESSAGES_MIN:
        return [sha256(prefix + message).digest() for message in messages]
    places = array("Q", accumulate(map(len, messages), initial=0))
    if places[-1] >= APART_BYTES_MIN * len(messages):
        return split(_library.apart(prefix, messages))
    return split(_library.many(prefix, b"".join(messages), places))


def hash_spans(prefix: bytes, data: bytes, places: array[int]) -> bytes:
    """Return the joined SHA-256(prefix || span) of the spans of some bytes.

    `places` (type code Q) says where each span begins, and where the last one ends.

    Raises:
        ValueError: the places are not within the data, one after the other.
    """
    if _library is None or len(places) <= MESSAGES_MIN:
        if any(start > end for start, end in pairwise(places)) or places[-1] > len(data):
            raise ValueError(ASTRAY)
        return b"".join(sha256(prefix + data[start:end]).digest() for start, end in pairwise(places))
    return _library.many(prefix, data, places)


def hash_pieces(prefix: bytes, data: bytes, size: int) -> bytes:
    """Return the joined SHA-256(prefix || piece) of the pieces of `size` bytes that the data consists of."""
    places = range(0, len(data) + 1, size)
    if _library is None or len(places) <= MESSAGES_MIN:
        return b"".join(sha256(prefix + data[at : at + size]).digest() for at in places[:-1])
    return _library.many(prefix, data, array("Q", places))


def split(joined: bytes) -> list[bytes]:
    """Return the digests that were joined."""
    return [joined[at : at + SIZE] for at in range(0, len(joined), SIZE)]


def lanes() -> int:
    """Return how many messages are hashed at once; 1 if hashlib does it."""
    return _library.lanes if _library is not None else 1


class Library:
    """The compiled functions; they release the interpreter lock while they run."""

    def __init__(self, path: str = LIBRARY) -> None:
        """Raise OSError or AttributeError if the library is not there or not of this version."""
        library = ctypes.CDLL(path)
        address, count = ctypes.c_void_p, ctypes.c_uint64
        self.lanes = int(library.salus_sha256_lanes())
        self._many, self._apart = (library[name] for name in FUNCTIONS)
        self._many.argtypes = [ctypes.c_char_p, count, ctypes.c_char_p, count, address, count, address]
        self._apart.argtypes = [ctypes.c_char_p, count, address, address, count, address]

    def many(self, prefix: bytes, data: bytes, places: array[int]) -> bytes:
        """Return the joined digests of spans; raises ValueError if they are not within the data."""
        count = len(places) - 1
        out = ctypes.create_string_buffer(SIZE * count)
        if self._many(prefix, len(prefix), data, len(data), places.buffer_info()[0], count, out):
            raise ValueError(ASTRAY)
        return out.raw

    def apart(self, prefix: bytes, messages: Sequence[bytes]) -> bytes:
        """Return the joined digests of messages where they lie."""
        count = len(messages)
        out = ctypes.create_string_buffer(SIZE * count)
        starts = (ctypes.c_char_p * count)(*messages)
        sizes = array("Q", map(len, messages))
        self._apart(prefix, len(prefix), starts, sizes.buffer_info()[0], count, out)
        return out.raw


def load(path: str = LIBRARY) -> Library | None:
    """Return the library; None if it is not there, not right, or of no use on this processor."""
    try:
        library = Library(path)
    except (OSError, AttributeError):
        return None
    return library if library.lanes > 1 and _is_right(library) else None


def _is_right(library: Library) -> bool:
    """Compare with hashlib: a library of another processor or version must not make a single hash."""
    messages = [bytes(range(256)) * 2] * 2 + [b"x" * size for size in range(130)]
    places = array("Q", accumulate(map(len, messages), initial=0))
    expected = b"".join(sha256(b"\x00" + message).digest() for message in messages)
    joined = library.many(b"\x00", b"".join(messages), places)
    return joined == expected == library.apart(b"\x00", messages)


_library = load()
