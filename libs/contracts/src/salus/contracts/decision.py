"""A decision of consent, as the service that it is meant for knows it, and when it still allows; pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from salus.events.fields import Purpose
from salus.events.parties import Party
from salus.runtime.refusal import Refusal


@dataclass(frozen=True, slots=True)
class Attempt:
    """Who tries, when, and the patient's consent epoch at that moment."""

    caller: Party
    at: datetime
    epoch: int


@dataclass(frozen=True, slots=True)
class Decision:
    """A decision of consent, read from a token whose signature was verified.

    It says what consent decided, and allows nothing by itself: `require_decision` says whether it still
    stands, and for whom and what. `roles` are those that the principal held when it was decided.
    """

    id: str
    principal: str
    action: str
    object: str
    patient: str
    purpose: Purpose
    epoch: int
    break_glass: bool
    roles: frozenset[str]
    expires: datetime


def require_decision(
    decision: Decision,
    *,
    action: str,
    object: str,  # noqa: A002  # the catalogue's name
    patient: str,
    attempt: Attempt,
) -> None:
    """Raise Refusal unless the decision is about exactly this, for this caller, and still stands."""
    if decision.principal != attempt.caller.did:
        raise Refusal("wrong-holder", "the decision was given to someone else", status=403)
    if decision.action != action:
        raise Refusal("wrong-action", f"the decision does not allow to {action}", status=403)
    if decision.object != object or decision.patient != patient:
        raise Refusal("wrong-object", "the decision is about another object or patient", status=403)
    if attempt.at >= decision.expires:
        raise Refusal("decision-expired", "the decision has expired; ask consent again", status=403)
    if not decision.roles <= attempt.caller.roles:
        raise Refusal("role-lost", "the caller lost a role since the decision; ask consent again", status=403)
    if not attempt.caller.roles <= decision.roles:
        # The patient may forbid this to who holds the role, and an operator reads nothing.
        why = "the caller was given a role since the decision; ask consent again"
        raise Refusal("role-gained", why, status=403)
    if decision.epoch < attempt.epoch:
        raise Refusal(
            "decision-outdated", "a right was taken back since the decision; ask consent again", status=403
        )
