"""The law of cases: accesses that a policy leaves to a person, who decides them, how many wait. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from salus.access.actors import Actor, Asking
from salus.access.cases import Case, CaseOutcome
from salus.access.state import PatientState, SubjectState
from salus.consent.domain.rights import require, sees_all
from salus.events.contexts.consent_oversight import CaseDecided, CaseGround, CaseOpened
from salus.events.patient_rights import APPROVED_HOURS_MAX, Act
from salus.runtime.refusal import Refusal

# Cases about one patient that wait: of one principal, of one organisation, of all.
WAITING_MAX = 50
WAITING_OF_ORGANISATION_MAX = 200
WAITING_OF_PATIENT_MAX = 1000
GROUNDS: Mapping[CaseOutcome, tuple[CaseGround, ...]] = {
    "approved": ("needed", "other"),
    "rejected": ("not-needed", "too-much", "wrong-purpose", "other"),
}


@dataclass(frozen=True)
class DecideCase:
    """Allow or refuse an access that waits for a person."""

    case: str
    patient: str
    outcome: CaseOutcome
    ground: CaseGround


def decide_case(
    state: PatientState, command: DecideCase, *, actor: Asking, subject: SubjectState, at: datetime
) -> CaseDecided:
    """Return the event of the decision.

    Raises:
        Refusal: `not-permitted`, `own-access`, `unknown-patient`, `unknown-case`, `already-decided` or
            `ground-differs`.
    """
    known = next((one for one in state.cases if one.id == command.case), None)
    about = None if known is None else known.principal
    require(Act.DECIDE, actor, about=about, state=state, subject=subject)
    if known is None:
        raise Refusal("unknown-case", "no case has this id", status=404)
    if known.outcome is not None:
        raise Refusal("already-decided", f"the case was {known.outcome} already")
    if command.ground not in GROUNDS[command.outcome]:
        grounds = ", ".join(GROUNDS[command.outcome])
        why = f"ground: {command.ground} is no ground for {command.outcome}, which has {grounds}"
        raise Refusal("ground-differs", why, status=422)
    approved = command.outcome == "approved"
    return CaseDecided(
        case=command.case,
        patient=command.patient,
        reviewer=actor.did,
        outcome=command.outcome,
        ground=command.ground,
        valid_until=at + timedelta(hours=APPROVED_HOURS_MAX) if approved else None,
        request=actor.request,
    )


def require_room_for_case(state: PatientState, opened: CaseOpened) -> None:
    """Raise unless a case may be opened for this patient once more.

    Raises:
        Refusal: `case-open` if the same waits already, or `too-many-waiting`.
    """
    waiting = [one for one in state.cases if one.outcome is None]
    if any(one.is_about(opened, opened.principal) for one in waiting):
        raise Refusal(
            "case-open", "the same was asked at once, and waits; ask again to be told as which case"
        )
    organisation = opened.request.behalf or opened.principal
    for number, most, whose in (
        (sum(one.principal == opened.principal for one in waiting), WAITING_MAX, "your"),
        (
            sum(one.organisation == organisation for one in waiting),
            WAITING_OF_ORGANISATION_MAX,
            "your organisation's",
        ),
        (len(waiting), WAITING_OF_PATIENT_MAX, "all"),
    ):
        if number >= most:
            why = f"{most} of {whose} cases about this patient wait for a person; have some decided"
            raise Refusal("too-many-waiting", why)


def visible_case(case: str, actor: Actor, state: PatientState, subject: SubjectState) -> Case:
    """Return a case that is the actor's business: who asked, the patient, her steward and its officers.

    Raises:
        Refusal: `unknown-case`, also for everybody else.
    """
    found = next((one for one in state.cases if one.id == case), None)
    if found is None or not (found.principal == actor.did or sees_all(actor, state, subject)):
        raise Refusal("unknown-case", "there is no such case", status=404)
    return found
