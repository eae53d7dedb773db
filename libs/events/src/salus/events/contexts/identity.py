"""Who belongs to the network, and the partitions' assignment to shards: what the identity service states."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from hashlib import sha256
from typing import Annotated, Any, Literal
from urllib.parse import unquote

import msgspec

from salus.events.context import Context
from salus.events.event_types import Retention, schema_file
from salus.events.fields import Count, Did, KeyId, Moment, Multibase, RoleName, Text, TypeName
from salus.events.requests import BODY_CHARS_MAX, Request, RequestedData
from salus.events.signed_request import Asked, Body, read_body

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


def key_claim(multibase: str) -> str:
    """Return the name that whoever has a public key claims: it is one party's, for ever."""
    return f"key:{multibase}"


def party_claim(did: str) -> str:
    """Return the name that a party claims by its DID.

    In a URL two DIDs that are equal once decoded are easily taken for one another: one of them registers.
    """
    # Hashed, for what is decoded may be text that no database takes, as a NUL.
    return f"party:{sha256(unquote(did).encode()).hexdigest()}"


def key_claims(key: PublicKey) -> tuple[str, str]:
    """Return the names that a key claims when it joins: its id and itself."""
    return f"key-id:{key.id}", key_claim(key.multibase)


def _claims_of_party(data: PartyRegistered) -> tuple[str, ...]:
    return (party_claim(data.did), *(claim for key in data.keys for claim in key_claims(key)))


def _claims_of_key(data: KeyAdded) -> tuple[str, ...]:
    return key_claims(data.key)


PartyKind = Literal["member", "service", "person", "device"]


@_event("salus.identity.party-registered.v1", claims=_claims_of_party, unasked=True)
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


# A revocation before it could say since when a key was in other hands.
_WITHOUT_SINCE = (
    "urn:salus:schema:salus.identity.key-revoked.v1:sha256:"
    "ea01b5cf09efff53ee744a8314613740be956777c19ea3bd5cbb5be66046a0d2"
)


@_event("salus.identity.key-revoked.v1", older_dataschemas=frozenset({_WITHOUT_SINCE}))
class KeyRevoked(RequestedData):
    """A key no longer signs for its party; what it signs from now on is refused.

    `since` is when it came into other hands: what was signed with it from then on stays, and is in doubt. A
    key that is revoked is revoked again if that turns out to have been earlier.
    """

    did: Did
    key_id: KeyId
    reason: Literal["rotated", "compromised", "left", "unspecified"]
    since: Moment | None = None


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


SuspensionReason = Literal["key-compromised", "security-incident", "rule-breach", "inquiry", "own-request"]
ReinstatementReason = Literal["resolved", "unfounded", "own-request"]
ExpulsionReason = Literal["left", "merged", "dissolved", "rule-breach", "security-incident"]


@_event("salus.identity.member-suspended.v1")
class MemberSuspended(RequestedData):
    """A member, its people and its devices may state and ask for nothing from now on.

    What they stated before stays as it was. Its people who are patients may still act as such.
    """

    did: Did
    reason: SuspensionReason


@_event("salus.identity.member-reinstated.v1")
class MemberReinstated(RequestedData):
    """A suspended member, its people and its devices have the keys and roles again that they have now."""

    did: Did
    reason: ReinstatementReason


@_event("salus.identity.member-expelled.v1")
class MemberExpelled(RequestedData):
    """A suspended member belongs to the network no more, and never will under this DID."""

    did: Did
    reason: ExpulsionReason


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


_type_event = partial(
    CONTEXT.event, owner=IDENTITY, retention=Retention.NETWORK, subject_field="type", changes=True
)


@_type_event("salus.identity.event-type-proposed.v1")
class EventTypeProposed(RequestedData):
    """A member would like its events of this type to be on the ledger.

    `schema` is the file of the JSON Schema whose digest will be in `dataschema` of such events.
    """

    type: TypeName
    member: Did
    schema: Annotated[str, msgspec.Meta(min_length=1, max_length=65_536)]


@_type_event("salus.identity.event-type-activated.v1")
class EventTypeActivated(RequestedData):
    """Events of this type are taken from now on, if they are as this schema says, which was proposed."""

    type: TypeName
    dataschema: Text


@_type_event("salus.identity.event-type-withdrawn.v1")
class EventTypeWithdrawn(RequestedData):
    """Events of this type are not taken from now on, and what was proposed for it is gone."""

    type: TypeName


# --- which request asks for which event -------------------------------------------------------------

# Of a body of so many bytes no more is filled by numbers of real partitions, with the names of their topics.
PARTITIONS_MAX = 65_536
_SMALL, _KEY, _KEYS = 1024, 8 * 1024, 128 * 1024
CONTEXT.form("POST", "parties", body_bytes_max=_KEYS)
CONTEXT.form("POST", "parties", None, "keys", body_bytes_max=_KEY)
CONTEXT.form("POST", "parties", None, "keys", "revoke", body_bytes_max=_SMALL)
CONTEXT.form("POST", "parties", None, "roles", body_bytes_max=_KEY)
CONTEXT.form("DELETE", "parties", None, "roles", None, body_bytes_max=0)
CONTEXT.form("POST", "parties", None, "suspend", body_bytes_max=_SMALL)
CONTEXT.form("POST", "parties", None, "reinstate", body_bytes_max=_SMALL)
CONTEXT.form("POST", "parties", None, "expel", body_bytes_max=_SMALL)
CONTEXT.form("POST", "event-types", body_bytes_max=_KEYS, values_max=16_384)
CONTEXT.form("POST", "event-types", None, "activate", body_bytes_max=_SMALL)
CONTEXT.form("POST", "event-types", None, "withdraw", body_bytes_max=0)
CONTEXT.form("POST", "shards", body_bytes_max=BODY_CHARS_MAX, values_max=PARTITIONS_MAX)


