"""Which signed batch each of many values belongs to, so that each batch's signature is verified once.

`native/signed_batches.c` walks the paths of many values together; without it each is walked by itself.
"""

from __future__ import annotations

import ctypes
from array import array
from base64 import b64decode
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

from salus.ledger.errors import SignatureHeaderError
from salus.ledger.hashing import LIBRARY, lanes
from salus.ledger.merkle import HASH_SIZE
from salus.ledger.signature_header import parse_signature_header

# The number changes with the arguments, as in `hashing`.
FUNCTION = "salus_signed_batches_1"

Many = Callable[[Sequence[bytes], Sequence[bytes]], list[bytes]]
"""(headers, leaf hashes) -> keys, as `batch_keys`."""


class SignedBatch(NamedTuple):
    """What a signature header states of a value: this key signed the tree of this size and root."""

    root: bytes
    verification_method: str
    size: int
    signature: bytes


def batch_keys(headers: Sequence[bytes], leaves: Sequence[bytes]) -> list[bytes]:
    """Return, for each signature header and the leaf hash of its value, what tells signed batches apart.

    Two values have the same key exactly if their headers state the same signature by the same verification
    method over the same tree. A malformed header has none: `b""`.
    """
    if _many is None:
        return [batch_key(header, leaf) for header, leaf in zip(headers, leaves, strict=True)]
    return _many(headers, leaves)


def batch_key(header: bytes, leaf: bytes) -> bytes:
    """Return the key of one value's batch; `b""` if the header is malformed."""
    try:
        root = parse_signature_header(header).root_over(leaf)
    except SignatureHeaderError:
        return b""
    _, method, place, signature = header.split(b" ")[:4]
    return root + b" ".join([method, place.rpartition(b"/")[2], signature])


def batch_of(key: bytes) -> SignedBatch:
    """Return what a key that is not empty says."""
    method, size, signature = key[HASH_SIZE:].split(b" ")
    return SignedBatch(key[:HASH_SIZE], method.decode("ascii"), int(size), b64decode(signature))


def load(path: str = LIBRARY) -> Many | None:
    """Return the library's function; None if it is not there, or of no use on this processor."""
    try:
        run = ctypes.CDLL(path)[FUNCTION]
    except (OSError, AttributeError):
        return None
    run.argtypes = [
        ctypes.c_char_p,
        ctypes.c_uint64,
        ctypes.c_void_p,
        ctypes.c_uint64,
        ctypes.c_char_p,
        ctypes.c_void_p,
        ctypes.c_void_p,
    ]

    def many(headers: Sequence[bytes], leaves: Sequence[bytes]) -> list[bytes]:
        if len(headers) != len(leaves) or set(map(len, leaves)) - {HASH_SIZE}:
            raise ValueError(f"{len(headers)} headers need as many hashes of {HASH_SIZE} bytes")
        places = array("Q", accumulate(map(len, headers), initial=0))
        ends = array("Q", bytes(8 * len(headers)))
        out = ctypes.create_string_buffer(places[-1] + HASH_SIZE * len(headers))
        # ctypes releases the interpreter lock during the call.
        run(
            b"".join(headers),
            places[-1],
            places.buffer_info()[0],
            len(headers),
            b"".join(leaves),
            out,
            ends.buffer_info()[0],
        )
        keys = ctypes.string_at(out, ends[-1] if ends else 0)
        return [keys[start:end] for start, end in pairwise([0, *ends])]

    return many if lanes() > 1 else None


_many = load()
