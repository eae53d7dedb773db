"""The law of prohibitions: who may forbid for a patient and lift it again, and what follows. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from salus.access.actors import Asking
from salus.access.prohibitions import Prohibition
from salus.access.state import PatientState, SubjectState, is_listed
from salus.consent.domain.rights import require
from salus.events.contexts.consent import Action
from salus.events.contexts.consent_prohibitions import AccessProhibited, ProhibitionLifted
from salus.events.contexts.identity import PartyKind
from salus.events.fields import Purpose
from salus.events.patient_rights import Act, lifted_from
from salus.events.recipients import RecipientRole
from salus.runtime.refusal import Refusal

# They are looked through for each question about the patient that they concern.
PROHIBITIONS_MAX = 200


@dataclass(frozen=True)
class Forbid:
    """Forbid a party, or everybody, to act on a patient's data. Without `valid_from` it begins now.

    With a `role` it is about those who hold it at the party, a member.
    `party_kind` is what the key ring says the party is, None if it is not registered; `expected_kind` is what
    the asker takes it for, None if that was not said.
    """

    prohibition: str
    patient: str
    party: str | None = None
    actions: tuple[Action, ...] = ()
    purposes: tuple[Purpose, ...] = ()
    valid_from: datetime | None = None
    valid_until: datetime | None = None
    expected_kind: PartyKind | None = None
    party_kind: PartyKind | None = None
    role: RecipientRole | None = None


@dataclass(frozen=True)
class Lift:
    """Let a prohibition forbid nothing any more."""

    prohibition: str
    patient: str


def forbid(
    state: PatientState, command: Forbid, *, actor: Asking, subject: SubjectState, at: datetime
) -> AccessProhibited:
    """Return the event of a prohibition.

    Raises:
        Refusal: with one of the codes not-permitted, unknown-patient, patient-erased, consent-exists,
            unknown-grantee, grantee-differs, role-without-member, invalid-period, too-many.
    """
    require(Act.FORBID, actor, about=command.party, state=state, subject=subject)
    if subject.erased:
        raise Refusal("patient-erased", "the patient's record is gone; there is nothing to forbid")
    if is_listed(state, command.prohibition):
        raise Refusal("consent-exists", "a consent or prohibition of this id was stated already")
    if command.party is None and command.role is not None:
        why = "role: a role is held at a member, so name that as the party"
        raise Refusal("role-without-member", why, status=422)
    if command.party is not None:
        require_recipient(command.party_kind, expected=command.expected_kind, role=command.role)
    start = command.valid_from or at
    if command.valid_until is not None and not max(start, at) < command.valid_until:
        raise Refusal("invalid-period", "it ends before it begins, or is over already", status=422)
    return AccessProhibited(
        prohibition=command.prohibition,
        patient=command.patient,
        party=command.party,
        actions=tuple(sorted(set(command.actions))),
        purposes=tuple(sorted(set(command.purposes))),
        valid_from=start,
        valid_until=command.valid_until,
        epoch=state.epoch + 1,
        displaces=_displaced(state),
        role=command.role,
        request=actor.request,
    )


def lift(state: PatientState, command: Lift, *, actor: Asking, subject: SubjectState) -> ProhibitionLifted:
    """Return the event that lifts a prohibition.

    Raises:
        Refusal: with one of the codes not-permitted, own-access, unknown-patient, unknown-prohibition,
            prohibition-lifted.
    """
    found = next((one for one in state.prohibitions if one.id == command.prohibition), None)
    about = lifted_from(actor, None if found is None else found.party)
    require(Act.LIFT, actor, about=about, state=state, subject=subject)
    if found is None:
        raise _unknown()
    if found.lifted:
        raise Refusal("prohibition-lifted", "the prohibition was lifted already")
    return ProhibitionLifted(
        prohibition=found.id, patient=command.patient, party=found.party, request=actor.request
    )


def found_prohibition(state: PatientState, prohibition: str) -> Prohibition:
    """Return a prohibition of the patient; raises Refusal `unknown-prohibition`."""
    for candidate in state.prohibitions:
        if candidate.id == prohibition:
            return candidate
    raise _unknown()


def require_recipient(
    kind: PartyKind | None, *, expected: PartyKind | None, role: RecipientRole | None
) -> None:
    """Raise unless a party is registered, as what the asker takes it for, and is a member if a role is named.

    Who means one person must not mean all of a member that has this DID. A role is held at a member only: of
    anybody else it would be nobody's.

    Raises:
        Refusal: `unknown-grantee`, `grantee-differs` or `role-without-member`.
    """
    if kind is None:
        raise Refusal("unknown-grantee", "no party with the grantee's DID is registered", status=422)
    if expected not in {None, kind}:
        why = f"the grantee is registered as a {kind}, not as a {expected}"
        raise Refusal("grantee-differs", why, status=422)
    if role is not None and kind != "member":
        why = f"role: a role is held at a member, and this party is registered as a {kind}"
        raise Refusal("role-without-member", why, status=422)


ProhibitionTerm = Literal["party", "role", "actions", "purposes", "valid_from", "valid_until"]


def differing_prohibition(
    found: Prohibition, command: Forbid, *, begun_by: datetime
) -> tuple[ProhibitionTerm, ...]:
    """Return in what a prohibition is not what the command would have stated; none: it is the same one.

    A command without a start, given again, means one that has begun by that moment.
    """
    began = found.valid_from <= begun_by
    same: dict[ProhibitionTerm, bool] = {
        "party": found.party == command.party,
        "role": found.role == command.role,
        "actions": set(found.actions) == set(command.actions),
        "purposes": set(found.purposes) == set(command.purposes),
        "valid_from": began if command.valid_from is None else found.valid_from == command.valid_from,
        "valid_until": found.valid_until == command.valid_until,
    }
    return tuple(term for term, is_same in same.items() if not is_same)


def require_still_forbids(found: Prohibition, *, at: datetime) -> None:
    """Raise unless a prohibition still stands: whoever finds it done is told so only then.

    Raises:
        Refusal: `prohibition-lifted` or `prohibition-over`.
    """
    if found.lifted:
        raise Refusal("prohibition-lifted", f"the prohibition {found.id} was stated and then lifted")
    if found.is_over(at):
        raise Refusal("prohibition-over", f"the prohibition {found.id} was stated and is over")


def _unknown() -> Refusal:
    return Refusal("unknown-prohibition", "there is no such prohibition", status=404)


def _displaced(state: PatientState) -> str | None:
    """Return the prohibition that is listed no longer so that there is room: the first that was lifted."""
    if len(state.prohibitions) < PROHIBITIONS_MAX:
        return None
    for prohibition in state.prohibitions:
        if prohibition.lifted:
            return prohibition.id
    raise Refusal(
        "too-many", f"a patient has at most {PROHIBITIONS_MAX} prohibitions; lift one, if only an old one"
    )
