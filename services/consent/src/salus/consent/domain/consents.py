"""The law of consent: what a patient, her steward and its officers may do, and what follows. Pure.

The ids of consents and decisions begin with the patient's UUID, so that finding one needs no index.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, assert_never

from salus.access.actors import Asking
from salus.access.emergencies import GlassBreak, Outcome
from salus.access.state import Consent, PatientState, SubjectState, is_listed
from salus.consent.domain.cases import DecideCase, decide_case
from salus.consent.domain.prohibitions import Forbid, Lift, forbid, lift, require_recipient
from salus.consent.domain.rights import require
from salus.events.contexts.consent import (
    Action,
    ConsentGranted,
    ConsentRevoked,
    GlassBreakReviewed,
    GlassBroken,
    PatientLinked,
    PatientUnlinked,
    ReviewGround,
)
from salus.events.contexts.identity import PartyKind
from salus.events.event_types import EventData
from salus.events.fields import Purpose
from salus.events.patient_rights import Act
from salus.events.recipients import RecipientRole
from salus.runtime.refusal import Refusal

CONSENT_DAYS_MAX = 3660
CONSENTS_MAX = 1000
LINKS_MAX = 8
# Emergency accesses to one patient that await review. Of one principal: more than a night's work on her. Of
# one organisation, which makes accounts at will: more than a ward's. Of all: it takes many members to get
# there.
UNREVIEWED_MAX = 200
UNREVIEWED_OF_ORGANISATION_MAX = 400
UNREVIEWED_OF_PATIENT_MAX = 4000
GROUNDS: Mapping[Outcome, tuple[ReviewGround, ...]] = {
    "justified": ("emergency-confirmed", "duty-of-care", "other"),
    "unjustified": ("no-emergency", "no-treatment-relation", "beyond-need", "other"),
}
# By how much the clocks of two replicas may differ, of which one sees what the other has granted.
CLOCK_SKEW_MAX = timedelta(minutes=1)

_ID = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.[0-9a-f]{8,32}")


@dataclass(frozen=True)
class Grant:
    """Let someone act on a patient's data. Without `valid_from` it begins when it is granted.

    With a `role` it is those who hold it at the grantee, a member.
    `grantee_kind` is what the key ring says the grantee is, None if it is not registered; `expected_kind` is
    what the asker takes it for, None if that was not said.
    """

    consent: str
    patient: str
    grantee: str
    actions: tuple[Action, ...]
    purposes: tuple[Purpose, ...]
    valid_from: datetime | None
    valid_until: datetime
    expected_kind: PartyKind | None = None
    grantee_kind: PartyKind | None = None
    role: RecipientRole | None = None


@dataclass(frozen=True)
class Revoke:
    """Take a consent back."""

    consent: str
    patient: str


@dataclass(frozen=True)
class Link:
    """Say that a party is the patient. `is_patient` tells whether the party holds the role patient."""

    patient: str
    did: str
    is_patient: bool


@dataclass(frozen=True)
class Unlink:
    """Say that a party is not the patient, or not any more."""

    patient: str
    did: str


@dataclass(frozen=True)
class Review:
    """Judge an emergency access; whoever finds it unjustified says why."""

    decision: str
    patient: str
    outcome: Outcome
    ground: ReviewGround | None = None


Command = Grant | Revoke | Link | Unlink | Review | DecideCase | Forbid | Lift


def decide(  # noqa: C901, PLR0911  # one per command
    state: PatientState, command: Command, *, actor: Asking, subject: SubjectState, at: datetime
) -> EventData:
    """Return the event that the command becomes.

    Raises:
        Refusal: with one of the codes not-permitted, unknown-patient, patient-erased, consent-exists,
            unknown-grantee, grantee-differs, role-without-member, invalid-period, unknown-consent,
            consent-revoked, too-many, already-linked, not-a-patient, not-linked, unknown-glass-break,
            already-reviewed, own-access, ground-missing, ground-differs, unknown-case, already-decided,
            unknown-prohibition, prohibition-lifted.
    """
    match command:
        case Grant():
            return _grant(state, command, actor=actor, subject=subject, at=at)
        case Revoke():
            require(Act.REVOKE, actor, about=None, state=state, subject=subject)
            if found_consent(state, command.consent).revoked_epoch is not None:
                raise Refusal("consent-revoked", "the consent was taken back already")
            return ConsentRevoked(
                consent=command.consent,
                patient=command.patient,
                epoch=state.epoch + 1,
                request=actor.request,
            )
        case Link():
            return _link(state, command, actor=actor, subject=subject)
        case Unlink():
            require(Act.UNLINK, actor, about=command.did, state=state, subject=subject)
            if command.did not in state.dids:
                raise Refusal("not-linked", "this party is not known to be the patient", status=404)
            return PatientUnlinked(
                patient=command.patient, did=command.did, epoch=state.epoch + 1, request=actor.request
            )
        case Review():
            return _review(state, command, actor=actor, subject=subject)
        case DecideCase():
            return decide_case(state, command, actor=actor, subject=subject, at=at)
        case Forbid():
            return forbid(state, command, actor=actor, subject=subject, at=at)
        case Lift():
            return lift(state, command, actor=actor, subject=subject)
        case _:
            assert_never(command)


def patient_of(identifier: str) -> str:
    """Return the pseudonym that a consent's or decision's id begins with; raises Refusal `unknown-id`."""
    match = _ID.fullmatch(identifier)
    if match is None:
        raise Refusal("unknown-id", "nothing has an id of that form", status=404)
    return f"urn:uuid:{match[1]}"


def identifier_under(patient: str, *, suffix: str) -> str:
    """Return an id that begins with the patient's UUID; `suffix` is 8 to 32 hex digits, random or derived."""
    return f"{patient.removeprefix('urn:uuid:')}.{suffix}"


