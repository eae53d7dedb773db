"""A party as a W3C DID document (DID Core 1.0), with Multikey verification methods."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from salus.events.rights import KINDS_OF_MEMBER
from salus.identity.domain import PartyState
from salus.identity.held_keys import HeldKey

JSON_LD = "application/did+ld+json"
JSON = "application/did+json"
# What resolvers ask for; the first is what they get who ask for nothing.
MEDIA_TYPES = (JSON_LD, JSON, "application/ld+json", "application/json")
CONTEXTS = ("https://www.w3.org/ns/did/v1", "https://w3id.org/security/multikey/v1")


def render(
    party: PartyState, *, at: datetime, is_barred: bool = False, form: str = JSON_LD
) -> dict[str, Any]:
    """Return the DID document with the keys that may sign at that moment, in the form of a media type.

    Revoked and expired keys are left out, so that a resolver that knows nothing of revocation is safe, and
    so are all of a party that is barred, as its member is suspended or expelled. A party without any such key
    gets a document without verification methods. `@context` belongs to JSON-LD (DID Core 1.0, section 6.3),
    and the form that is JSON alone has none.
    """
    active = [key for key in party.keys if key.may_sign(at) and key.valid_from <= at and not is_barred]
    ids = [key.id for key in active]
    relations = {"authentication": ids, "assertionMethod": ids} if ids else {}
    methods = {"verificationMethod": [_method(party.did, key) for key in active]} if active else {}
    controller = {"controller": party.member} if party.member and party.kind in KINDS_OF_MEMBER else {}
    contexts = {} if form == JSON else {"@context": list(CONTEXTS)}
    return {**contexts, "id": party.did, **controller, **methods, **relations}


def _method(did: str, key: HeldKey) -> dict[str, Any]:
    method = {"id": key.id, "type": "Multikey", "controller": did, "publicKeyMultibase": key.multibase}
    if key.valid_until is not None:
        expires = key.valid_until.astimezone(UTC).replace(microsecond=0, tzinfo=None)
        method["expires"] = expires.isoformat() + "Z"
    return method
