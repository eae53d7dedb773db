"""Event signatures: one Ed25519 signature over the RFC 6962 root of a batch of values.

A single signature is a batch of one, so there is one format, one signer and one verifier. The signed
text has the shape of a C2SP checkpoint body (origin, size, root):

    salus.health/event-batch/v1
    64
    <base64 of the root>

and the Kafka header `salus-signature` is one line of ASCII:

    v1 <verification method> <index>/<size> <base64 signature>[ <base64 of the concatenated path>]
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from binascii import Error as BinasciiError
from binascii import b2a_base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from salus.events.errors import Reason, RejectedError
from salus.ledger.merkle import HASH_SIZE, hashes_of, joined_paths, levels_of, root_from_path

SIGNATURE_HEADER = "salus-signature"
SIGNED_ORIGIN = b"salus.health/event-batch/v1"
BATCH_SIZE_MAX = 1024
HEADER_BYTES_MAX = 1024
_INDICES = {b"%d" % index: index for index in range(BATCH_SIZE_MAX)}
HEADER_PATTERN = (
    r"v1 (did:[a-z0-9]+:[A-Za-z0-9._:%-]+#[A-Za-z0-9._:%-]+) "
    r"(0|[1-9][0-9]{0,3})/([1-9][0-9]{0,3}) ([A-Za-z0-9+/]{86}==)(?: ([A-Za-z0-9+/]+={0,2}))?"
)
_HEADER = re.compile(HEADER_PATTERN.encode("ascii"))


class Signer(Protocol):
    """Holds a signing key; the key itself may live in a KMS."""

    @property
    def verification_method(self) -> str:
        """The DID URL under which verifiers find the public key."""

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte Ed25519 signature over the message."""


@dataclass(frozen=True, slots=True)
class EventSignature:
    """The parsed header: whose key, the signature, and where the value stands in the signed batch."""

    verification_method: str
    index: int
    size: int
    signature: bytes
    path: tuple[bytes, ...]


def signed_text(*, size: int, root: bytes) -> bytes:
    """Return the bytes that a batch signature signs."""
    return SIGNED_ORIGIN + b"\n%d\n" % size + b64encode(root) + b"\n"


def sign_values(values: Sequence[bytes], signer: Signer) -> list[bytes]:
    """Return the signature header of each value; one signature is made for all of them.

    Raises:
        ValueError: no value, or more than BATCH_SIZE_MAX.
    """
    size = len(values)
    if not 1 <= size <= BATCH_SIZE_MAX:
        raise ValueError(f"a batch holds 1 to {BATCH_SIZE_MAX} values, not {size}")
    levels = levels_of(hashes_of(values))
    signature = signer.sign(signed_text(size=size, root=levels[-1][0]))
    return headers_over(levels, method=signer.verification_method, signature=signature)


def headers_over(levels: Sequence[Sequence[bytes]], *, method: str, signature: bytes) -> list[bytes]:
    """Return the headers of the values whose leaf hashes are `levels[0]`, under a signature of the root."""
    size = len(levels[0])
    before, after = b"v1 " + method.encode("ascii") + b" ", b"/%d " % size + b64encode(signature)
    if size == 1:
        return [before + b"0" + after]
    after += b" "
    return [
        before + b"%d" % index + after + b2a_base64(path, newline=False)
        for index, path in enumerate(joined_paths(levels))
    ]


def place_of(header: bytes) -> tuple[tuple[bytes, bytes, bytes], int] | None:
    """Return what tells signed batches apart, and the index in it, without checking anything else."""
    parts = header.split(b" ", 4)
    if len(parts) < 4:
        return None
    index, _, size = parts[2].partition(b"/")
    number = _INDICES.get(index)
    return None if number is None else ((parts[1], size, parts[3]), number)


def parse_signature(header: bytes) -> EventSignature:
    """Parse a signature header.

    Raises:
        RejectedError: MALFORMED_SIGNATURE, if any byte is not as the grammar says.
    """
    match = _HEADER.fullmatch(header) if len(header) <= HEADER_BYTES_MAX else None
    if match is None:
        raise RejectedError(Reason.MALFORMED_SIGNATURE, "not of the form 'v1 METHOD I/N SIGNATURE [PATH]'")
    method, index, size, signature, path = match.groups()
    try:
        hashes = b64decode(path or b"", validate=True)
        raw = b64decode(signature, validate=True)
    except BinasciiError:
        raise RejectedError(Reason.MALFORMED_SIGNATURE, "not base64") from None
    if b64encode(raw) != signature or b64encode(hashes) != (path or b""):
        raise RejectedError(Reason.MALFORMED_SIGNATURE, "not canonical base64")
    if int(size) > BATCH_SIZE_MAX or int(index) >= int(size):
        raise RejectedError(Reason.MALFORMED_SIGNATURE, "index or size is out of bounds")
    if len(hashes) != HASH_SIZE * path_length(index=int(index), size=int(size)):
        raise RejectedError(Reason.MALFORMED_SIGNATURE, "the path does not fit index and size")
    return EventSignature(
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


def text_to_verify(signature: EventSignature, *, digest: bytes) -> bytes:
    """Return the text that `signature` must be valid over, for a value with this RFC 6962 leaf hash."""
    root = root_from_path(leaf=digest, index=signature.index, tree_size=signature.size, path=signature.path)
    return signed_text(size=signature.size, root=root)
