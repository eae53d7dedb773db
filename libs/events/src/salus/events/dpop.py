"""DPoP proofs (RFC 9449): whoever sends a request holds the key that it names. Here of Ed25519 keys alone."""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import sha256
from typing import Annotated, Literal, NamedTuple

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from salus.events.bearer import TokenId
from salus.events.ed25519 import verifies
from salus.events.jws import JwsError, compact_parts
from salus.ledger.ed25519 import public_key_of
from salus.ledger.json_reader import read_json

PROOF_TYPE = "dpop+jwt"
PROOF_CHARS_MAX = 2048
PROOF_S_MAX = 60
"""A proof is taken for so long after `iat`."""


# Without query, fragment and account; the group is the path.
_URL = r"^https?://(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?((?:/[A-Za-z0-9._~-]*)*)\Z"
_read_url = re.compile(_URL).match


class DpopError(Exception):
    """A text proves no key; the message may be shown."""


class DpopProof(NamedTuple):
    """A proof whose signature is by the key that it names. `target` is the path of its `htu`."""

    key: Ed25519PublicKey
    method: str
    target: str
    issued: int


class _Jwk(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A public key and nothing else: neither words for all to read nor, by a slip, a private one."""

    kty: Literal["OKP"]
    crv: Literal["Ed25519"]
    x: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{43}\Z")]


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    typ: Literal["dpop+jwt"]
    alg: Literal["EdDSA", "Ed25519"]
    jwk: _Jwk


class _Claims(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    jti: TokenId
    htm: Annotated[str, msgspec.Meta(pattern=r"^[A-Z]{1,16}\Z")]
    htu: Annotated[str, msgspec.Meta(pattern=_URL, max_length=256)]
    iat: Annotated[int, msgspec.Meta(ge=0, le=2**36)]


def thumbprint_of(key: Ed25519PublicKey) -> str:
    """Return the thumbprint (RFC 7638, RFC 8037 appendix A.3) of a key, as `jkt` has it."""
    canonical = f'{{"crv":"Ed25519","kty":"OKP","x":"{base64url(key.public_bytes_raw())}"}}'
    return base64url(sha256(canonical.encode("ascii")).digest())


def base64url(data: bytes) -> str:
    """Return bytes in base64url without padding."""
    return urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def read_proof(text: str) -> DpopProof:
    """Return what a proof says, once its signature is verified by the key in it; its time is not looked at.

    Raises:
        DpopError: it is none, is not signed by that key, or has more in it than a proof.
    """
    if len(text) > PROOF_CHARS_MAX:
        raise DpopError("the proof is too long")
    try:
        header_part, payload, signing_input, signature = compact_parts(text)
        header = msgspec.convert(read_json(header_part), _Header)
        claims = msgspec.convert(read_json(payload), _Claims)
        key = public_key_of(urlsafe_b64decode(header.jwk.x + "="))
    except msgspec.ValidationError as error:
        raise DpopError(f"not a DPoP proof of an Ed25519 key, and nothing else: {error}") from None
    except (JwsError, ValueError):
        raise DpopError("not a compact JWS that is read in one way only") from None
    if base64url(key.public_bytes_raw()) != header.jwk.x:
        raise DpopError("x of the key is not written in the one way of base64url")
    if not verifies(key.public_bytes_raw(), signature, signing_input):
        raise DpopError("the proof is not signed by the key in it")
    url = _read_url(claims.htu)
    return DpopProof(key, claims.htm, "" if url is None else url[1], claims.iat)
