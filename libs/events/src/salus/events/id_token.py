"""ID tokens (OpenID Connect Core): what a provider says of who logged in, so that it may be on the ledger.

Everybody reads it there, so it has claims of a closed list, none of which tells who somebody is to others: a
DID, pseudonyms, moments, levels. A provider that says more is to be configured to say less to this client.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Annotated, Any, Literal, NamedTuple, get_args

import msgspec
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

from salus.events.contexts.identity_login import (
    Base64Url,
    Issuer,
    JwsKeyName,
    OpenIdName,
    ProviderAlgorithm,
    ProviderKey,
)
from salus.events.fields import Did
from salus.events.jws import JwsError, compact_parts
from salus.ledger.json_reader import read_json

RSA_BITS = range(2048, 4097)
# As a member of a JWK has 65537; other exponents are of no use but in attacks.
_RSA_EXPONENT = "AQAB"
# Whoever's key it is by: no other text has the place of a signature.
_RSA_BYTES = range(RSA_BITS.start // 8, RSA_BITS.stop // 8 + 1)
_SIGNATURE_BYTES: Mapping[str, range] = {"RS256": _RSA_BYTES, "PS256": _RSA_BYTES, "ES256": range(64, 65)}
_CLAIM = re.compile(r"[a-z][a-z0-9_]{0,63}")
# No percent sign: with one a mail address would be of this form.
_Opaque = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._:~+=/-]+\Z", max_length=255)]
_Seconds = Annotated[int, msgspec.Meta(ge=0, le=2**36)]


class IdTokenError(Exception):
    """A text is no ID token that is taken: `code` is stable, and the message may be shown."""

    def __init__(self, code: str, why: str) -> None:
        super().__init__(why)
        self.code = code


class IdClaims(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The claims that an ID token may have, besides the one that has the DID."""

    iss: Issuer
    sub: _Opaque
    aud: OpenIdName | Annotated[tuple[OpenIdName, ...], msgspec.Meta(max_length=16)]
    iat: _Seconds
    exp: _Seconds
    nonce: Base64Url
    azp: OpenIdName | None = None
    nbf: _Seconds | None = None
    auth_time: _Seconds | None = None
    acr: OpenIdName | None = None
    amr: Annotated[tuple[OpenIdName, ...], msgspec.Meta(max_length=16)] | None = None
    jti: _Opaque | None = None
    sid: _Opaque | None = None
    session_state: _Opaque | None = None
    at_hash: Base64Url | None = None
    c_hash: Base64Url | None = None
    s_hash: Base64Url | None = None
    typ: Literal["ID"] | None = None


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    # `crit` is unknown here, as whatever else changes what the token means.
    alg: ProviderAlgorithm
    kid: JwsKeyName
    typ: Literal["JWT"] | None = None


class IdToken(NamedTuple):
    """An ID token that was read; nothing is verified yet."""

    text: str
    alg: str
    kid: str
    payload: dict[str, Any]


def read_id_token(text: str) -> IdToken:
    """Return what an ID token says.

    Raises:
        IdTokenError: `id-token-invalid`: no compact JWS, not strict JSON, or another header.
    """
    try:
        parts = compact_parts(text)
        header = msgspec.convert(read_json(parts.header), _Header)
        payload = read_json(parts.payload)
    except msgspec.ValidationError:
        named = ", ".join(get_args(ProviderAlgorithm))
        why = f"its header has alg ({named}), a plain kid, typ JWT or none, and nothing else: no crit, no key"
        raise IdTokenError("id-token-invalid", why) from None
    except (JwsError, ValueError):
        raise IdTokenError("id-token-invalid", "no compact JWS that is read in one way only") from None
    if not isinstance(payload, dict):
        raise IdTokenError("id-token-invalid", "its payload is no object")
    if len(parts.signature) not in _SIGNATURE_BYTES[header.alg]:
        raise IdTokenError("id-token-invalid", "its signature is not as long as one of its algorithm")
    return IdToken(text, header.alg, header.kid, payload)


def verify_id_token(token: IdToken, keys: Collection[ProviderKey]) -> None:
    """Raise IdTokenError unless the token is signed by one of the keys, with the algorithm of that key.

    The codes are `provider-key-unknown` and `id-token-invalid`.
    """
    key = next((key for key in keys if key.kid == token.kid), None)
    if key is None:
        why = "it is signed by a key that the network does not know of this provider: replace its keys"
        raise IdTokenError("provider-key-unknown", why)
    if token.alg != key.alg:
        raise IdTokenError("id-token-invalid", f"alg: that key of the provider signs with {key.alg} alone")
    try:
        jws.deserialize_compact(token.text, _loaded(key), algorithms=[key.alg])
    except (JoseError, ValueError):
        raise IdTokenError("id-token-invalid", "it is not signed by that key of the provider") from None


def claims_of(token: IdToken, *, did_claim: str) -> tuple[str, IdClaims]:
    """Return the DID and the other claims of a token whose signature was verified.

    Raises:
        IdTokenError: `personal-claims`: it has others; `id-token-invalid`: a claim is missing, or not of its
            kind.
    """
    others = {name: value for name, value in token.payload.items() if name != did_claim or name == "sub"}
    if excess := sorted(set(others) - set(IdClaims.__struct_fields__)):
        named = [name for name in excess if _CLAIM.fullmatch(name)]
        why = f"everybody would read them on the ledger: let the provider leave out {', '.join(named[:8])}"
        raise IdTokenError("personal-claims", why)
    try:
        return msgspec.convert(token.payload.get(did_claim), Did), msgspec.convert(others, IdClaims)
    except msgspec.ValidationError as error:
        # It names the claim and the kind, never the value.
        why = f"a claim is missing, or not of its kind: {error}"
        raise IdTokenError("id-token-invalid", why) from None


def is_claim_name(name: str) -> bool:
    """Tell whether a claim can be the one that has the DID, as `did_claim` of a provider names it."""
    try:
        msgspec.convert(name, OpenIdName)
    except msgspec.ValidationError:
        return False
    return True


def fault_of_key(key: ProviderKey) -> str | None:
    """Return what is wrong with a provider's key; None: nothing is."""
    is_rsa = key.alg in {"RS256", "PS256"}
    given = {name for name in ("n", "e", "x", "y") if getattr(key, name) is not None}
    if given != ({"n", "e"} if is_rsa else {"x", "y"}):
        return "n and e are of RS256 and PS256, x and y of ES256"
    if is_rsa and key.e != _RSA_EXPONENT:
        return "e: another exponent than 65537"
    try:
        # The library warns of a small key, and takes it.
        if is_rsa and int.from_bytes(urlsafe_b64decode(f"{key.n}==")).bit_length() not in RSA_BITS:
            return f"n: an RSA key has {RSA_BITS.start} to {RSA_BITS.stop - 1} bits"
        _loaded(key)
    except (JoseError, ValueError):
        return "it is no key of its kind"
    return None


# Loading an RSA key takes a millisecond, and a provider's people log in one after the other.
@lru_cache(maxsize=256)
def _loaded(key: ProviderKey) -> RSAKey | ECKey:
    if key.alg in {"RS256", "PS256"}:
        return RSAKey.import_key({"kty": "RSA", "n": key.n or "", "e": key.e or ""})
    return ECKey.import_key({"kty": "EC", "crv": "P-256", "x": key.x or "", "y": key.y or ""})
