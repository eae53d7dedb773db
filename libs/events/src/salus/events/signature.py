"""Event signatures: one signature over the RFC 6962 root of a batch of values.

A single signature is a batch of one, so there is one format, one signer and one verifier. The signed
text has the shape of a C2SP checkpoint body (origin, size, root):

    salus.health/event-batch/v1
    64
    <base64 of the root>

and the Kafka header `salus-signature` is one line of ASCII:

    v1 <verification method> <index>/<size> <base64 signature>[ <base64 of the concatenated path>]
"""

from __future__ import annotations

from base64 import b64encode
from binascii import b2a_base64
from collections.abc import Sequence
from typing import Protocol

from salus.events.errors import Reason, RejectedError
from salus.ledger.errors import SignatureHeaderError
from salus.ledger.merkle import hashes_of, joined_paths, levels_of
from salus.ledger.signature_header import BATCH_SIZE_MAX, SignatureHeader, parse_signature_header

SIGNED_ORIGIN = b"salus.health/event-batch/v1"


class Signer(Protocol):
    """Holds a signing key; the key itself may live in a KMS."""

    @property
    def verification_method(self) -> str:
        """The DID URL under which verifiers find the public key."""

    @property
    def algorithm(self) -> str:
        """The JWS algorithm of the key: EdDSA, or ES256 of a P-256 key."""

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature over the message, by the rule of the key's kind."""


def signed_text(*, size: int, root: bytes, origin: bytes = SIGNED_ORIGIN) -> bytes:
    """Return the bytes that a batch signature signs; `origin` is what the values are signed as."""
    return origin + b"\n%d\n" % size + b64encode(root) + b"\n"


def sign_values(values: Sequence[bytes], signer: Signer, *, origin: bytes = SIGNED_ORIGIN) -> list[bytes]:
    """Return the signature header of each value; one signature is made for all of them.

    Values that are no events have an `origin` of their own, so that nobody can pass them off as such.

    Raises:
        ValueError: no value, or more than BATCH_SIZE_MAX.
    """
    size = len(values)
    if not 1 <= size <= BATCH_SIZE_MAX:
        raise ValueError(f"a batch holds 1 to {BATCH_SIZE_MAX} values, not {size}")
    levels = levels_of(hashes_of(values))
    before = b"v1 " + signer.verification_method.encode("ascii") + b" "
    after = b"/%d " % size + b64encode(signer.sign(signed_text(size=size, root=levels[-1][0], origin=origin)))
    if size == 1:
        return [before + b"0" + after]
    return [
        before + b"%d" % index + after + b" " + b2a_base64(path, newline=False)
        for index, path in enumerate(joined_paths(levels))
    ]


def parse_signature(header: bytes) -> SignatureHeader:
    """Parse a signature header.

    Raises:
        RejectedError: MALFORMED_SIGNATURE, if any byte is not as the grammar says.
    """
    try:
        return parse_signature_header(header)
    except SignatureHeaderError as error:
        raise RejectedError(Reason.MALFORMED_SIGNATURE, str(error)) from None
