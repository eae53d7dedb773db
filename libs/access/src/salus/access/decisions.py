"""What a decision is asked with, what the policies answer, and what follows from the answer. Pure.

The policies see entities and a context made here from folded state; time-bound consents are filtered
before, so a policy needs no clock. `inputs_digest` commits to exactly what the policies saw.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

import msgspec

from salus.access.actors import Asking
from salus.access.emergencies import review_due
from salus.access.grants import Covering, GrantIndex
from salus.access.state import (
    PatientState,
    SubjectState,
    evolve,
    evolve_subject,
)
from salus.events.contexts.consent import AccessDecided, Action, EmergencyReason, GlassBroken
from salus.events.contexts.consent_oversight import CaseOpened
from salus.events.contexts.storage import STORAGE
from salus.events.event_types import EventData
from salus.events.fields import Purpose, Sealed
from salus.events.keyring import KeyRing
from salus.events.parties import Party
from salus.events.patient_rights import is_patient
from salus.events.recipients import recipients_of
from salus.events.state_positions import Partition, state_positions

NO_POLICY_PERMITS = "no-policy-permits"
POLICY_ERROR = "policy-error"
# What a person is told of reasons that are no policy's.
WORDS = {
    NO_POLICY_PERMITS: "Nothing allows this: the patient has not granted it, and no rule does.",
    POLICY_ERROR: "The rules could not be evaluated, so nothing is allowed.",
}
TOKEN_SECONDS = 60
# An event names no more. Of a thousand organisations each may forbid the same for its own reason.
REASONS_NAMED_MAX = 64


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

    @cached_property
    def encoded_entities(self) -> bytes:
        """The entities in RFC 8785 form, of which the engine and the digest both are made."""
        return encoded(self.entities)

    @cached_property
    def encoded(self) -> bytes:
        """All of it in RFC 8785 form."""
        return b'{"action":%b,"context":%b,"entities":%b,"principal":%b,"resource":%b}' % (
            encoded(self.action),
            encoded(self.context),
            self.encoded_entities,
            encoded(self.principal),
            encoded(self.resource),
        )


@dataclass(frozen=True)
class Rule:
    """A policy by its annotations @id, @reason, @obligations, @valid_seconds, @break_glass and @review.

    `reason` is what a person is told: that and why it was allowed, or denied. What one that `needs_person`
    permits waits for a person.
    """

    id: str
    obligations: tuple[str, ...] = ()
    valid_seconds: int = TOKEN_SECONDS
    breaks_glass: bool = False
    reason: str = ""
    needs_person: bool = False


@dataclass(frozen=True)
class Verdict:
    """What the policies say: `rules` are those that decided; any error makes it a denial."""

    allowed: bool
    rules: tuple[Rule, ...] = ()
    errors: tuple[str, ...] = ()


@dataclass(frozen=True)
class Answer:
    """What follows from a verdict; `consents` are those that covered what was allowed.

    What is `pending` is not allowed: it waits for a person. `case` is what waits, or what was approved of.
    """

    allowed: bool
    reasons: tuple[str, ...]
    obligations: tuple[str, ...]
    valid_until: datetime
    break_glass: bool
    consents: tuple[str, ...] = ()
    pending: bool = False
    case: str | None = None


def inputs_of(  # noqa: PLR0913  # a question, and all that the policies may go by
    question: Question,
    *,
    state: PatientState,
    patients: AbstractSet[str],
    subject: SubjectState,
    at: datetime,
    grants: GrantIndex | None = None,
) -> Inputs:
    """Return what the policies see: the principal, the record, its patient and what she grants them of this.

    What she granted to others than the principal and its member, or for another action or purpose, is
    nobody's reason to decide, and so many of them cost a question nothing: `grants` is the index of the
    state's consents. What she granted to a role at the member, which the principal holds, they see as granted
    to the member: to this principal it says the same.
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
    covering = _covering(question, state, grants, at=at)
    patient_attrs = {
        "dids": sorted(set(state.dids) & patients),
        "grants": [
            {"grantee": grantee, "action": question.action, "purpose": question.purpose}
            for grantee in covering.grantees
        ],
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


def encoded(value: object) -> bytes:
    """Return the RFC 8785 (JCS) encoding: all member names are ASCII, all values strings, flags and lists."""
    return msgspec.json.encode(value, order="sorted")


def inputs_digest(inputs: Inputs) -> str:
    """Return the SHA-256 of the canonical encoding, in hex."""
    return hashlib.sha256(inputs.encoded).hexdigest()


def conclude(
    question: Question,
    verdict: Verdict,
    *,
    state: PatientState,
    at: datetime,
    grants: GrantIndex | None = None,
) -> Answer:
    """Return the answer: deny unless the policies permit and none of them failed.

    Emergency access is used only if nothing else permits, so that nobody is accused who had a consent.
    """
    if verdict.errors:
        return _denied((POLICY_ERROR,), at=at)
    if not verdict.allowed:
        return _denied(_reasons(verdict.rules) or (NO_POLICY_PERMITS,), at=at)
    ordinary = tuple(rule for rule in verdict.rules if not rule.breaks_glass)
    rules = ordinary or verdict.rules
    if not rules:
        return _denied((POLICY_ERROR,), at=at)
    until = at + timedelta(seconds=min(rule.valid_seconds for rule in rules))
    covering = _covering(question, state, grants, at=at) if ordinary else Covering()
    if covering.until is not None:
        until = min(until, covering.until)
    return Answer(
        allowed=True,
        reasons=_reasons(rules),
        obligations=tuple(sorted({obligation for rule in rules for obligation in rule.obligations})),
        valid_until=until,
        break_glass=not ordinary,
        consents=covering.ids,
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
        pending=answer.pending,
        case=answer.case,
        request=question.principal.request,
    )


def replay(
    decision: AccessDecided,
    *,
    said_of_patient: Iterable[EventData],
    said_of_record: Iterable[EventData],
    ring: KeyRing,
) -> Inputs:
    """Return what the policies saw when they decided, from the topics: its digest is `decision.inputs`.

    The events are those that took effect on the patient, on consent's and on storage's topic; they and the
    key ring are up to the decision's `state_positions`.

    Raises:
        RejectedError: the principal's member was suspended or expelled, so it could ask for nothing.
    """
    state, subject = PatientState(), SubjectState()
    for event in said_of_patient:
        state = evolve(state, event)
    for event in said_of_record:
        subject = evolve_subject(subject, event)
    question = Question(
        principal=Asking.of(ring.caller(decision.principal), decision.request),
        action=decision.action,
        object=decision.object,
        patient=decision.patient,
        purpose=decision.purpose,
        break_glass=decision.emergency,
    )
    patients = patients_among(state.dids, ring.parties)
    return inputs_of(question, state=state, patients=patients, subject=subject, at=decision.decided_at)


def patients_among(dids: Iterable[str], parties: Mapping[str, Party]) -> frozenset[str]:
    """Return those of the parties that may be patients, by what is known of them."""
    known = (parties[did] for did in dids if did in parties)
    return frozenset(party.did for party in known if is_patient(party.kind, party.roles))


def glass_broken(  # noqa: PLR0913  # an answer, and what is told of it
    question: Question,
    answer: Answer,
    *,
    decision: str,
    statement: Sealed | None,
    steward: str | None,
    at: datetime,
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
        broken_at=at,
        review_due=review_due(answer.obligations, at=at),
        steward=steward,
        request=question.principal.request,
    )


def case_opened(question: Question, answer: Answer, *, case: str, steward: str, at: datetime) -> CaseOpened:
    """Return the event by which what is pending waits for a person."""
    return CaseOpened(
        case=case,
        principal=question.principal.did,
        action=question.action,
        object=question.object,
        patient=question.patient,
        purpose=question.purpose,
        opened_at=at,
        due=review_due(answer.obligations, at=at),
        steward=steward,
        request=question.principal.request,
    )


def _reasons(rules: Iterable[Rule]) -> tuple[str, ...]:
    """Return the rules that decided, of very many the first by their ids."""
    return tuple(sorted(rule.id for rule in rules)[:REASONS_NAMED_MAX])


def _denied(reasons: tuple[str, ...], *, at: datetime) -> Answer:
    return Answer(allowed=False, reasons=reasons, obligations=(), valid_until=at, break_glass=False)


def _covering(
    question: Question, state: PatientState, grants: GrantIndex | None, *, at: datetime
) -> Covering:
    """Return the active consents by which a principal may do this.

    Those are to itself, to its member and to its roles there.
    """
    index = GrantIndex(state) if grants is None else grants
    recipients = recipients_of(question.principal)
    return index.covering(recipients, action=question.action, purpose=question.purpose, at=at)


def _given(name: str, value: str | None) -> dict[str, str]:
    return {} if value is None else {name: value}
