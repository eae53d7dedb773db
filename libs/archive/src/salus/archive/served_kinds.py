"""What is kept of each event that rights are judged again by: one table of kinds.

A body is read where it was checked, in a worker process, and what is kept of it travels as bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from hashlib import sha256
from math import inf
from typing import Any

import msgspec

from salus.access.emergencies import due_of
from salus.archive.body import ACCEPTED
from salus.archive.columns import columns_of_body
from salus.archive.served_requests import (
    TOPICS,
    AnyServed,
    ServedCase,
    ServedChange,
    ServedDecision,
    ServedDestruction,
    ServedEmergency,
    ServedErasure,
    ServedGrant,
    ServedLifting,
    ServedLink,
    ServedOverdue,
    ServedProhibition,
    ServedProposal,
    ServedRead,
    ServedRegistration,
    ServedReview,
    ServedRevocation,
    ServedRun,
    ServedUnlink,
    ServedUpload,
    ServedVerdict,
    ServedWithdrawal,
    run_of,
    served_ranges,
)
from salus.events.bearer import Bearer, read_bearer
from salus.events.catalogue import Catalogue
from salus.events.contexts import consent, consent_oversight, consent_permits, consent_prohibitions, storage
from salus.events.effect import claims_of
from salus.events.envelope import Event, decode_event
from salus.events.event_types import EventData
from salus.events.requests import RequestedData
from salus.events.signed_request import read_body
from salus.ledger.block import Header, body_key
from salus.ledger.records import appended_at

# Of a SHA-256, as no two names are alike in so much of it by chance or by searching for it.
CLAIM_BYTES = 16
_COLUMNS = ("topic", "partition", "offset", "timestamp", "status", "id", "value")


def runs_of_body(
    shard: int, header: Header, body: bytes, catalogue: Catalogue, *, without: Collection[int | None] = ()
) -> list[ServedRun]:
    """Return the runs of a body that was found whole; the rows `without` should not have been accepted.

    Raises:
        BodyError: it cannot be read.
    """
    columns = columns_of_body(body, names=_COLUMNS)
    ranges = served_ranges(header)
    places: dict[tuple[str, int], list[AnyServed]] = {(r.topic, r.partition): [] for r in ranges}
    for row, topic in enumerate(columns["topic"]):
        if topic not in TOPICS or columns["status"][row] != ACCEPTED or row in without:
            continue
        event = decode_event(columns["value"][row], catalogue)
        appended = appended_at(columns["timestamp"][row])
        served = served_of(event, offset=columns["offset"][row], row=row, appended=appended)
        if served is not None:
            places[topic, columns["partition"][row]].append(served)
    key = body_key(shard, header.height, header.root)
    return [
        run_of(r, run, shard=shard, height=header.height, key=key)
        for r, run in zip(ranges, places.values(), strict=True)
    ]


def served_of(event: Event, *, offset: int, row: int, appended: datetime) -> AnyServed | None:
    """Return what an accepted event says was served; None if nobody's right is judged by it."""
    data, envelope = event.data, event.envelope
    changes = event.type.changes
    kind, details = _KINDS.get(type(data), (ServedChange if changes else None, lambda _: {}))
    if kind is None:
        return None
    # What changes nothing is asked for by requests of its own (`Catalogue.asks_for`), so what it claims is
    # in nobody's way; but for the denied use of a permit, of which no right is judged here. By its claims a
    # decision is known to be stated again: replicas that are asked at once under one key state it each.
    claims = claims_of(event) if changes or kind is ServedDecision else ()
    return kind(
        offset=offset,
        row=row,
        event=envelope.id,
        patient=envelope.subject,
        by=data.request.by if isinstance(data, RequestedData) else envelope.source,
        time=envelope.time.timestamp(),
        appended=appended.timestamp(),
        expected=envelope.expectedversion if changes else None,
        claims=tuple(sha256(name.encode()).digest()[:CLAIM_BYTES] for name in claims),
        **details(data),
    )


def _signed_at(data: RequestedData) -> float:
    """Return when the caller signed the request, by the caller's own clock; its signature was verified.

    An accepted request has a token. Without one it was signed after all that ends.
    """
    claims = _token_of(data)
    return inf if claims is None else float(claims.iat)


def _token_of(data: RequestedData) -> Bearer | None:
    proof = data.request.proof
    return None if proof is None else read_bearer(proof, audience=None).claims


