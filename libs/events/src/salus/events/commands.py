"""Which request of our HTTP APIs states which event: what a caller signed must be what the event says.

Each event type that a caller asks for has one function here, which tells whether a request (method, target
and body) asks for this very data. What the service adds of its own, as an id or an epoch, is not compared.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

import msgspec

from salus.events.contexts import consent, identity, storage
from salus.events.event_types import EventData
from salus.events.fields import Nonce, Sealed
from salus.events.pseudonyms import pseudonym_of
from salus.events.requests import Request
from salus.events.signed_request import Asked, excess_of, form_of, read_body

Asks = Callable[[Asked, Any], bool]
_ASKS: dict[type[EventData], Asks] = {}
_F = TypeVar("_F", bound=Asks)


def asks_for(asked: Asked, data: EventData) -> bool:
    """Tell whether the request asks for what this data states, and for nothing else."""
    asks, form = _ASKS.get(type(data)), form_of(asked)
    return asks is not None and form is not None and excess_of(asked, form) is None and asks(asked, data)


def may_be_asked(data: type[EventData]) -> bool:
    """Tell whether there is a request that asks for data of this class."""
    return data in _ASKS


def _states(cls: type[EventData]) -> Callable[[_F], _F]:
    def register(asks: _F) -> _F:
        _ASKS[cls] = asks
        return asks

    return register


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    """What a command is made of; a member that none of them has would be on the ledger unread."""


# --- identity -------------------------------------------------------------------------------------


class _PublicKey(_Body):
    """A key with the proof that its holder wants it registered, which the contract verifies."""

    id: str
    multibase: str
    valid_from: datetime
    valid_until: datetime | None = None
    proof: str | None = None

    def is_(self, key: identity.PublicKey) -> bool:
        said = (self.id, self.multibase, self.valid_from, self.valid_until)
        return said == (key.id, key.multibase, key.valid_from, key.valid_until)


class _Party(_Body):
    did: str
    kind: str
    keys: tuple[_PublicKey, ...]
    roles: tuple[str, ...] = ()
    member: str | None = None
    name: str | None = None


class _Key(_Body):
    key: _PublicKey


class _Revocation(_Body):
    key_id: str
    reason: str = "unspecified"


class _Role(_Body):
    role: str
    keys: tuple[str, ...] | None = None


class _Shard(_Body):
    id: int
    topics: dict[str, list[int]] = {}


class _Assignment(_Body):
    epoch: int
    shards: list[_Shard]
    added: list[identity.AddedShard] = []


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


@_states(identity.PartyRegistered)
def _registers(asked: Asked, data: identity.PartyRegistered) -> bool:
    body = asked.read(_Party)
    return (
        asked.is_("POST", "parties")
        and body is not None
        and (body.did, body.kind, len(body.keys)) == (data.did, data.kind, len(data.keys))
        and all(asked_key.is_(key) for asked_key, key in zip(body.keys, data.keys, strict=True))
        and (set(body.roles), body.member, body.name) == (set(data.roles), data.member, data.name)
    )


@_states(identity.KeyAdded)
def _adds_key(asked: Asked, data: identity.KeyAdded) -> bool:
    body = asked.read(_Key)
    return asked.is_("POST", "parties", data.did, "keys") and body is not None and body.key.is_(data.key)


@_states(identity.KeyRevoked)
def _revokes_key(asked: Asked, data: identity.KeyRevoked) -> bool:
    body = asked.read(_Revocation)
    said = (data.key_id, data.reason)
    return (
        asked.is_("POST", "parties", data.did, "keys", "revoke")
        and body is not None
        and (body.key_id, body.reason) == said
    )


@_states(identity.RoleGranted)
def _grants_role(asked: Asked, data: identity.RoleGranted) -> bool:
    body = asked.read(_Role)
    return asked.is_("POST", "parties", data.did, "roles") and body is not None and body.role == data.role


@_states(identity.RoleWithdrawn)
def _withdraws_role(asked: Asked, data: identity.RoleWithdrawn) -> bool:
    return asked.is_("DELETE", "parties", data.did, "roles", data.role)


@_states(identity.ShardsAssigned)
def _assigns(asked: Asked, data: identity.ShardsAssigned) -> bool:
    body = asked.read(_Assignment)
    if body is None or not asked.is_("POST", "shards"):
        return False
    wanted = {(s.id, topic, p) for s in body.shards for topic, numbers in s.topics.items() for p in numbers}
    stated = {(s.id, t.topic, p) for s in data.shards for t in s.topics for p in t.partitions}
    ids = {shard.id for shard in body.shards} == {shard.id for shard in data.shards}
    return ids and wanted == stated and (body.epoch, tuple(body.added)) == (data.epoch, data.added)


# --- consent --------------------------------------------------------------------------------------


class _Grant(_Body):
    patient: str
    grantee: str
    actions: tuple[str, ...]
    purposes: tuple[str, ...]
    valid_until: datetime
    valid_from: datetime | None = None


class _Link(_Body):
    did: str


class _BreakGlass(_Body):
    reason: str
    statement: Sealed | None = None


class _Question(_Body):
    action: str
    object: str
    patient: str
    purpose: str
    break_glass: _BreakGlass | None = None


class _Judgement(_Body):
    outcome: str


@_states(consent.ConsentGranted)
def _grants(asked: Asked, data: consent.ConsentGranted) -> bool:
    if asked.is_("POST", "fhir", "Consent"):
        # The resource may hold words about somebody, so only its digest is on the ledger.
        return asked.digest is not None
    body = asked.read(_Grant)
    return (
        asked.is_("POST", "consents")
        and body is not None
        and (body.patient, body.grantee, body.valid_until) == (data.patient, data.grantee, data.valid_until)
        and (set(body.actions), set(body.purposes)) == (set(data.actions), set(data.purposes))
        and body.valid_from in (None, data.valid_from)
    )


@_states(consent.ConsentRevoked)
def _revokes(asked: Asked, data: consent.ConsentRevoked) -> bool:
    return asked.is_("POST", "consents", data.consent, "revoke")


@_states(consent.PatientLinked)
def _links(asked: Asked, data: consent.PatientLinked) -> bool:
    body = asked.read(_Link)
    return (
        asked.is_("POST", "patients", data.patient, "parties") and body is not None and body.did == data.did
    )


@_states(consent.PatientUnlinked)
def _unlinks(asked: Asked, data: consent.PatientUnlinked) -> bool:
    return asked.is_("DELETE", "patients", data.patient, "parties", data.did)


@_states(consent.AccessDecided)
def _asks(asked: Asked, data: consent.AccessDecided) -> bool:
    body = asked.read(_Question)
    said = (data.action, data.object, data.patient, data.purpose)
    return (
        asked.is_("POST", "decisions")
        and body is not None
        and (body.action, body.object, body.patient, body.purpose) == said
        and data.request.by == data.principal
        and (body.break_glass.reason if body.break_glass else None) == data.emergency
        and (data.emergency is not None or not data.break_glass)
    )


@_states(consent.GlassBroken)
def _breaks(asked: Asked, data: consent.GlassBroken) -> bool:
    body = asked.read(_Question)
    return (
        asked.is_("POST", "decisions")
        and body is not None
        and body.break_glass is not None
        and (body.object, body.patient) == (data.object, data.patient)
        and (body.break_glass.reason, body.break_glass.statement) == (data.reason, data.statement)
        and data.request.by == data.principal
    )


@_states(consent.GlassBreakReviewed)
def _reviews(asked: Asked, data: consent.GlassBreakReviewed) -> bool:
    body = asked.read(_Judgement)
    return (
        asked.is_("POST", "glass-breaks", data.decision, "review")
        and body is not None
        and body.outcome == data.outcome
        and data.request.by == data.reviewer
    )


# --- storage --------------------------------------------------------------------------------------


class _Subject(_Body):
    nonce: Nonce
    patient: str | None = None
    steward: str | None = None


class _Erasure(_Body):
    basis: str


@_states(storage.SubjectRegistered)
def _registers_subject(asked: Asked, data: storage.SubjectRegistered) -> bool:
    body = asked.read(_Subject)
    return (
        asked.is_("POST", "subjects")
        and body is not None
        and body.patient in (None, data.patient)
        and data.patient == pseudonym_of(data.steward, body.nonce)
        and data.steward == (body.steward or data.request.behalf or data.request.by)
    )


@_states(storage.ObjectStored)
def _stores(asked: Asked, data: storage.ObjectStored) -> bool:
    there = asked.is_("PUT", "objects", data.object) or asked.is_("POST", "objects")
    return there and asked.asks("patient") == data.patient


@_states(storage.ObjectRead)
@_states(storage.ReadBrokenOff)
def _reads(asked: Asked, data: storage.ObjectRead | storage.ReadBrokenOff) -> bool:
    return _looks(asked, data) and data.request.decision == data.decision


@_states(storage.SealedOpened)
def _opens(asked: Asked, data: storage.SealedOpened) -> bool:
    return (
        _looks_into(asked, event=data.event, patient=data.patient)
        and (asked.asks("source"), asked.asks("field")) == (data.source, data.field)
        and data.request.by == data.reader
        and data.request.decision == data.decision
    )


@_states(storage.ReadRefused)
def _is_refused(asked: Asked, data: storage.ReadRefused) -> bool:
    into = _looks_into(asked, event=data.object, patient=data.patient) and data.request.by == data.reader
    return into or _looks(asked, data)


def _looks(asked: Asked, data: storage.ObjectRead | storage.ReadBrokenOff | storage.ReadRefused) -> bool:
    return (
        asked.is_("GET", "objects", data.object)
        and asked.asks("patient") == data.patient
        and data.request.by == data.reader
    )


def _looks_into(asked: Asked, *, event: str, patient: str) -> bool:
    return asked.is_("POST", "sealed", "open") and (asked.asks("id"), asked.asks("patient")) == (
        event,
        patient,
    )


@_states(storage.SubjectKeyDestroyed)
def _erases(asked: Asked, data: storage.SubjectKeyDestroyed) -> bool:
    body = asked.read(_Erasure)
    return (
        asked.is_("DELETE", "subjects", data.patient, "key")
        and body is not None
        and body.basis == data.basis
        and data.request.by == data.requested_by
    )
