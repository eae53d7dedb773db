"""Who may do what for a patient: a table, from which the rules and `docs/rights.md` are made. Pure.

Every right is judged by what the key ring says now: a link to a patient gives nothing to a party that does
not hold the role patient any more. Whoever could gain a right by an act needs that right already, so nobody
acts for a patient's steward where they would act for themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

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


class Act(StrEnum):
    """What is done."""

    GRANT = "grant a consent"
    REVOKE = "take a consent back"
    LINK = "say that a party is the patient"
    UNLINK = "say that it is not"
    REVIEW = "review an emergency access"
    SEE = "see all her consents, parties and emergency accesses"


class Relation(StrEnum):
    """What somebody is to a patient; the first that fits."""

    PATIENT = "the patient"
    LINKED = "linked to her, without the role patient"
    STEWARD = "her steward"
    OFFICER = "its privacy officer"
    OTHER = "anybody else"


class Concern(StrEnum):
    """Whom the act is about: the consent's grantee, the linked party, who had the access."""

    ANOTHER = "another"
    ONESELF = "oneself"


class Permission(StrEnum):
    """Whether it may be done; what may not is refused with `not-permitted`, or the code that is named."""

    GIVEN = "yes"
    DENIED = "no"
    OWN = "no: `own-access`"


YES, NO, OWN = Permission.GIVEN, Permission.DENIED, Permission.OWN

# In the order of `Relation`: patient, linked without the role, steward, its officer, anybody else.
_ROWS: Mapping[Act, Mapping[Concern, tuple[Permission, Permission, Permission, Permission, Permission]]] = {
    Act.GRANT: {Concern.ANOTHER: (YES, NO, YES, YES, NO), Concern.ONESELF: (YES, NO, YES, OWN, NO)},
    Act.REVOKE: {Concern.ANOTHER: (YES, NO, YES, YES, NO), Concern.ONESELF: (YES, NO, YES, YES, NO)},
    Act.LINK: {Concern.ANOTHER: (NO, NO, YES, YES, NO), Concern.ONESELF: (NO, NO, OWN, OWN, NO)},
    Act.UNLINK: {Concern.ANOTHER: (NO, NO, YES, YES, NO), Concern.ONESELF: (YES, YES, YES, YES, NO)},
    Act.REVIEW: {Concern.ANOTHER: (NO, NO, NO, YES, NO), Concern.ONESELF: (NO, NO, NO, OWN, NO)},
    Act.SEE: {Concern.ANOTHER: (YES, NO, YES, YES, NO), Concern.ONESELF: (YES, NO, YES, YES, NO)},
}
RIGHTS: Mapping[tuple[Act, Concern, Relation], Permission] = {
    (act, concern, relation): permission
    for act, concerns in _ROWS.items()
    for concern, permissions in concerns.items()
    for relation, permission in zip(Relation, permissions, strict=True)
}
# Only the steward, who knows the person behind the pseudonym, can say who she is; she herself cannot.
_WHO: Mapping[Act, str] = {
    Act.GRANT: "neither the patient nor her steward",
    Act.REVOKE: "neither the patient nor her steward",
    Act.LINK: "only the patient's steward says which party she is",
    Act.UNLINK: "neither the patient's steward nor the party itself",
    Act.REVIEW: "a privacy officer of the patient's steward reviews",
    Act.SEE: "neither the patient nor her steward",
}


def relation_of(actor: Actor, state: PatientState, subject: SubjectState) -> Relation:
    """Return what somebody is to a patient.

    A steward acts by its own key and by its privacy officers; its other people do not act for it. Nobody does
    who is linked to the patient, with the role patient or without: she would act for herself.
    """
    if actor.did in state.dids:
        return Relation.PATIENT if is_patient(actor.kind, actor.roles) else Relation.LINKED
    if subject.steward is None:
        return Relation.OTHER
    if actor.kind == "member" and actor.did == subject.steward:
        return Relation.STEWARD
    officer = actor.kind == "person" and "privacy-officer" in actor.roles
    return Relation.OFFICER if officer and actor.member == subject.steward else Relation.OTHER


def is_patient(kind: str, roles: frozenset[str]) -> bool:
    """Tell whether a party may be a patient at all."""
    return kind == "person" and "patient" in roles


def require(act: Act, actor: Actor, *, about: str | None, state: PatientState, subject: SubjectState) -> None:
    """Raise Refusal unless the actor may do this, about the party of that DID.

    Raises:
        Refusal: `unknown-patient`, `not-permitted` or `own-access`.
    """
    relation = relation_of(actor, state, subject)
    if subject.steward is None and relation is not Relation.PATIENT:
        raise Refusal("unknown-patient", "no record was registered under this pseudonym", status=404)
    match RIGHTS[act, _concern(actor, about), relation]:
        case Permission.GIVEN:
            return
        case Permission.DENIED:
            raise Refusal("not-permitted", _WHO[act], status=403)
        case Permission.OWN:
            why = "it is about yourself: another officer, or the steward itself, does that"
            raise Refusal("own-access", why, status=403)


def sees_all(actor: Actor, state: PatientState, subject: SubjectState) -> bool:
    """Tell whether all that was said of the patient is the actor's business."""
    relation = relation_of(actor, state, subject)
    return RIGHTS[Act.SEE, Concern.ANOTHER, relation] is Permission.GIVEN


def visible_consents(actor: Actor, state: PatientState, subject: SubjectState) -> tuple[Consent, ...]:
    """Return the consents that are the actor's business.

    The patient, her steward and its privacy officers see all; a grantee sees what was granted to it or to
    the member it acts for.
    """
    if sees_all(actor, state, subject):
        return state.consents
    own = {actor.did, actor.member}
    return tuple(consent for consent in state.consents if consent.grantee in own)


def _concern(actor: Actor, about: str | None) -> Concern:
    """Tell whether what is about a party is about the actor: also what is given to the member it uses."""
    if about is None:
        return Concern.ANOTHER
    uses = actor.kind == "person" and about == actor.member and bool(actor.roles & _ROLES_THAT_USE)
    return Concern.ONESELF if about == actor.did or uses else Concern.ANOTHER
