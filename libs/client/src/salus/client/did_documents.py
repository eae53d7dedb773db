"""DID documents of others: which keys a DID's own document names for it (DID Core 1.0)."""

from __future__ import annotations

import string
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicNumbers

from salus.client.errors import DidError
from salus.events.did import key_of
from salus.events.verification_keys import KeyKind, VerificationKey
from salus.ledger.json_reader import JsonError, read_json

# A document names keys of a few devices; one with more is no document of a party.
METHODS_MAX = 64
# What a party signs with: its statements, and its requests.
_RELATIONS = ("assertionMethod", "authentication")
_BASE64URL = frozenset(string.ascii_letters + string.digits + "-_")


@dataclass(frozen=True, slots=True)
class DidDocument:
    """What a DID's document says of its keys: `keys` has by id those that the DID signs with.

    Of a kind that is not known here, or in a form that is not, a key is left out: nothing is guessed.
    """

    did: str
    keys: Mapping[str, VerificationKey]

    def names(self, key_id: str, multibase: str) -> bool:
        """Tell whether the document has this very key under this id; raises ValueError if it is no key."""
        return self.keys.get(key_id) == key_of(multibase)


def read_did_document(did: str, document: bytes) -> DidDocument:
    """Return what the document that was found for a DID says.

    Raises:
        DidError: `did-document-invalid`, it is no DID document, or says two things; `did-mismatch`, it is one
            of another DID.
    """
    try:
        found = read_json(document)
    except JsonError as error:
        raise DidError(
            "did-document-invalid", f"its document is no JSON as we read it: {error.why}"
        ) from None
    if not isinstance(found, dict):
        raise DidError("did-document-invalid", "its document is no object")
    if found.get("id") != did:
        raise DidError("did-mismatch", "its document is of another DID")
    methods: dict[str, Any] = {}
    for method in _methods_in(found):
        key_id = _absolute(did, method["id"])
        if methods.setdefault(key_id, method) != method:
            raise DidError("did-document-invalid", "its document has two methods of one id")
    used = {key_id for relation in _RELATIONS for key_id in _named(did, found.get(relation))}
    keys = {key_id: _key(did, key_id, method) for key_id, method in methods.items() if key_id in used}
    return DidDocument(did, {key_id: key for key_id, key in keys.items() if key is not None})


def _methods_in(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the methods of a document, those that a relation embeds as well."""
    for place in ("verificationMethod", *_RELATIONS):
        listed = document.get(place, [])
        if not isinstance(listed, list) or len(listed) > METHODS_MAX:
            why = f"its document has a {place} that is no list, or one of more than {METHODS_MAX}"
            raise DidError("did-document-invalid", why)
        for method in listed:
            if isinstance(method, dict) and isinstance(method.get("id"), str):
                yield method


def _named(did: str, relation: Any) -> Iterator[str]:
    for method in relation or ():
        named = method.get("id") if isinstance(method, dict) else method
        if isinstance(named, str):
            yield _absolute(did, named)


def _absolute(did: str, key_id: str) -> str:
    return did + key_id if key_id.startswith("#") else key_id


def _key(did: str, key_id: str, method: dict[str, Any]) -> VerificationKey | None:
    """Return the key of a method; None if it is no key of this DID, or none that is known here."""
    if method.get("controller") != did or key_id.partition("#")[0] != did:
        return None
    try:
        match method:
            case {"publicKeyMultibase": str(), "publicKeyJwk": _}:
                return None
            case {"publicKeyMultibase": str(multibase)}:
                return key_of(multibase)
            case {"publicKeyJwk": dict(jwk)}:
                return _key_of_jwk(jwk)
    except ValueError:
        return None
    return None


def _key_of_jwk(jwk: dict[str, Any]) -> VerificationKey:
    """Return the key of a JWK (RFC 7517, RFC 8037); raises ValueError."""
    if "d" in jwk:
        raise ValueError("a private key")
    match jwk:
        case {"kty": "OKP", "crv": "Ed25519", "x": str(x)}:
            return VerificationKey.of_raw(KeyKind.ED25519, _bytes_of(x))
        case {"kty": "EC", "crv": "P-256", "x": str(x), "y": str(y)}:
            point = EllipticCurvePublicNumbers(
                int.from_bytes(_bytes_of(x)), int.from_bytes(_bytes_of(y)), SECP256R1()
            )
            return VerificationKey.of(point.public_key())
    raise ValueError("a key of a kind that is not known")


def _bytes_of(text: str) -> bytes:
    """Return the 32 bytes of a member of a JWK, in their one spelling; raises ValueError."""
    value = urlsafe_b64decode(text + "=" * (-len(text) % 4)) if _BASE64URL.issuperset(text) else b""
    if len(value) != 32 or urlsafe_b64encode(value).rstrip(b"=").decode() != text:
        raise ValueError("not 32 bytes in base64url")
    return value