class _PublicKey(Body):
    """A key with the proof that its holder wants it registered, which the contract verifies."""

    id: str
    multibase: str
    valid_from: datetime
    valid_until: datetime | None = None
    proof: str | None = None

    def is_(self, key: PublicKey) -> bool:
        said = (self.id, self.multibase, self.valid_from, self.valid_until)
        return said == (key.id, key.multibase, key.valid_from, key.valid_until)


class _Party(Body):
    did: str
    kind: str
    keys: tuple[_PublicKey, ...]
    roles: tuple[str, ...] = ()
    member: str | None = None
    name: str | None = None


class _Key(Body):
    key: _PublicKey


class _Revocation(Body):
    key_id: str
    reason: str = "unspecified"
    since: datetime | None = None


class _Role(Body):
    role: str
    keys: tuple[str, ...] | None = None


class _Reason(Body):
    reason: str


class _Shard(Body):
    id: int
    topics: dict[str, list[int]] = msgspec.field(default_factory=dict)


class _Assignment(Body):
    epoch: int
    shards: list[_Shard]
    added: list[AddedShard] = msgspec.field(default_factory=list)


class _Proposal(Body):
    schema: dict[str, Any]


class _Activation(Body):
    dataschema: str


def proofs_in(request: Request) -> dict[str, str]:
    """Return the proofs of possession, by key id, that came with a registration or a new key."""
    body = (request.body or "").encode()
    party, one = read_body(body, _Party), read_body(body, _Key)
    keys = (*(party.keys if party else ()), *((one.key,) if one else ()))
    return {key.id: key.proof for key in keys if key.proof is not None}


def seen_keys_in(request: Request) -> tuple[str, ...] | None:
    """Return the ids of the keys that a grant of a role names; None if it names none."""
    found = read_body((request.body or "").encode(), _Role)
    return None if found is None else found.keys


@CONTEXT.asked(PartyRegistered)
def _registers(asked: Asked, data: PartyRegistered) -> bool:
    body = asked.read(_Party)
    return (
        asked.is_("POST", "parties")
        and body is not None
        and (body.did, body.kind, len(body.keys)) == (data.did, data.kind, len(data.keys))
        and all(asked_key.is_(key) for asked_key, key in zip(body.keys, data.keys, strict=True))
        and (set(body.roles), body.member, body.name) == (set(data.roles), data.member, data.name)
    )


@CONTEXT.asked(KeyAdded)
def _adds_key(asked: Asked, data: KeyAdded) -> bool:
    body = asked.read(_Key)
    return asked.is_("POST", "parties", data.did, "keys") and body is not None and body.key.is_(data.key)


@CONTEXT.asked(KeyRevoked)
def _revokes_key(asked: Asked, data: KeyRevoked) -> bool:
    body = asked.read(_Revocation)
    said = (data.key_id, data.reason, data.since)
    return (
        asked.is_("POST", "parties", data.did, "keys", "revoke")
        and body is not None
        and (body.key_id, body.reason, body.since) == said
    )


@CONTEXT.asked(RoleGranted)
def _grants_role(asked: Asked, data: RoleGranted) -> bool:
    body = asked.read(_Role)
    return asked.is_("POST", "parties", data.did, "roles") and body is not None and body.role == data.role


@CONTEXT.asked(RoleWithdrawn)
def _withdraws_role(asked: Asked, data: RoleWithdrawn) -> bool:
    return asked.is_("DELETE", "parties", data.did, "roles", data.role)


@CONTEXT.asked(MemberSuspended)
def _suspends(asked: Asked, data: MemberSuspended) -> bool:
    return _asks_of_member(asked, data, "suspend")


@CONTEXT.asked(MemberReinstated)
def _reinstates(asked: Asked, data: MemberReinstated) -> bool:
    return _asks_of_member(asked, data, "reinstate")


@CONTEXT.asked(MemberExpelled)
def _expels(asked: Asked, data: MemberExpelled) -> bool:
    return _asks_of_member(asked, data, "expel")


def _asks_of_member(
    asked: Asked, data: MemberSuspended | MemberReinstated | MemberExpelled, act: str
) -> bool:
    body = asked.read(_Reason)
    return asked.is_("POST", "parties", data.did, act) and body is not None and body.reason == data.reason


@CONTEXT.asked(ShardsAssigned)
def _assigns(asked: Asked, data: ShardsAssigned) -> bool:
    body = asked.read(_Assignment)
    if body is None or not asked.is_("POST", "shards"):
        return False
    wanted = {(s.id, topic, p) for s in body.shards for topic, numbers in s.topics.items() for p in numbers}
    stated = {(s.id, t.topic, p) for s in data.shards for t in s.topics for p in t.partitions}
    ids = {shard.id for shard in body.shards} == {shard.id for shard in data.shards}
    return ids and wanted == stated and (body.epoch, tuple(body.added)) == (data.epoch, data.added)


@CONTEXT.asked(EventTypeProposed)
def _proposes(asked: Asked, data: EventTypeProposed) -> bool:
    body = asked.read(_Proposal)
    return (
        asked.is_("POST", "event-types")
        and body is not None
        and schema_file(body.schema) == data.schema.encode()
    )


@CONTEXT.asked(EventTypeActivated)
def _activates(asked: Asked, data: EventTypeActivated) -> bool:
    body = asked.read(_Activation)
    return (
        asked.is_("POST", "event-types", data.type, "activate")
        and body is not None
        and body.dataschema == data.dataschema
    )


@CONTEXT.asked(EventTypeWithdrawn)
def _withdraws(asked: Asked, data: EventTypeWithdrawn) -> bool:
    return asked.is_("POST", "event-types", data.type, "withdraw")
