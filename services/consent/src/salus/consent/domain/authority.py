"""Who may speak for a patient, and whose business her consents are. Pure.

Every right is judged by what the key ring says now: a link to a patient gives nothing to a party that does
not hold the role patient any more. Whoever could gain a right by an act needs that right already, so nobody
acts for a patient's steward where they would act for themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

from salus.consent.domain.state import Consent, PatientState, SubjectState
from salus.events.requests import Request
from salus.runtime.refusal import Refusal

# Roles by which a person may use what is granted to the member that it acts for.
_ROLES_THAT_USE = frozenset({"clinician", "researcher"})


@dataclass(frozen=True)
class Actor:
    """Who asks: an authenticated party."""

    did: str
    kind: str
    roles: frozenset[str]
    member: str | None


@dataclass(frozen=True)
class Asking(Actor):
    """Who gives a command, with what they signed."""

    request: Request


def acts_as_patient(actor: Actor, state: PatientState) -> bool:
    """Tell whether the actor is the patient: linked to her, and holding the role patient now."""
    return actor.did in state.dids and is_patient(actor.kind, actor.roles)


def is_patient(kind: str, roles: frozenset[str]) -> bool:
    """Tell whether a party may be a patient at all."""
    return kind == "person" and "patient" in roles


def acts_for_steward(actor: Actor, state: PatientState, subject: SubjectState) -> bool:
    """Tell whether the actor acts for the patient's steward: by its own key, or as its privacy officer.

    Its other people do not. Nobody does who is linked to the patient: she would act for herself.
    """
    member = actor.kind == "member" and actor.did == subject.steward
    return member or is_officer(actor, state, subject)


def is_officer(actor: Actor, state: PatientState, subject: SubjectState) -> bool:
    """Tell whether the actor is a privacy officer of the steward who is not linked to the patient."""
    return (
        subject.steward is not None
        and actor.kind == "person"
        and actor.member == subject.steward
        and "privacy-officer" in actor.roles
        and actor.did not in state.dids
    )


def visible_consents(actor: Actor, state: PatientState, subject: SubjectState) -> tuple[Consent, ...]:
    """Return the consents that are the actor's business.

    The patient, her steward and its privacy officers see all; a grantee sees what was granted to it or to
    the member it acts for.
    """
    if sees_all(actor, state, subject):
        return state.consents
    own = {actor.did, actor.member}
    return tuple(consent for consent in state.consents if consent.grantee in own)


def sees_all(actor: Actor, state: PatientState, subject: SubjectState) -> bool:
    """Tell whether the actor is the patient, or acts for her steward."""
    return acts_as_patient(actor, state) or acts_for_steward(actor, state, subject)


def require_known(subject: SubjectState) -> None:
    """Raise Refusal `unknown-patient` unless storage registered the patient."""
    if subject.steward is None:
        raise Refusal("unknown-patient", "no record was registered under this pseudonym", status=404)


def require_speaks_for(actor: Actor, state: PatientState, subject: SubjectState) -> None:
    """Raise Refusal unless the actor is the patient, or acts for her steward."""
    if acts_as_patient(actor, state):
        return
    require_known(subject)
    if not acts_for_steward(actor, state, subject):
        raise Refusal("not-permitted", "neither the patient nor her steward", status=403)


def require_may_grant(actor: Actor, grantee: str, *, state: PatientState, subject: SubjectState) -> None:
    """Raise Refusal unless the actor speaks for the patient and, if as an officer, gains nothing by it."""
    require_speaks_for(actor, state, subject)
    if acts_as_patient(actor, state) or not is_officer(actor, state, subject):
        return
    own = grantee == actor.did or (grantee == actor.member and bool(actor.roles & _ROLES_THAT_USE))
    if own:
        raise Refusal("own-access", "an officer grants nothing to herself; another one does", status=403)


def require_may_link(actor: Actor, did: str, *, state: PatientState, subject: SubjectState) -> None:
    """Raise Refusal unless the actor may say that the party is the patient.

    Only the steward, who knows the person behind the pseudonym, can say who she is; she herself cannot.
    """
    require_known(subject)
    if not acts_for_steward(actor, state, subject):
        raise Refusal("not-permitted", "only the patient's steward says which party she is", status=403)
    if actor.did == did:
        raise Refusal("own-access", "nobody says of themselves that they are a patient", status=403)


def require_may_unlink(actor: Actor, did: str, *, state: PatientState, subject: SubjectState) -> None:
    """Raise Refusal unless the actor acts for the steward, or gives up what is its own."""
    if actor.did != did and not acts_for_steward(actor, state, subject):
        raise Refusal("not-permitted", "neither the patient's steward nor the party itself", status=403)