Term = Literal["grantee", "role", "actions", "purposes", "valid_from", "valid_until"]


def differing_terms(consent: Consent, command: Grant, *, at: datetime) -> tuple[Term, ...]:
    """Return in what a consent is not what the command would have granted; none: it is the same grant.

    A command without a start, given again, means a consent that has begun.
    """
    began = consent.valid_from <= at + CLOCK_SKEW_MAX
    same: dict[Term, bool] = {
        "grantee": consent.grantee == command.grantee,
        "role": consent.role == command.role,
        "actions": set(consent.actions) == set(command.actions),
        "purposes": set(consent.purposes) == set(command.purposes),
        "valid_from": began if command.valid_from is None else consent.valid_from == command.valid_from,
        "valid_until": consent.valid_until == command.valid_until,
    }
    return tuple(term for term, is_same in same.items() if not is_same)


def require_in_force(consent: Consent, *, at: datetime) -> None:
    """Raise unless a consent still stands: whoever finds its grant done is told so only then.

    Raises:
        Refusal: `consent-revoked` or `consent-over`.
    """
    if consent.revoked_epoch is not None:
        raise Refusal("consent-revoked", f"the consent {consent.id} was granted and then taken back")
    if consent.valid_until <= at:
        raise Refusal("consent-over", f"the consent {consent.id} was granted and is over")


def _grant(
    state: PatientState, command: Grant, *, actor: Asking, subject: SubjectState, at: datetime
) -> ConsentGranted:
    require(Act.GRANT, actor, about=command.grantee, state=state, subject=subject)
    if subject.erased:
        raise Refusal("patient-erased", "the patient's record is gone; there is nothing to consent to")
    if is_listed(state, command.consent):
        raise Refusal("consent-exists", "a consent or prohibition of this id was stated already")
    require_recipient(command.grantee_kind, expected=command.expected_kind, role=command.role)
    start = command.valid_from or at
    if not max(start, at) < command.valid_until:
        raise Refusal("invalid-period", "the consent ends before it begins, or is over already", status=422)
    if command.valid_until - start > timedelta(days=CONSENT_DAYS_MAX):
        raise Refusal("invalid-period", f"a consent lasts {CONSENT_DAYS_MAX} days at most", status=422)
    return ConsentGranted(
        consent=command.consent,
        patient=command.patient,
        grantee=command.grantee,
        actions=tuple(sorted(set(command.actions))),
        purposes=tuple(sorted(set(command.purposes))),
        valid_from=start,
        valid_until=command.valid_until,
        epoch=state.epoch,
        displaces=_displaced(state, at=at),
        role=command.role,
        request=actor.request,
    )


