"""What a party, its keys and its roles may be: supported DIDs, keys that are its own, roles that fit."""

from __future__ import annotations

import re
from collections.abc import Collection

from salus.events.catalogue import Catalogue
from salus.events.contexts.identity import PartyKind, PublicKey
from salus.events.did import key_of
from salus.events.rights import Objection

# Of one party at one time. Revoked ones do not count: else whoever stole one of its keys, or honest rotation,
# would leave it without a key for ever.
KEYS_MAX = 16

_HOST = (
    r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*(?:%3A[0-9]{1,5})?"
)
_DID_WEB = re.compile(rf"did:web:{_HOST}(?::[A-Za-z0-9._-]+)*")
_DID_KEY = re.compile(r"did:key:(z[1-9A-HJ-NP-Za-km-z]+)")


def objection_to_did(did: str) -> Objection | None:
    """Return an objection unless the DID is a well-formed did:web, or a did:key of an Ed25519 or P-256 key.

    The codes are `unsupported-did-method` and `invalid-key`.
    """
    match = _DID_KEY.fullmatch(did)
    if match is not None:
        return _objection_to_multibase(match[1])
    return None if _DID_WEB.fullmatch(did) else Objection("unsupported-did-method", _why_unsupported(did))


def objection_to_key_of(did: str, key: PublicKey) -> Objection | None:
    """Return `key-not-of-did` or `invalid-key` unless a party may have this key."""
    owner, _, fragment = key.id.partition("#")
    if owner != did or not fragment:
        return Objection("key-not-of-did", "a key's id is the party's own DID, # and a name")
    if key.valid_until is not None and key.valid_until <= key.valid_from:
        return Objection("invalid-key", "the key's validity ends before it begins")
    return _objection_to_multibase(key.multibase)


def objection_to_key_number(number: int) -> Objection | None:
    """Return `too-many-keys` unless a party may have so many keys that are not revoked."""
    if 1 <= number <= KEYS_MAX:
        return None
    why = f"a party has 1 to {KEYS_MAX} keys that are not revoked: revoke one that is not needed any more"
    return Objection("too-many-keys", why)


def objection_to_unbound(did: str, keys: Collection[PublicKey]) -> Objection | None:
    """Return `key-not-of-did` unless a did:key registers with the very key that it names.

    Further keys of a did:key are the network's own knowledge: generic resolvers see the first one only.
    """
    match = _DID_KEY.fullmatch(did)
    if match is None or any(k.id == f"{did}#{match[1]}" and k.multibase == match[1] for k in keys):
        return None
    return Objection("key-not-of-did", "a did:key registers with the key that it names")


def objection_to_roles(roles: Collection[str], kind: PartyKind, *, catalogue: Catalogue) -> Objection | None:
    """Return why this kind of party cannot hold one of these roles: `unknown-role` or `role-not-for-kind`."""
    unfit = sorted(set(roles) - catalogue.roles_of(kind))
    if not unfit:
        return None
    if unfit[0] not in {role.name for role in catalogue.roles()}:
        return Objection("unknown-role", "the network knows no role of that name")
    return Objection("role-not-for-kind", f"a {kind} cannot hold the role {unfit[0]}")


def _why_unsupported(did: str) -> str:
    host = did.removeprefix("did:web:").partition(":")[0]
    canonical = did.replace(host, host.lower().replace("%3a", "%3A"), 1)
    if did.startswith("did:web:") and canonical != did and _DID_WEB.fullmatch(canonical):
        return "write the host in lower case, and the colon before a port as %3A"
    return "the DID is neither a did:web nor a did:key"


def _objection_to_multibase(multibase: str) -> Objection | None:
    try:
        key_of(multibase)
    except ValueError:
        return Objection("invalid-key", "not the multibase form of an Ed25519 or P-256 public key")
    return None
