"""Refuses, by the table of `salus.events.patient_rights`, what may not be done for a patient. Pure."""

from __future__ import annotations

from typing import assert_never

from salus.access.actors import Actor
from salus.access.prohibitions import Prohibition
from salus.access.state import Consent, PatientState, SubjectState
from salus.events.patient_rights import (
    Act,
    Permission,
    Relation,
    objection,
    permission_of,
    relation_to,
    stewarding,
)
from salus.events.recipients import recipients_of
from salus.runtime.refusal import Refusal


def relation_of(actor: Actor, state: PatientState, subject: SubjectState) -> Relation:
    """Return what somebody is to a patient."""
    return relation_to(actor, linked=state.dids, steward=subject.steward)


def require(act: Act, actor: Actor, *, about: str | None, state: PatientState, subject: SubjectState) -> None:
    """Raise Refusal unless the actor may do this, about the party of that DID.

    Raises:
        Refusal: `unknown-patient`, `not-permitted` or `own-access`.
    """
    relation = relation_of(actor, state, subject)
    if subject.steward is None and relation is not Relation.PATIENT:
        raise Refusal("unknown-patient", "no record was registered under this pseudonym", status=404)
    permission = permission_of(act, actor, about=about, relation=relation)
    match permission:
        case Permission.GIVEN:
            return
        case Permission.DENIED:
            raise Refusal("not-permitted", objection(act, permission), status=403)
        case Permission.OWN:
            raise Refusal("own-access", objection(act, permission), status=403)
        case _:
            assert_never(permission)


def sees_all(actor: Actor, state: PatientState, subject: SubjectState) -> bool:
    """Tell whether all that was said of the patient is the actor's business."""
    relation = relation_of(actor, state, subject)
    return permission_of(Act.SEE, actor, about=None, relation=relation) is Permission.GIVEN


def steward_of(actor: Actor) -> str:
    """Return the member whose patients' reviews are the actor's business.

    Raises:
        Refusal: `not-permitted`.
    """
    member = stewarding(actor)
    if member is None:
        why = "a member lists what awaits its reviews, by its own key or a privacy officer"
        raise Refusal("not-permitted", why, status=403)
    return member


def visible_consents(actor: Actor, state: PatientState, subject: SubjectState) -> tuple[Consent, ...]:
    """Return the consents that are the actor's business.

    The patient, her steward and its privacy officers see all; a grantee sees what was granted to it, to the
    member it acts for or to a role that it holds there. A member sees what was granted to its roles.
    """
    if sees_all(actor, state, subject):
        return state.consents
    own = recipients_of(actor)
    return tuple(one for one in state.consents if one.recipient in own or one.grantee == actor.did)


def visible_prohibitions(actor: Actor, state: PatientState, subject: SubjectState) -> tuple[Prohibition, ...]:
    """Return the prohibitions that are the actor's business: all of the patient's, or none.

    Whom she forbids is told when they ask; whom else she does is nobody's business.
    """
    return state.prohibitions if sees_all(actor, state, subject) else ()