def _of_read(data: storage.ObjectRead | storage.ReadBrokenOff | storage.SealedOpened) -> dict[str, Any]:
    said = None if isinstance(data, storage.ReadBrokenOff) else data
    return {
        "object": _object_of(data),
        "decision": data.decision,
        "asked": _signed_at(data),
        "purpose": said and said.purpose,
        "break_glass": said and said.break_glass,
    }


def _object_of(data: storage.ObjectRead | storage.ReadBrokenOff | storage.SealedOpened) -> str | None:
    if isinstance(data, storage.SealedOpened):
        return None
    claims = _token_of(data) if isinstance(data, storage.ReadBrokenOff) else None
    is_sealed = claims is not None and (claims.htu or "").startswith("/sealed/")
    return None if is_sealed else data.object


class _Start(msgspec.Struct):
    """When what a request asks for is to begin, whatever else the request says."""

    valid_from: datetime | None = None


def _begins(data: consent.ConsentGranted | consent_prohibitions.AccessProhibited) -> float | None:
    """Return when it begins, if its request left that to consent; of a FHIR resource nobody can tell."""
    body = None if data.request.body is None else read_body(data.request.body.encode(), _Start)
    return data.valid_from.timestamp() if body is not None and body.valid_from is None else None


_KINDS: Mapping[type[EventData], tuple[type[AnyServed], Callable[[Any], dict[str, Any]]]] = {
    consent.ConsentGranted: (ServedGrant, lambda d: {"grantee": d.grantee, "begins": _begins(d)}),
    consent.ConsentRevoked: (ServedRevocation, lambda d: {"consent": d.consent, "epoch": d.epoch}),
    consent_prohibitions.AccessProhibited: (
        ServedProhibition,
        lambda d: {"party": d.party, "epoch": d.epoch, "begins": _begins(d)},
    ),
    consent_prohibitions.ProhibitionLifted: (
        ServedLifting,
        lambda d: {"party": d.party, "prohibition": d.prohibition},
    ),
    consent.PatientLinked: (ServedLink, lambda d: {"did": d.did}),
    consent.PatientUnlinked: (ServedUnlink, lambda d: {"did": d.did, "epoch": d.epoch}),
    consent.GlassBroken: (
        ServedEmergency,
        lambda d: {
            "decision": d.decision,
            "object": d.object,
            "reason": d.reason,
            "until": d.valid_until.timestamp(),
            "due": due_of(d).timestamp(),
            "steward": d.steward,
            "began": None if d.broken_at is None else d.broken_at.timestamp(),
        },
    ),
    consent_oversight.CaseOpened: (
        ServedCase,
        lambda d: {
            "case": d.case,
            "due": d.due.timestamp(),
            "steward": d.steward,
            "opened": d.opened_at.timestamp(),
        },
    ),
    consent_permits.PermitProposed: (
        ServedProposal,
        lambda d: {"recipient": d.recipient, "proposer": d.proposer, "owner": d.owner},
    ),
    consent_permits.PermitWithdrawn: (ServedWithdrawal, lambda _: {}),
    consent_oversight.CaseDecided: (
        ServedVerdict,
        lambda d: {
            "case": d.case,
            "until": None if d.valid_until is None or d.outcome != "approved" else d.valid_until.timestamp(),
        },
    ),
    consent_oversight.ReviewOverdue: (
        ServedOverdue,
        lambda d: {"decision": d.decision, "due": d.due.timestamp()},
    ),
    consent.GlassBreakReviewed: (ServedReview, lambda d: {"decision": d.decision}),
    consent.AccessDecided: (
        ServedDecision,
        lambda d: {
            "decision": d.decision,
            "action": d.action,
            "object": d.object,
            "purpose": d.purpose,
            "allowed": d.allowed,
            "emergency": d.emergency,
            "break_glass": d.break_glass,
            "valid_until": d.valid_until.timestamp(),
            "epoch": d.epoch,
            "case": d.case if d.allowed else None,
        },
    ),
    storage.SubjectRegistered: (ServedRegistration, lambda d: {"steward": d.steward, "key": d.key}),
    storage.SubjectErased: (ServedErasure, lambda d: {"key": d.key}),
    storage.SubjectKeyDestroyed: (ServedDestruction, lambda d: {"key": d.key}),
    storage.ObjectStored: (
        ServedUpload,
        lambda d: {"object": d.object, "decision": d.request.decision, "asked": _signed_at(d)},
    ),
    storage.ObjectRead: (ServedRead, _of_read),
    storage.ReadBrokenOff: (ServedRead, _of_read),
    storage.SealedOpened: (ServedRead, _of_read),
}
