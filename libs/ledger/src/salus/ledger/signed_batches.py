"""Which signed batch each of many values belongs to, so that each batch's signature is verified once.

`native/signed_batches.c` walks the paths of many values together; without it each is walked by itself.
"""

from __future__ import annotations

import ctypes
from array import array
from base64 import b64decode
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

from salus.ledger.errors import SignatureHeaderError
from salus.ledger.hashing import LIBRARY, lanes
from salus.ledger.merkle import HASH_SIZE
from salus.ledger.records import Cells, unwritten
from salus.ledger.signature_header import parse_signature_header

# The number changes with the arguments, as in `hashing`.
FUNCTION = "salus_signed_batches_2"
MALFORMED = -1


class SignedBatch(NamedTuple):
    """What a signature header states of a value: this key signed the tree of this size and root."""

    root: bytes
    verification_method: str
    size: int
    signature: bytes


class Batches(NamedTuple):
    """Which batch each of many values belongs to.

    `numbers` (type code i) are places in `keys`, or `MALFORMED`. Two values are of the same batch exactly if
    their headers state the same signature by the same verification method over the same tree.
    """

    numbers: array[int]
    keys: list[bytes]


Many = Callable[[Cells, bytes], Batches]
"""(headers, leaf hashes) -> batches, as `batches_of`."""


def batches_of(headers: Cells, leaves: bytes) -> Batches:
    """Tell signed batches apart, given the signature header of each value and, joined, their leaf hashes.

    Raises:
        ValueError: not one leaf hash for each header.
    """
    if len(leaves) != HASH_SIZE * len(headers):
        raise ValueError(f"{len(headers)} headers need as many hashes of {HASH_SIZE} bytes")
    return _one_by_one(headers, leaves) if _many is None else _many(headers, leaves)


def _one_by_one(headers: Cells, leaves: bytes) -> Batches:
    numbers: dict[bytes, int] = {b"": MALFORMED}
    found = array("i")
    for row, header in enumerate(headers):
        key = batch_key(header or b"", leaves[HASH_SIZE * row : HASH_SIZE * (row + 1)])
        found.append(numbers.setdefault(key, len(numbers) - 1))
    return Batches(found, [*numbers][1:])


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
    address, count = ctypes.c_void_p, ctypes.c_uint64
    run.argtypes = [
        ctypes.c_char_p,
        count,
        address,
        count,
        ctypes.c_char_p,
        ctypes.c_char_p,
        address,
        address,
    ]
    run.restype = ctypes.c_int64

    def many(headers: Cells, leaves: bytes) -> Batches:
        keys = unwritten(len(headers.data) + HASH_SIZE * len(headers))
        ends, numbers = (array(code, bytes(size * len(headers))) for code, size in (("Q", 8), ("i", 4)))
        # ctypes releases the interpreter lock during the call.
        found = run(
            headers.data,
            len(headers.data),
            headers.places.buffer_info()[0],
            len(headers),
            leaves,
            keys,
            ends.buffer_info()[0],
            numbers.buffer_info()[0],
        )
        if found < 0:
            raise ValueError("headers whose places lead astray, or too many of them")
        return Batches(numbers, [keys[start:end] for start, end in pairwise([0, *ends[:found]])])

    return many if lanes() > 1 else None


_many = load()
