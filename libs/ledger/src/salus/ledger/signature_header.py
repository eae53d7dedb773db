"""The `salus-signature` header of a record: who signed a batch, and the way from a value to what was signed.

    v1 <verification method> <index>/<size> <base64 signature>[ <base64 of the concatenated path>]

Source: docs/ledger-format.md, section 1. Nothing is verified here but the form.
"""

from __future__ import annotations

import re
from base64 import b64encode
from binascii import Error as BinasciiError
from binascii import a2b_base64
from dataclasses import dataclass

from salus.ledger.errors import SignatureHeaderError
from salus.ledger.merkle import HASH_SIZE, root_from_path

BATCH_SIZE_MAX = 1024
HEADER_BYTES_MAX = 1024
HEADER_PATTERN = (
    r"v1 (did:[a-z0-9]+:[A-Za-z0-9._:%-]+#[A-Za-z0-9._:%-]+) "
    r"(0|[1-9][0-9]{0,3})/([1-9][0-9]{0,3}) ([A-Za-z0-9+/]{86}==)(?: ([A-Za-z0-9+/]+={0,2}))?"
)
_HEADER = re.compile(HEADER_PATTERN.encode("ascii"))


@dataclass(frozen=True, slots=True)
class SignatureHeader:
    """The parsed header: whose key, the signature, and where the value stands in the signed batch."""

    verification_method: str
    index: int
    size: int
    signature: bytes
    path: tuple[bytes, ...]

    def root_over(self, leaf: bytes) -> bytes:
        """Return the root that the path leads to from a value's leaf hash."""
        return root_from_path(leaf=leaf, index=self.index, tree_size=self.size, path=self.path)


def parse_signature_header(header: bytes) -> SignatureHeader:
    """Parse a signature header.

    Raises:
        SignatureHeaderError: if any byte is not as the grammar says.
    """
    match = _HEADER.fullmatch(header) if len(header) <= HEADER_BYTES_MAX else None
    if match is None:
        raise SignatureHeaderError("not of the form 'v1 METHOD I/N SIGNATURE [PATH]'")
    method, index, size, signature, path = match.groups()
    hashes, raw = _base64(path or b""), _base64(signature)
    if int(size) > BATCH_SIZE_MAX or int(index) >= int(size):
        raise SignatureHeaderError("index or size is out of bounds")
    if len(hashes) != HASH_SIZE * path_length(index=int(index), size=int(size)):
        raise SignatureHeaderError("the path does not fit index and size")
    return SignatureHeader(
        verification_method=method.decode("ascii"),
        index=int(index),
        size=int(size),
        signature=raw,
        path=tuple(hashes[i : i + HASH_SIZE] for i in range(0, len(hashes), HASH_SIZE)),
    )


def path_length(*, index: int, size: int) -> int:
    """Return how many hashes lead from a leaf to the root: one for each level that has a sibling."""
    length, last = 0, size - 1
    while last:
        length += index & 1 or index < last
        index, last = index >> 1, last >> 1
    return length


def _base64(text: bytes) -> bytes:
    try:
        raw = a2b_base64(text, strict_mode=True)
    except BinasciiError:
        raise SignatureHeaderError("not base64") from None
    if b64encode(raw) != text:
        raise SignatureHeaderError("not canonical base64")
    return raw
