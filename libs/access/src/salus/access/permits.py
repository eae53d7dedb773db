"""A permit for research on one data set: its state, and whether it allows a use. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import msgspec

from salus.access.actors import Actor
from salus.access.prohibitions import ProhibitionIndex
from salus.access.state import PatientState, SubjectState
from salus.events.contexts.consent_permits import (
    PermitGranted,
    PermitGround,
    PermitProposed,
    PermitUsed,
    PermitWithdrawn,
    ResearchPurpose,
    Terms,
)
from salus.events.event_types import EventData
from salus.events.permit_rights import RIGHTS, Act, Relation, relation_to
from salus.events.recipients import recipients_of

# Of so many uses a permit remembers which they were: who repeats one of them is told the same again.
USES_KEPT = 16
Status = Literal["proposed", "granted", "withdrawn"]


class Use(msgspec.Struct, frozen=True, omit_defaults=True):
    """One use of a permit that was allowed."""

    id: str
    number: int
    used_at: datetime
    patient: str | None = None


class Permit(msgspec.Struct, frozen=True, omit_defaults=True):
    """A permit as folded from its events; without terms nobody proposed it."""

    id: str = ""
    terms: Terms | None = None
    status: Status = "proposed"
    approver: str | None = None
    withdrawn_by: str | None = None
    ground: PermitGround | None = None
    used: int = 0
    uses: tuple[Use, ...] = ()


Bar = Literal["patient-forbids", "patient-erased", "patient-unknown"]
"""Why nothing is permitted about a patient, whatever permits say."""


@dataclass(frozen=True)
class UseQuestion:
    """May somebody use this data set of a member, for this purpose, by a permit?

    `patient` is whom it is about, if it is about one, and `barred` why nothing is permitted about her.
    """

    principal: Actor
    owner: str
    data_set: str
    purpose: ResearchPurpose
    patient: str | None = None
    barred: Bar | None = None


Reason = Literal[
    "patient-forbids",
    "patient-erased",
    "patient-unknown",
    "not-recipient",
    "another-data-set",
    "another-purpose",
    "permit-not-granted",
    "permit-withdrawn",
    "permit-not-begun",
    "permit-over",
    "permit-used-up",
]


def reasons_against(permit: Permit, question: UseQuestion, *, at: datetime) -> tuple[Reason, ...]:
    """Return why a permit does not allow a use at that moment; none: it does.

    What a patient forbids goes first. Whoever is not the recipient is told nothing else of the permit.
    """
    return tuple(_reasons(permit, question, at=at))


def _reasons(permit: Permit, question: UseQuestion, *, at: datetime) -> Iterator[Reason]:
    terms = permit.terms
    relation = relation_of(permit, question.principal)
    if terms is None or not RIGHTS[Act.USE, relation]:
        yield "not-recipient"
        return
    if question.barred is not None:
        yield question.barred
    if (question.owner, question.data_set) != (terms.owner, terms.data_set):
        yield "another-data-set"
    if question.purpose != terms.purpose:
        yield "another-purpose"
    if permit.status != "granted":
        yield "permit-withdrawn" if permit.status == "withdrawn" else "permit-not-granted"
    if not terms.valid_from <= at < terms.valid_until:
        yield "permit-not-begun" if at < terms.valid_from else "permit-over"
    if permit.used >= terms.uses_max:
        yield "permit-used-up"


def relation_of(permit: Permit, actor: Actor) -> Relation:
    """Return what somebody is to a permit; to one that nobody proposed they are anybody."""
    terms = permit.terms
    if terms is None:
        return Relation.OTHER
    return relation_to(actor, recipient=terms.recipient, proposer=terms.proposer, owner=terms.owner)


def evolve_permit(permit: Permit, event: EventData) -> Permit:
    """Return a permit after an event. What cannot follow changes nothing, whoever stated it."""
    change = msgspec.structs.replace
    match event:
        case PermitProposed() if permit.terms is None:
            return Permit(event.permit, terms_of(event))
        case PermitGranted() if (
            permit.status == "proposed" and permit.terms is not None and permit.terms.digest == event.terms
        ):
            return change(permit, status="granted", approver=event.request.by)
        case PermitWithdrawn() if permit.terms is not None and permit.status != "withdrawn":
            by = event.request.by
            return change(permit, status="withdrawn", withdrawn_by=by, ground=event.ground)
        case PermitUsed() if permit.status == "granted":
            use = Use(event.use, event.number, event.used_at, event.patient)
            return change(permit, used=permit.used + 1, uses=(*permit.uses, use)[-USES_KEPT:])
        case _:
            return permit


def terms_of(event: PermitProposed) -> Terms:
    """Return the terms that were proposed."""
    return Terms(
        owner=event.owner,
        data_set=event.data_set,
        proposer=event.proposer,
        recipient=event.recipient,
        purpose=event.purpose,
        valid_from=event.valid_from,
        valid_until=event.valid_until,
        uses_max=event.uses_max,
    )


WORDS: Mapping[str, str] = {
    "patient-forbids": "The patient has forbidden this, and what a patient forbids no permit allows.",
    "patient-erased": "The patient's record was erased.",
    "patient-unknown": "No record was registered under this pseudonym.",
    "not-recipient": "The permit is for somebody else, or you are no researcher of its member any more.",
    "another-data-set": "The permit is for another data set.",
    "another-purpose": "The permit is for another purpose.",
    "permit-not-granted": "No ethics reviewer has approved the permit yet.",
    "permit-withdrawn": "The permit was withdrawn.",
    "permit-not-begun": "The period of the permit has not begun.",
    "permit-over": "The period of the permit has ended.",
    "permit-used-up": "The permit was used as often as it may be.",
}
"""What a person is told of each reason."""


def bar_of(question: UseQuestion, *, state: PatientState, subject: SubjectState, at: datetime) -> Bar | None:
    """Return why nothing is permitted about the patient, by what she forbids and whether she is known.

    A permit is for reading; a prohibition of the recipient, of its member, of its role there or of everybody
    counts.
    """
    if subject.erased:
        return "patient-erased"
    if subject.steward is None:
        return "patient-unknown"
    who = question.principal
    forbidden = ProhibitionIndex(state.prohibitions).forbidden(
        recipients_of(who), action="read", purpose=question.purpose, at=at
    )
    return "patient-forbids" if forbidden.now else None
