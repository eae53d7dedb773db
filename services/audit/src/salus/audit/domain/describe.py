"""From a leaf of the ledger to an entry of the trail."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import msgspec

from salus.audit.domain.directory import Directory
from salus.audit.domain.entry import Activity, Damage, Facts, Place, Severity, TrailEntry
from salus.audit.domain.meanings import facts_of, short
from salus.audit.domain.signing_keys import signing_keys
from salus.events.bearer import APPROVAL_LIFETIME_S_MAX, BearerError, read_bearer
from salus.events.contexts.consent import ConsentRevoked
from salus.events.effect import Effect, NoEffect, WithoutEffect
from salus.events.envelope import Event
from salus.events.errors import Reason, RejectedError
from salus.events.pseudonyms import is_pseudonym
from salus.events.requests import Request, RequestedData
from salus.events.signature import parse_signature

# These reasons are found only after the signature was verified, so the signer is proven, not claimed.
_SIGNER_PROVEN = frozenset(list(Reason)[list(Reason).index(Reason.MALFORMED_JSON) :])

# A signature covers the value as an event's, and not where and when it is put: anybody who has read a record
# can put it anywhere, and again after its signer lost a role or a key. Only what is wrong with the value
# itself, wherever and whenever it stands, is the signer's doing.
_ABOUT_THE_VALUE = frozenset(
    {
        Reason.MALFORMED_JSON, Reason.INVALID_ENVELOPE, Reason.UNKNOWN_TYPE, Reason.WRONG_SOURCE,
        Reason.SCHEMA_VIOLATION,
    }
)  # fmt: skip

# A record refused for one of these may be an attack on someone's name; the others are mistakes.
_SUSPICIOUS = frozenset(
    {
        Reason.UNKNOWN_KEY, Reason.KEY_EXPIRED, Reason.KEY_REVOKED, Reason.BAD_SIGNATURE,
        Reason.WRONG_SOURCE, Reason.NOT_OWNER, Reason.CREATE_TIME, Reason.MEMBER_SUSPENDED,
        Reason.MEMBER_EXPELLED,
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Named:
    """An event's attributes: what the trail tells of it even if its data is not understood."""

    id: str
    source: str
    type: str
    subject: str
    time: datetime


def describe(
    event: Event, effect: Effect, place: Place, signature: bytes | None, directory: Directory
) -> TrailEntry:
    """Return the trail entry of an accepted event, which names who asked for it."""
    facts = _with_grantee(facts_of(event.data) or _by_type(event), event, directory)
    if isinstance(event.data, RequestedData):
        facts = _with_request(facts, event.data.request)
    if isinstance(effect, WithoutEffect):
        facts = _without_effect(facts, effect, place, directory)
    return _entry(_named(event), facts, place, signing_keys(signature, event.data), directory)


def _by_type(event: Event) -> Facts:
    """Return what an event says of which the trail knows no more than its type says."""
    named = (getattr(event.data, "patient", None), event.envelope.subject)
    return Facts(
        activity=Activity.RECORDED,
        action="C",
        summary=f"{event.type.name}: {event.type.summary}",
        object=event.envelope.subject,
        object_kind="subject",
        patient=next((name for name in named if isinstance(name, str) and is_pseudonym(name)), None),
    )


def _with_request(facts: Facts, request: Request) -> Facts:
    """Return the facts with who asked as the actor and who approved it, and under which decision."""
    approver = _approver_of(request)
    return msgspec.structs.replace(
        facts,
        summary=f"{facts.summary} {short(approver)} approved it." if approver else facts.summary,
        actor=request.by,
        authentication=request.authentication,
        behalf=request.behalf,
        approver=approver,
        decision=facts.decision or request.decision,
    )


def _approver_of(request: Request) -> str | None:
    """Return who signed the approval; the ledger has verified it, or the event would be no accepted leaf."""
    if request.approval is None:
        return None
    try:
        approval = read_bearer(request.approval, audience=None, lifetime_s_max=APPROVAL_LIFETIME_S_MAX)
    except BearerError:
        return None
    return approval.claims.iss


