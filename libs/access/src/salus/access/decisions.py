"""What a decision is asked with, what the policies answer, and what follows from the answer. Pure.

The policies see entities and a context made here from folded state; time-bound consents are filtered
before, so a policy needs no clock. `inputs_digest` commits to exactly what the policies saw.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from salus.access.actors import Asking
from salus.access.state import (
    Consent,
    PatientState,
    SubjectState,
    active_consents,
    evolve,
    evolve_subject,
)
from salus.events.contexts.consent import AccessDecided, Action, EmergencyReason, GlassBroken
from salus.events.contexts.storage import STORAGE
from salus.events.event_types import EventData
from salus.events.fields import Purpose, Sealed
from salus.events.parties import Party
from salus.events.patient_rights import is_patient
from salus.events.state_positions import Partition, state_positions

NO_POLICY_PERMITS = "no-policy-permits"
POLICY_ERROR = "policy-error"
TOKEN_SECONDS = 60
# A decision that more consents cover names the first of them.
CONSENTS_NAMED_MAX = 64


@dataclass(frozen=True)
class Question:
    """May this principal do this action on this object of this patient, for this purpose, now?

    `service` is the one that is to act by the decision.
    """

    principal: Asking
    action: Action
    object: str
    patient: str
    purpose: Purpose
    break_glass: EmergencyReason | None = None
    service: str = STORAGE


@dataclass(frozen=True)
class Inputs:
    """Everything that the policies see, in Cedar's JSON forms."""

    principal: Mapping[str, str]
    action: Mapping[str, str]
    resource: Mapping[str, str]
    context: Mapping[str, Any]
    entities: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Rule:
    """A policy by its annotations @id, @obligations, @valid_seconds and @break_glass."""

    id: str
    obligations: tuple[str, ...] = ()
    valid_seconds: int = TOKEN_SECONDS
    breaks_glass: bool = False


@dataclass(frozen=True)
class Verdict:
    """What the policies say: `rules` are those that decided; any error makes it a denial."""

    allowed: bool
    rules: tuple[Rule, ...] = ()
    errors: tuple[str, ...] = ()


@dataclass(frozen=True)
class Answer:
    """What follows from a verdict; `consents` are those that covered what was allowed."""

    allowed: bool
    reasons: tuple[str, ...]
    obligations: tuple[str, ...]
    valid_until: datetime
    break_glass: bool
    consents: tuple[str, ...] = ()


def inputs_of(
    question: Question,
    *,
    state: PatientState,
    patients: AbstractSet[str],
    subject: SubjectState,
    at: datetime,
) -> Inputs:
    """Return what the policies see: the principal, the record, its patient and her active consents to them.

    What she granted to others than the principal and its member is nobody's reason to decide, and so many of
    them cost a question nothing.
    `patients` are the parties that may be patients now: of the patient's parties the policies see those.
    """
    who = question.principal
    principal = {"type": "Salus::Party", "id": who.did}
    resource = {"type": "Salus::Record", "id": question.object}
    patient = {"type": "Salus::Patient", "id": question.patient}
    party_attrs = {
        "did": who.did,
        "kind": who.kind,
        "roles": sorted(who.roles),
        **_given("member", who.member),
    }
    patient_attrs = {
        "dids": sorted(set(state.dids) & patients),
        "grants": _grants(_consents_to(who, state, at=at)),
        "erased": subject.erased,
        **_given("steward", subject.steward),
    }
    context: dict[str, Any] = {"purpose": question.purpose}
    if question.break_glass is not None:
        context["break_glass"] = {"reason": question.break_glass}
    return Inputs(
        principal=principal,
        action={"type": "Salus::Action", "id": question.action},
        resource=resource,
        context=context,
        entities=[
            {"uid": principal, "attrs": party_attrs, "parents": []},
            {"uid": patient, "attrs": patient_attrs, "parents": []},
            {"uid": resource, "attrs": {"patient": {"__entity": patient}}, "parents": []},
        ],
    )


def canonical(inputs: Inputs) -> bytes:
    """Return the RFC 8785 (JCS) encoding: all member names are ASCII, all values strings, flags and lists."""
    document = {
        "principal": inputs.principal,
        "action": inputs.action,
        "resource": inputs.resource,
        "context": inputs.context,
        "entities": inputs.entities,
    }
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def inputs_digest(inputs: Inputs) -> str:
    """Return the SHA-256 of the canonical encoding, in hex."""
    return hashlib.sha256(canonical(inputs)).hexdigest()


