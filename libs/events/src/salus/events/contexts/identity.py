"""Who belongs to the network, and the partitions' assignment to shards: what the identity service states."""

from __future__ import annotations

from functools import partial
from hashlib import sha256
from typing import Annotated, Literal
from urllib.parse import unquote

import msgspec

from salus.events.event_types import Context, Retention
from salus.events.fields import Count, Did, KeyId, Moment, Multibase, RoleName, Text
from salus.events.requests import RequestedData

CONTEXT = Context("identity")
IDENTITY = CONTEXT.role("identity", "service", "states who belongs to the network")
_event = partial(
    CONTEXT.event, owner=IDENTITY, retention=Retention.NETWORK, subject_field="did", changes=True
)


class PublicKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A verification key: its DID URL, its multibase form and when it may sign."""

    id: KeyId
    multibase: Multibase
    valid_from: Moment
    valid_until: Moment | None = None


def _key_claims(key: PublicKey) -> tuple[str, str]:
    return f"key-id:{key.id}", f"key:{key.multibase}"


def _claims_of_party(data: PartyRegistered) -> tuple[str, ...]:
    # In a URL two DIDs that are equal once decoded are easily taken for one another: one of them registers.
    keys = (claim for key in data.keys for claim in _key_claims(key))
    # Hashed, for what is decoded may be text that no database takes, as a NUL.
    return (f"party:{sha256(unquote(data.did).encode()).hexdigest()}", *keys)


def _claims_of_key(data: KeyAdded) -> tuple[str, ...]:
    return _key_claims(data.key)


PartyKind = Literal["member", "service", "person", "device"]


@_event("salus.identity.party-registered.v1", claims=_claims_of_party)
class PartyRegistered(RequestedData):
    """A member, service, person or device belongs to the network and may sign with these keys.

    `name` is given for organisations and services only; people stay DIDs. `member` is the organisation
    that a person, device or service acts for.
    """

    did: Did
    kind: PartyKind
    keys: Annotated[tuple[PublicKey, ...], msgspec.Meta(min_length=1, max_length=16)]
    roles: Annotated[tuple[RoleName, ...], msgspec.Meta(max_length=16)] = ()
    member: Did | None = None
    name: Text | None = None


@_event("salus.identity.key-added.v1", claims=_claims_of_key)
class KeyAdded(RequestedData):
    """A party may also sign with this key."""

    did: Did
    key: PublicKey


@_event("salus.identity.key-revoked.v1")
class KeyRevoked(RequestedData):
    """A key no longer signs for its party; what it signs from now on is refused."""

    did: Did
    key_id: KeyId
    reason: Literal["rotated", "compromised", "left", "unspecified"]


@_event("salus.identity.role-granted.v1")
class RoleGranted(RequestedData):
    """A party holds this role."""

    did: Did
    role: RoleName


@_event("salus.identity.role-withdrawn.v1")
class RoleWithdrawn(RequestedData):
    """A party no longer holds this role."""

    did: Did
    role: RoleName


class AssignedTopic(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Partitions of one input topic."""

    topic: Text
    partitions: Annotated[tuple[Count, ...], msgspec.Meta(min_length=1, max_length=10_000)]


class AssignedShard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one shard seals; no topics: nothing any more."""

    id: Count
    topics: Annotated[tuple[AssignedTopic, ...], msgspec.Meta(max_length=1024)]


class AddedShard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A shard that is new: its id, its origin, and the C2SP verifier key that its headers begin with."""

    id: Count
    origin: Text
    verifier_key: Text


@_event("salus.identity.shards-assigned.v1", subject_field="network")
class ShardsAssigned(RequestedData):
    """From here on these shards seal these partitions; a partition that is not named stays where it is.

    `network` is the network's origin. `epoch` counts the assignments; the one of network.json is 0.
    """

    network: Text
    epoch: Count
    shards: Annotated[tuple[AssignedShard, ...], msgspec.Meta(min_length=1, max_length=1024)]
    added: Annotated[tuple[AddedShard, ...], msgspec.Meta(max_length=1024)] = ()