def _without_effect(facts: Facts, effect: WithoutEffect, place: Place, directory: Directory) -> Facts:
    facts = msgspec.structs.replace(
        facts,
        outcome="without-effect",
        summary=f"Without effect ({effect.reason}): {facts.summary}",
        no_effect=effect.reason.value,
    )
    if effect.reason is not NoEffect.NOT_ENTITLED:
        return facts
    objection = directory.identity.objection_to(place.offset)
    rules = () if objection is None else (objection.code,)
    return msgspec.structs.replace(facts, severity=Severity.HIGH, rules=rules)


def describe_unknown(named: Named, place: Place, signature: bytes | None, directory: Directory) -> TrailEntry:
    """Return the entry of an accepted event whose type is newer than this service."""
    facts = Facts(
        activity=Activity.OTHER,
        action="E",
        summary=f"{short(named.source)} published {named.type}.",
        object=named.subject,
        object_kind="subject",
    )
    return _entry(named, facts, place, signing_keys(signature, None), directory)


def describe_rejected(place: Place, reason: str, signature: bytes | None, directory: Directory) -> TrailEntry:
    """Return the entry of a rejected leaf.

    Its actor is named only if the ledger proved who signed the value, and it is the value that is wrong.
    Where it is wrong by its place or its moment, whoever has seen the value may have put it there: its signer
    is the party that the entry is about, and nobody is the actor.
    """
    signer = _signer(signature) if reason in _SIGNER_PROVEN else None
    where = f"{place.topic}/{place.partition}/{place.offset}"
    misplaced = reason not in _ABOUT_THE_VALUE
    if signer is None:
        did = f"An unproven sender sent a record to {where}"
    elif misplaced:
        did = (
            f"Somebody, not proven to be {short(signer)}, sent a record signed by {short(signer)} to {where}"
        )
    else:
        did = f"{short(signer)} signed a record at {where}"
    actor = None if misplaced else signer
    facts = Facts(
        activity=Activity.REJECTED,
        action="C",
        outcome="rejected",
        severity=Severity.MEDIUM if reason in _SUSPICIOUS else Severity.LOW,
        summary=f"{did} that the ledger rejected: {reason}.",
        party=signer if misplaced else None,
        object=where,
        object_kind="record",
    )
    return TrailEntry(
        place=place,
        status=f"rejected:{reason}",
        time=place.dated_at,
        facts=facts,
        actor=actor,
        member=directory.member_of(actor),
    )


def describe_damaged(place: Place, status: str, verdict: str, damage: Damage) -> TrailEntry:
    """Return the entry of a row that is not what it is sealed as: it states nothing, and nobody did it.

    Whoever it names as its signer did not sign it, or not so that it was to be accepted.
    """
    where = f"{place.topic}/{place.partition}/{place.offset}"
    facts = Facts(
        activity=Activity.REJECTED,
        action="C",
        outcome="without-effect",
        severity=Severity.CRITICAL,
        summary=(
            f"The record at {where} is sealed as {status}; judged: {verdict.removeprefix('rejected:')}. "
            "It states nothing, and nobody is proven to have sent it."
        ),
        rules=(damage,),
        object=where,
        object_kind="record",
        no_effect=damage,
        damage=damage,
    )
    return TrailEntry(place=place, status=status, time=place.appended_at, facts=facts)


def _signer(signature: bytes | None) -> str | None:
    if signature is None:
        return None
    try:
        return parse_signature(signature).verification_method.partition("#")[0]
    except RejectedError:
        return None


def _with_grantee(facts: Facts, event: Event, directory: Directory) -> Facts:
    """Return the facts with whom a revoked consent had been for."""
    match event.data:
        case ConsentRevoked(patient=patient, consent=name):
            consent = directory.consent(patient, name)
            if consent is None:
                return facts
            return msgspec.structs.replace(facts, party=consent.grantee, party_role=consent.role)
    return facts


def _named(event: Event) -> Named:
    envelope = event.envelope
    return Named(envelope.id, envelope.source, envelope.type, envelope.subject, envelope.time)


def _entry(
    named: Named, facts: Facts, place: Place, keys: tuple[str, ...], directory: Directory
) -> TrailEntry:
    actor = facts.actor or named.source
    return TrailEntry(
        place=place,
        status="accepted",
        time=named.time,
        facts=facts,
        actor=actor,
        member=directory.member_of(actor),
        type=named.type,
        id=named.id,
        source=named.source,
        subject=named.subject,
        keys=keys,
    )