def conclude(question: Question, verdict: Verdict, *, state: PatientState, at: datetime) -> Answer:
    """Return the answer: deny unless the policies permit and none of them failed.

    Emergency access is used only if nothing else permits, so that nobody is accused who had a consent.
    """
    if verdict.errors:
        return _denied((POLICY_ERROR,), at=at)
    if not verdict.allowed:
        return _denied(tuple(sorted(rule.id for rule in verdict.rules)) or (NO_POLICY_PERMITS,), at=at)
    ordinary = tuple(rule for rule in verdict.rules if not rule.breaks_glass)
    rules = ordinary or verdict.rules
    if not rules:
        return _denied((POLICY_ERROR,), at=at)
    until = at + timedelta(seconds=min(rule.valid_seconds for rule in rules))
    covering = _covering(question, state, at=at) if ordinary else []
    if covering:
        until = min(until, max(consent.valid_until for consent in covering))
    return Answer(
        allowed=True,
        reasons=tuple(sorted(rule.id for rule in rules)),
        obligations=tuple(sorted({obligation for rule in rules for obligation in rule.obligations})),
        valid_until=until,
        break_glass=not ordinary,
        consents=tuple(sorted(consent.id for consent in covering))[:CONSENTS_NAMED_MAX],
    )


@dataclass(frozen=True)
class Basis:
    """What a decision rests on: which rules decided when, and from which state."""

    decision: str
    policy_set: str
    inputs: str
    at: datetime
    positions: Mapping[Partition, int]
    epoch: int


def decided(question: Question, answer: Answer, basis: Basis) -> AccessDecided:
    """Return the event of a decision."""
    return AccessDecided(
        decision=basis.decision,
        principal=question.principal.did,
        action=question.action,
        object=question.object,
        patient=question.patient,
        purpose=question.purpose,
        allowed=answer.allowed,
        reasons=answer.reasons,
        policy_set=basis.policy_set,
        inputs=basis.inputs,
        decided_at=basis.at,
        state_positions=state_positions(basis.positions),
        epoch=basis.epoch,
        valid_until=answer.valid_until,
        obligations=answer.obligations,
        consents=answer.consents,
        emergency=question.break_glass,
        break_glass=answer.break_glass,
        request=question.principal.request,
    )


def replay(
    decision: AccessDecided,
    *,
    said_of_patient: Iterable[EventData],
    said_of_record: Iterable[EventData],
    parties: Mapping[str, Party],
) -> Inputs:
    """Return what the policies saw when they decided, from the topics: its digest is `decision.inputs`.

    The events are those that took effect on the patient, on consent's and on storage's topic, and `parties`
    the key ring's, each up to the decision's `state_positions`.
    """
    state, subject = PatientState(), SubjectState()
    for event in said_of_patient:
        state = evolve(state, event)
    for event in said_of_record:
        subject = evolve_subject(subject, event)
    party = parties[decision.principal]
    question = Question(
        principal=Asking(party.did, party.kind, party.roles, party.member, request=decision.request),
        action=decision.action,
        object=decision.object,
        patient=decision.patient,
        purpose=decision.purpose,
        break_glass=decision.emergency,
    )
    patients = patients_among(state.dids, parties)
    return inputs_of(question, state=state, patients=patients, subject=subject, at=decision.decided_at)


def patients_among(dids: Iterable[str], parties: Mapping[str, Party]) -> frozenset[str]:
    """Return those of the parties that may be patients, by what is known of them."""
    known = (parties[did] for did in dids if did in parties)
    return frozenset(party.did for party in known if is_patient(party.kind, party.roles))


def glass_broken(
    question: Question, answer: Answer, *, decision: str, statement: Sealed | None
) -> GlassBroken | None:
    """Return the event that an emergency access is loud by, or None for any other answer."""
    if not answer.break_glass or question.break_glass is None:
        return None
    return GlassBroken(
        decision=decision,
        principal=question.principal.did,
        object=question.object,
        patient=question.patient,
        reason=question.break_glass,
        valid_until=answer.valid_until,
        statement=statement,
        request=question.principal.request,
    )


def _denied(reasons: tuple[str, ...], *, at: datetime) -> Answer:
    return Answer(allowed=False, reasons=reasons, obligations=(), valid_until=at, break_glass=False)


def _consents_to(principal: Asking, state: PatientState, *, at: datetime) -> list[Consent]:
    """Return the active consents by which a principal acts: those to itself and to its member."""
    grantees = {principal.did, principal.member}
    return [consent for consent in active_consents(state, at=at) if consent.grantee in grantees]


def _grants(consents: Sequence[Consent]) -> list[dict[str, str]]:
    """Return one record per grantee, action and purpose, without repetition and in a fixed order."""
    triples = {
        (c.grantee, action, purpose) for c in consents for action in c.actions for purpose in c.purposes
    }
    return [{"grantee": g, "action": a, "purpose": p} for g, a, p in sorted(triples)]


def _covering(question: Question, state: PatientState, *, at: datetime) -> list[Consent]:
    return [
        consent
        for consent in _consents_to(question.principal, state, at=at)
        if question.action in consent.actions and question.purpose in consent.purposes
    ]


def _given(name: str, value: str | None) -> dict[str, str]:
    return {} if value is None else {name: value}
