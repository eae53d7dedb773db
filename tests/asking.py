"""Requests, as the events of services carry them: for data that nobody judges, and truly signed ones."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import msgspec
from fastapi import Request as HttpRequest
from tests.pseudonyms import nonce_of

from salus.client.auth import RequestLine, make_approval, make_bearer, make_possession
from salus.events.bearer import audience_of
from salus.events.contexts import (
    consent,
    consent_oversight,
    consent_permits,
    consent_prohibitions,
    identity,
    identity_login,
    storage,
)
from salus.events.event_types import type_of
from salus.events.parties import Party
from salus.events.requests import SIGNED, Request, RequestedData
from salus.events.signature import Signer
from salus.runtime.auth import Caller

NETWORK = "salus.local/dev"
"""The origin of the networks that tests make."""

_D = TypeVar("_D", bound=RequestedData)

UNASKED = Request.of_service("did:key:z6MkService")
"""For data whose request is not looked at."""


def asked_by(
    signer: Signer,
    service: str,
    method: str,
    target: str,
    *,
    at: datetime,
    body: Any = None,
    raw: bytes | None = None,
    network: str = NETWORK,
    **facts: Any,
) -> Request:
    """Return the request that a party signed: what a service takes from its HTTP call.

    `body` is made JSON; `raw` is sent as it is instead.
    """
    raw = json.dumps(body).encode() if body is not None else raw
    line = RequestLine(method, target, raw)
    proof = make_bearer(signer, audience_of(service, network), now=at, request=line)
    did = signer.verification_method.partition("#")[0]
    text = None if raw is None else raw.decode()
    return Request(by=did, authentication=SIGNED, proof=proof, body=text, **facts)


def calling(party: Party) -> Caller:
    """Return a caller whose request nobody looks at."""
    return Caller(party, UNASKED)


class FixedCallers:
    """Callers that need no token: `find` tells who sends a request."""

    def __init__(self, find: Callable[[HttpRequest], Party]) -> None:
        self._find = find

    async def __call__(self, request: HttpRequest) -> Party:
        return self._find(request)

    async def command(self, request: HttpRequest) -> Caller:
        return calling(self._find(request))

    async def document(self, request: HttpRequest) -> Caller:
        return calling(self._find(request))

    async def transfer(self, request: HttpRequest) -> Caller:
        return calling(self._find(request))

    def charge_parts(self, caller: Caller, *, number: int, size: int) -> None:
        pass


def truly_asked(  # all that a request may come with
    data: _D,
    signer: Signer,
    *,
    at: datetime,
    proofs: Mapping[str, str] = {},
    seen: Iterable[str] | None = None,
    second: Signer | None = None,
    network: str = NETWORK,
    without: Collection[str] = (),
) -> _D:
    """Return the data with the request that states it, signed: what the service makes of an HTTP call.

    Fields that say who asked must name the signer already. `proofs` are those of possession, by
    key id (`proofs_of`); `seen` are the keys of whoever is made an operator; `second` approves. The
    request leaves out the names `without`.
    """
    service = type_of(data).owner
    method, target, body = _REQUESTS[type(data)](data)
    body = {name: said for name, said in body.items() if name not in without} if without else body
    if isinstance(data, identity.PartyRegistered | identity.KeyAdded):
        for key in body.get("keys") or [body["key"]]:
            key.update({"proof": proofs[key["id"]]} if key["id"] in proofs else {})
    if seen is not None:
        body["keys"] = [*seen]
    decision = (
        data.decision
        if isinstance(data, storage.ObjectRead | storage.ReadBrokenOff | storage.SealedOpened)
        else None
    )
    raw = consent.policy_body(data.files) if isinstance(data, consent.PolicySetProposed) else None
    request = asked_by(
        signer, service, method, target, at=at, body=body, raw=raw, network=network, decision=decision
    )
    if isinstance(data, consent.PolicySetProposed):
        # The files stand in the event, so the body is not there twice.
        request = msgspec.structs.replace(request, body=None)
    if second is not None:
        raw = None if request.body is None else request.body.encode()
        approval = make_approval(second, RequestLine(method, target, raw), network=network, now=at)
        request = msgspec.structs.replace(request, approval=approval)
    return msgspec.structs.replace(data, request=request)


def proofs_of(
    *holders: Signer, member: str | None = None, at: datetime, network: str = NETWORK
) -> dict[str, str]:
    """Return, by key id, the proofs that these signers want their keys to join."""
    return {
        h.verification_method: make_possession(h, member=member, network=network, now=at) for h in holders
    }


def _partitions(shard: identity.AssignedShard) -> dict[str, list[int]]:
    topics: dict[str, list[int]] = {}
    for topic in shard.topics:
        topics.setdefault(topic.topic, []).extend(topic.partitions)
    return topics


def _use(d: consent_permits.PermitUsed | consent_permits.PermitUseDenied) -> dict[str, Any]:
    asked = {f: getattr(d, f) for f in ("owner", "data_set", "purpose")}
    return asked | ({"patient": d.patient} if d.patient else {})


def _path(*segments: str) -> str:
    return "".join("/" + quote(segment, safe=":") for segment in segments)


_Line = tuple[str, str, Any]
_REQUESTS: dict[type, Callable[[Any], _Line]] = {
    identity.PartyRegistered: lambda d: (
        "POST",
        "/parties",
        msgspec.to_builtins({f: getattr(d, f) for f in ("did", "kind", "keys", "roles", "member", "name")}),
    ),
    identity.KeyAdded: lambda d: (
        "POST",
        _path("parties", d.did, "keys"),
        {"key": msgspec.to_builtins(d.key)},
    ),
    identity.KeyRevoked: lambda d: (
        "POST",
        _path("parties", d.did, "keys", "revoke"),
        {"key_id": d.key_id, "reason": d.reason} | ({"since": d.since.isoformat()} if d.since else {}),
    ),
    identity.RoleGranted: lambda d: ("POST", _path("parties", d.did, "roles"), {"role": d.role}),
    identity.RoleWithdrawn: lambda d: ("DELETE", _path("parties", d.did, "roles", d.role), None),
    identity.MemberSuspended: lambda d: ("POST", _path("parties", d.did, "suspend"), {"reason": d.reason}),
    identity.MemberReinstated: lambda d: ("POST", _path("parties", d.did, "reinstate"), {"reason": d.reason}),
    identity.MemberExpelled: lambda d: ("POST", _path("parties", d.did, "expel"), {"reason": d.reason}),
    identity.ShardsAssigned: lambda d: (
        "POST",
        "/shards",
        {
            "epoch": d.epoch,
            "shards": [{"id": s.id, "topics": _partitions(s)} for s in d.shards],
            "added": msgspec.to_builtins(d.added),
        },
    ),
    identity.EventTypeProposed: lambda d: ("POST", "/event-types", {"schema": json.loads(d.schema)}),
    identity.EventTypeActivated: lambda d: (
        "POST",
        _path("event-types", d.type, "activate"),
        {"dataschema": d.dataschema},
    ),
    identity.EventTypeWithdrawn: lambda d: ("POST", _path("event-types", d.type, "withdraw"), None),
    identity_login.ProviderAdded: lambda d: (
        "POST",
        "/providers",
        {f: msgspec.to_builtins(getattr(d, f)) for f in d.__struct_fields__ if f != "request"},
    ),
    identity_login.ProviderKeysReplaced: lambda d: (
        "POST",
        _path("providers", d.provider, "keys"),
        {"keys": msgspec.to_builtins(d.keys)},
    ),
    identity_login.ProviderWithdrawn: lambda d: ("POST", _path("providers", d.provider, "withdraw"), None),
    consent.PatientLinked: lambda d: ("POST", _path("patients", d.patient, "parties"), {"did": d.did}),
    consent.PatientUnlinked: lambda d: ("DELETE", _path("patients", d.patient, "parties", d.did), None),
    consent.ConsentGranted: lambda d: (
        "POST",
        "/consents",
        msgspec.to_builtins(
            {
                f: getattr(d, f)
                for f in ("patient", "grantee", "role", "actions", "purposes", "valid_from", "valid_until")
            }
        ),
    ),
    consent.ConsentRevoked: lambda d: ("POST", _path("consents", d.consent, "revoke"), None),
    consent_prohibitions.AccessProhibited: lambda d: (
        "POST",
        "/prohibitions",
        msgspec.to_builtins(
            {
                f: getattr(d, f)
                for f in ("patient", "party", "role", "actions", "purposes", "valid_from", "valid_until")
            }
        ),
    ),
    consent_prohibitions.ProhibitionLifted: lambda d: (
        "POST",
        _path("prohibitions", d.prohibition, "lift"),
        None,
    ),
    consent_permits.PermitProposed: lambda d: (
        "POST",
        "/permits",
        msgspec.to_builtins(
            {
                f: getattr(d, f)
                for f in (
                    *("owner", "data_set", "recipient", "purpose"),
                    *("valid_from", "valid_until", "uses_max"),
                )
            }
        ),
    ),
    consent_permits.PermitGranted: lambda d: (
        "POST",
        _path("permits", d.permit, "approve"),
        {"terms": d.terms},
    ),
    consent_permits.PermitWithdrawn: lambda d: (
        "POST",
        _path("permits", d.permit, "withdraw"),
        {"ground": d.ground},
    ),
    consent_permits.PermitUsed: lambda d: ("POST", _path("permits", d.permit, "uses"), _use(d)),
    consent_permits.PermitUseDenied: lambda d: ("POST", _path("permits", d.permit, "uses"), _use(d)),
    consent.AccessDecided: lambda d: (
        "POST",
        "/decisions",
        {f: getattr(d, f) for f in ("action", "object", "patient", "purpose")}
        | ({"break_glass": {"reason": d.emergency}} if d.emergency else {}),
    ),
    consent.GlassBroken: lambda d: (
        "POST",
        "/decisions",
        {
            "action": "read",
            "object": d.object,
            "patient": d.patient,
            "purpose": "ETREAT",
            "break_glass": {"reason": d.reason, "statement": msgspec.to_builtins(d.statement)},
        },
    ),
    consent.GlassBreakReviewed: lambda d: (
        "POST",
        _path("glass-breaks", d.decision, "review"),
        {"outcome": d.outcome} | ({"ground": d.ground} if d.ground else {}),
    ),
    consent_oversight.CaseOpened: lambda d: (
        "POST",
        "/decisions",
        {f: getattr(d, f) for f in ("action", "object", "patient", "purpose")},
    ),
    consent_oversight.CaseDecided: lambda d: (
        "POST",
        _path("cases", d.case, "decide"),
        {"outcome": d.outcome, "ground": d.ground},
    ),
    consent.PolicySetProposed: lambda _: ("POST", "/policies", None),
    consent.PolicySetActivated: lambda d: (
        "POST",
        _path("policies", d.policy_set, "activate"),
        {"replaces": d.replaces},
    ),
    storage.SubjectRegistered: lambda d: (
        "POST",
        "/subjects",
        {"nonce": nonce_of(d.patient), "steward": d.steward},
    ),
    storage.ObjectStored: lambda d: ("PUT", _path("objects", d.object) + f"?patient={d.patient}", None),
    storage.ObjectRead: lambda d: ("GET", _path("objects", d.object) + f"?patient={d.patient}", None),
    storage.ReadBrokenOff: lambda d: ("GET", _path("objects", d.object) + f"?patient={d.patient}", None),
    storage.SealedOpened: lambda d: (
        "POST",
        "/sealed/open?"
        + urlencode({"patient": d.patient, "source": d.source, "id": d.event, "field": d.field}),
        None,
    ),
    storage.ReadRefused: lambda d: ("GET", _path("objects", d.object) + f"?patient={d.patient}", None),
    storage.SubjectErased: lambda d: (
        "DELETE",
        _path("subjects", d.patient, "key"),
        {"basis": d.basis},
    ),
}
