"""Compact JSON Web Signatures (RFC 7515) by the keys of parties: the one form of our bearers and tokens.

The algorithm follows from the key (`salus.events.verification_keys`): `EdDSA` (RFC 8037) or `ES256`. Whoever
verifies compares what the header says with the key's kind, so no token chooses how it is verified.
"""

from __future__ import annotations

from binascii import a2b_base64, b2a_base64
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from salus.events.verification_keys import ALGORITHMS
from salus.ledger.json_reader import read_json

_ALGORITHMS = frozenset(ALGORITHMS.values())
# A proof in an event has at most as many; whoever reads a kind of token may allow less.
JWS_CHARS_MAX = 8192
# base64url as base64; what base64 has in their place is foreign to it.
_TO_STANDARD = bytes.maketrans(b"-_+/", b"+/!!")


class JwsError(Exception):
    """A text is not a compact JWS as this module reads it; the message says why, without its content."""


class Jws(msgspec.Struct, frozen=True):
    """A JWS that was taken apart; nothing is verified yet. `kid`, `typ` and `algorithm` are of the header."""

    kid: str
    typ: str | None
    payload: dict[str, Any]
    signing_input: bytes
    signature: bytes
    algorithm: str


class Parts(NamedTuple):
    """The parts of a compact JWS, of which the header alone was read: the payload may be anything."""

    header: _Header
    payload: bytes
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
    header, payload, signing_input, signature = split_jws(text)
    try:
        claims = read_json(payload)
    except ValueError:
        raise JwsError("it is not a compact JWS") from None
    require_known(header)
    if not isinstance(claims, dict):
        raise JwsError("its payload is not an object")
    return Jws(header.kid, header.typ, claims, signing_input, signature, header.alg)


def split_jws(text: str) -> Parts:
    """Take a compact JWS apart for who reads its payload; `require_known` is to be called then.

    Raises:
        JwsError: not three parts of unpadded base64url, the first of them a header, or too many characters.
    """
    parts = _split(text)
    try:
        header = header_of(parts[0])
        payload, signature = _decoded(parts[1]), _decoded(parts[2])
    except ValueError:
        raise JwsError("it is not a compact JWS") from None
    return Parts(header, payload, text[: text.rindex(".")].encode("ascii"), signature)


class RawParts(NamedTuple):
    """The parts of a compact JWS of others, whose header is not as ours; nothing of them was looked at."""

    header: bytes
    payload: bytes
    signing_input: bytes
    signature: bytes


def compact_parts(text: str) -> RawParts:
    """Take a compact JWS of others apart.

    Raises:
        JwsError: not three parts of unpadded base64url, or too many characters.
    """
    parts = _split(text)
    try:
        header, payload, signature = map(_decoded, parts)
    except ValueError:
        raise JwsError("it is not a compact JWS") from None
    return RawParts(header, payload, text[: text.rindex(".")].encode("ascii"), signature)


def _split(text: str) -> list[str]:
    if len(text) > JWS_CHARS_MAX:
        raise JwsError("it is too long")
    parts = text.split(".")
    if len(parts) != 3:
        raise JwsError("it is not a compact JWS")
    return parts


def require_known(header: _Header) -> None:
    """Raise JwsError unless the header says nothing but what this module understands."""
    if header.alg not in _ALGORITHMS or header.crit is not None:
        raise JwsError(f"its alg is none of {', '.join(sorted(_ALGORITHMS))}, or it has crit")


# One key writes the same header each time.
@lru_cache(maxsize=4096)
def header_of(part: str) -> _Header:
    """Return the header that the first part of a JWS is; raises ValueError."""
    return msgspec.convert(read_json(_decoded(part)), _Header)


def _decoded(part: str) -> bytes:
    plain = part.encode("ascii").translate(_TO_STANDARD)
    decoded = a2b_base64(plain + b"==="[: -len(plain) % 4])
    # One text a value: no padding, no foreign characters, no loose bits.
    if b2a_base64(decoded, newline=False).rstrip(b"=") != plain:
        raise ValueError("not base64url")
    return decoded
