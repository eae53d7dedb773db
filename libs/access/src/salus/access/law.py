"""What no policy set can lift, whoever activated it: the law that stands above organisations' policies. Pure.

It decides some questions alone: nobody acts on the data of a patient who was erased or is unknown, operators
never do, and a patient always reads her own. What she forbids nobody does, but that who keeps her record adds
to it; in an emergency it is done unless she forbade just that. To what policies permit it adds a condition: a
basis, which is the patient's consent, or that who writes keeps her record. And an emergency access is a
clinician's, short, and told and reviewed. So a policy set narrows what consents allow, and widens nothing.
`docs/precedence.md` is the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace
from datetime import datetime, timedelta

from salus.access.actors import Actor
from salus.access.cases import case_of
from salus.access.decisions import REASONS_NAMED_MAX, Answer, Question, Rule, Verdict, conclude
from salus.access.grants import GrantIndex
from salus.access.prohibitions import NOT_FORBIDDEN, Forbidden
from salus.access.state import PatientState, SubjectState
from salus.events.patient_rights import EMERGENCY_SECONDS_MAX, REVIEW_HOURS_MAX, keeps_records_for
from salus.events.recipients import recipients_of

PATIENT_ERASED = "patient-erased"
PATIENT_UNKNOWN = "patient-unknown"
OPERATOR_NEVER_READS = "operator-never-reads"
OPERATOR_NEVER_WRITES = "operator-never-writes"
OWN_ACCESS = Rule("patient-reads-own", reason="You are the patient, and may read what is about you.")
NO_BASIS = "no-basis"
AWAITS_PERSON = "awaits-person"
PATIENT_FORBIDS = "patient-forbids"
LAW_REASONS: Mapping[str, str] = {
    OWN_ACCESS.id: OWN_ACCESS.reason,
    OPERATOR_NEVER_READS: "Whoever governs the network reads no records.",
    OPERATOR_NEVER_WRITES: "Whoever governs the network writes no records.",
    PATIENT_ERASED: "The patient's record was erased.",
    PATIENT_UNKNOWN: "No organisation of the network keeps a record of this patient.",
    AWAITS_PERSON: "A person has to allow this first. Asked at /decisions, it waits for a privacy officer.",
    PATIENT_FORBIDS: "The patient has forbidden this.",
    NO_BASIS: "The patient has not consented to this, and no policy stands in the place of her consent.",
}
"""The reasons that are the law's, each with what a person is told: no policy has one of them for its id."""
EMERGENCY_OBLIGATIONS = ("notify-patient", "notify-privacy-officer", f"review-within-{REVIEW_HOURS_MAX}h")


def answer_of(  # noqa: PLR0913  # a question, and all that the answer follows from
    question: Question,
    verdict: Verdict,
    *,
    state: PatientState,
    patients: AbstractSet[str],
    subject: SubjectState,
    at: datetime,
    grants: GrantIndex | None = None,
) -> Answer:
    """Return the answer to a question: the law's, or what follows from the policies' verdict under the law.

    `patients` are the parties that may be patients now, and `grants` the index of the state's consents, as
    for `inputs_of`.
    """
    forbidden = _forbidden(question, subject)
    if forbidden:
        return _denied(*forbidden, at=at)
    if is_own_access(question, state=state, patients=patients):
        own = Verdict(allowed=True, rules=(OWN_ACCESS,))
        return conclude(question, own, state=state, at=at, grants=grants)
    index = GrantIndex(state) if grants is None else grants
    ordinary = _prohibited(question, subject, index, at=at, is_emergency=False)
    emergency = _prohibited(question, subject, index, at=at, is_emergency=True)
    if ordinary.now:
        left = None if question.break_glass is None or emergency.now else _only_emergency(verdict)
        if left is None:
            return _denied(PATIENT_FORBIDS, at=at)
        verdict = left
    answer = _within_consents(question, verdict, state=state, subject=subject, at=at, grants=index)
    begins = (emergency if answer.break_glass else ordinary).begins
    return answer if begins is None else replace(answer, valid_until=min(answer.valid_until, begins))


def _prohibited(
    question: Question, subject: SubjectState, grants: GrantIndex, *, at: datetime, is_emergency: bool
) -> Forbidden:
    """Return what the patient forbids of it, as an emergency access or as any other.

    Whoever keeps her record has to add to it, so that cannot be forbidden.
    """
    who = question.principal
    if question.action == "write" and _keeps_record(who, subject):
        return NOT_FORBIDDEN
    return grants.prohibitions.forbidden(
        recipients_of(who),
        action=question.action,
        purpose=question.purpose,
        at=at,
        is_emergency=is_emergency,
    )


