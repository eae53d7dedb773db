"""Compact JSON Web Signatures (RFC 7515) with Ed25519 (RFC 8037): the one form of our bearers and tokens."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from functools import lru_cache
from typing import Any

import msgspec

from salus.ledger.json_reader import read_json

ALGORITHM = "EdDSA"
# A proof in an event has at most as many; whoever reads a kind of token may allow less.
JWS_CHARS_MAX = 8192


class JwsError(Exception):
    """A text is not a compact JWS as this module reads it; the message says why, without its content."""


class Jws(msgspec.Struct, frozen=True):
    """A JWS that was taken apart; nothing is verified yet. `kid` and `typ` are of the protected header."""

    kid: str
    typ: str | None
    payload: dict[str, Any]
    signing_input: bytes
    signature: bytes


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    alg: str
    kid: str
    typ: str | None = None
    # RFC 7515 section 4.1.11: whoever does not understand what is critical refuses. We understand nothing.
    crit: list[str] | None = None


def parse_jws(text: str) -> Jws:
    """Take a compact JWS apart.

    Raises:
        JwsError: not three parts of unpadded base64url, not JSON, another algorithm, no `kid`, a header
            with more than `alg`, `kid` and `typ`, or more than JWS_CHARS_MAX characters.
    """
    if len(text) > JWS_CHARS_MAX:
        raise JwsError("it is too long")
    parts = text.split(".")
    if len(parts) != 3:
        raise JwsError("it is not a compact JWS")
    try:
        read = _header_of(parts[0])
        payload, signature = map(_decoded, parts[1:])
        claims = read_json(payload)
    except ValueError:
        raise JwsError("it is not a compact JWS") from None
    if read.alg != ALGORITHM or read.crit is not None:
        raise JwsError(f"its alg is not {ALGORITHM}, or it has crit")
    if not isinstance(claims, dict):
        raise JwsError("its payload is not an object")
    signing_input = ".".join(parts[:2]).encode("ascii")
    return Jws(read.kid, read.typ, claims, signing_input, signature)


# One key writes the same header each time.
@lru_cache(maxsize=4096)
def _header_of(part: str) -> _Header:
    return msgspec.convert(read_json(_decoded(part)), _Header)


def _decoded(part: str) -> bytes:
    raw = part.encode("ascii")
    decoded = urlsafe_b64decode(raw + b"=" * (-len(raw) % 4))
    # One text a value: no padding, no foreign characters, no loose bits.
    if urlsafe_b64encode(decoded).rstrip(b"=") != raw:
        raise ValueError("not base64url")
    return decoded