def _displaced(state: PatientState, *, at: datetime) -> str | None:
    """Return the consent that is listed no longer so that there is room: the first that is over."""
    if len(state.consents) < CONSENTS_MAX:
        return None
    for consent in state.consents:
        if consent.revoked_epoch is not None or consent.valid_until <= at:
            return consent.id
    raise Refusal("too-many", f"a patient has at most {CONSENTS_MAX} consents in force; take one back")


def _link(state: PatientState, command: Link, *, actor: Asking, subject: SubjectState) -> PatientLinked:
    require(Act.LINK, actor, about=command.did, state=state, subject=subject)
    if not command.is_patient:
        raise Refusal("not-a-patient", "the party is not a person with the role patient", status=422)
    if command.did in state.dids:
        raise Refusal("already-linked", "this party is known to be the patient already")
    if len(state.dids) >= LINKS_MAX:
        raise Refusal("too-many", f"a patient has at most {LINKS_MAX} parties; unlink one")
    return PatientLinked(patient=command.patient, did=command.did, request=actor.request)


def _review(
    state: PatientState, command: Review, *, actor: Asking, subject: SubjectState
) -> GlassBreakReviewed:
    broken = next((b for b in state.glass_breaks if b.decision == command.decision), None)
    principal = None if broken is None else broken.principal
    require(Act.REVIEW, actor, about=principal, state=state, subject=subject)
    if broken is None:
        raise Refusal("unknown-glass-break", "no emergency access has this decision id", status=404)
    if broken.outcome is not None:
        raise Refusal("already-reviewed", "the emergency access was reviewed already")
    require_ground(command.outcome, command.ground)
    return GlassBreakReviewed(
        decision=command.decision,
        patient=command.patient,
        reviewer=actor.did,
        outcome=command.outcome,
        ground=command.ground,
        request=actor.request,
    )


def require_ground(outcome: Outcome, ground: ReviewGround | None) -> None:
    """Raise unless a ground is given where somebody is blamed, and is one of that outcome.

    Raises:
        Refusal: `ground-missing` or `ground-differs`.
    """
    if ground is None and outcome == "unjustified":
        raise Refusal("ground-missing", "ground: say why the access was not justified", status=422)
    if ground is not None and ground not in GROUNDS[outcome]:
        why = f"ground: {ground} is no ground for {outcome}, which has {', '.join(GROUNDS[outcome])}"
        raise Refusal("ground-differs", why, status=422)


def found_consent(state: PatientState, consent: str) -> Consent:
    """Return a consent of the patient; raises Refusal `unknown-consent`."""
    for candidate in state.consents:
        if candidate.id == consent:
            return candidate
    raise Refusal("unknown-consent", "there is no such consent", status=404)


def require_room_for_emergency(state: PatientState, broken: GlassBroken) -> None:
    """Raise unless the glass may be broken for this patient once more.

    What awaits review stays in the patient's state, which is read for each question about her.

    Raises:
        Refusal: `too-many-unreviewed`.
    """
    more = GlassBreak(broken.decision, broken.principal, member=broken.request.behalf)
    waiting = [other for other in state.glass_breaks if other.outcome is None]
    own = sum(other.principal == more.principal for other in waiting)
    shared = sum(other.organisation == more.organisation for other in waiting)
    for number, most, whose in (
        (own, UNREVIEWED_MAX, "your"),
        (shared, UNREVIEWED_OF_ORGANISATION_MAX, "your organisation's"),
        (len(waiting), UNREVIEWED_OF_PATIENT_MAX, "all"),
    ):
        if number >= most:
            why = f"{most} of {whose} emergency accesses to this patient await review; have some reviewed"
            raise Refusal("too-many-unreviewed", why)