def _only_emergency(verdict: Verdict) -> Verdict | None:
    """Return what is left of a verdict if only what breaks the glass may permit; None: nothing is."""
    if verdict.errors or not verdict.allowed:
        return verdict
    rules = tuple(rule for rule in verdict.rules if rule.breaks_glass)
    return Verdict(allowed=True, rules=rules) if rules else None


def _within_consents(  # noqa: PLR0913  # a question, and all that the answer follows from
    question: Question,
    verdict: Verdict,
    *,
    state: PatientState,
    subject: SubjectState,
    at: datetime,
    grants: GrantIndex,
) -> Answer:
    """Return what follows from the policies' verdict: nothing is permitted without a basis."""
    answer = conclude(question, verdict, state=state, at=at, grants=grants)
    if answer.allowed and not answer.break_glass and not _has_basis(question, answer, subject):
        # The policies permit without a consent. An emergency is judged as if they did not.
        left = _only_emergency(verdict)
        answer = (
            _denied(NO_BASIS, at=at)
            if left is None
            else conclude(question, left, state=state, at=at, grants=grants)
        )
    if answer.allowed and not answer.break_glass:
        answer = _with_person(question, answer, verdict, state=state, at=at)
    return _under_review(question, answer, at=at) if answer.break_glass else answer


def is_own_access(question: Question, *, state: PatientState, patients: AbstractSet[str]) -> bool:
    """Tell whether a patient asks to read her own."""
    own = question.principal.did in state.dids and question.principal.did in patients
    return own and question.action == "read" and question.purpose == "PATRQT"


def _forbidden(question: Question, subject: SubjectState) -> tuple[str, ...]:
    reasons = []
    if "operator" in question.principal.roles:
        reasons.append(OPERATOR_NEVER_READS if question.action == "read" else OPERATOR_NEVER_WRITES)
    if subject.erased:
        reasons.append(PATIENT_ERASED)
    if subject.steward is None:
        reasons.append(PATIENT_UNKNOWN)
    return tuple(reasons)


def _has_basis(question: Question, answer: Answer, subject: SubjectState) -> bool:
    """Tell whether a consent covers it, or who writes keeps the patient's record."""
    if answer.consents:
        return True
    return question.action == "write" and _keeps_record(question.principal, subject)


def _keeps_record(who: Actor, subject: SubjectState) -> bool:
    return subject.steward is not None and keeps_records_for(who, subject.steward)


def _with_person(
    question: Question, answer: Answer, verdict: Verdict, *, state: PatientState, at: datetime
) -> Answer:
    """Return what follows where a policy leaves to a person what is allowed otherwise.

    Whoever is approved may do just what was asked for, while it is allowed otherwise. An emergency does not
    wait where a policy breaks the glass; what is none waits, whatever that policy says of it.
    """
    marked = [rule for rule in verdict.rules if rule.needs_person]
    if not marked:
        return answer
    case = case_of(state.cases, question, principal=question.principal.did, at=at)
    if case is not None and case.allows(at) and case.valid_until is not None:
        return replace(answer, case=case.id, valid_until=min(answer.valid_until, case.valid_until))
    emergency = tuple(rule for rule in verdict.rules if rule.breaks_glass)
    if emergency and question.break_glass is not None:
        return conclude(question, Verdict(allowed=True, rules=emergency), state=state, at=at)
    reasons = sorted({AWAITS_PERSON, *(rule.id for rule in marked[: REASONS_NAMED_MAX - 1])})
    return replace(
        _denied(*reasons, at=at),
        obligations=tuple(sorted({each for rule in marked for each in rule.obligations})),
        pending=True,
        case=None if case is None else case.id,
    )


def _under_review(question: Question, answer: Answer, *, at: datetime) -> Answer:
    who = question.principal
    is_clinician = who.kind == "person" and "clinician" in who.roles and who.member is not None
    is_emergency = question.break_glass is not None and question.purpose == "ETREAT"
    if not (is_clinician and is_emergency and question.action == "read"):
        return _denied(NO_BASIS, at=at)
    return replace(
        answer,
        obligations=tuple(sorted({*answer.obligations, *EMERGENCY_OBLIGATIONS})),
        valid_until=min(answer.valid_until, at + timedelta(seconds=EMERGENCY_SECONDS_MAX)),
    )


def _denied(*reasons: str, at: datetime) -> Answer:
    return Answer(allowed=False, reasons=reasons, obligations=(), valid_until=at, break_glass=False)
