"""Accesses that a policy leaves to a person: what waits, and what was allowed, for how long. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Literal, Protocol

import msgspec

from salus.events.contexts.consent import Action
from salus.events.contexts.consent_oversight import CaseDecided, CaseGround, CaseOpened, ReviewOverdue
from salus.events.fields import Purpose

CaseOutcome = Literal["approved", "rejected"]
# Decided cases that are still listed; the ledger has all of them.
DECIDED_MAX = 1000


class Wanted(Protocol):
    """A question, as far as a case is about it."""

    @property
    def action(self) -> Action:
        """What is to be done."""

    @property
    def object(self) -> str:
        """To which object."""

    @property
    def purpose(self) -> Purpose:
        """And what for."""


class Case(msgspec.Struct, frozen=True, omit_defaults=True):
    """An access that waits for a person, and what became of it.

    `is_overdue` tells whether it was stated that nobody had decided it when that was due.
    """

    id: str
    principal: str
    action: Action
    object: str
    purpose: Purpose
    opened_at: datetime
    due: datetime
    steward: str
    member: str | None = None
    outcome: CaseOutcome | None = None
    valid_until: datetime | None = None
    is_overdue: bool = False
    reviewer: str | None = None
    ground: CaseGround | None = None

    @property
    def organisation(self) -> str:
        """The member that the principal acted for, or the principal itself."""
        return self.member or self.principal

    def is_about(self, wanted: Wanted, principal: str) -> bool:
        """Tell whether a question is just what the case is about: the same act by the same party."""
        own = self.principal, self.action, self.object, self.purpose
        return own == (principal, wanted.action, wanted.object, wanted.purpose)

    def allows(self, at: datetime) -> bool:
        """Tell whether a person allowed it, and that holds at this moment."""
        return self.outcome == "approved" and self.valid_until is not None and at < self.valid_until


def evolve_cases(
    known: tuple[Case, ...], event: CaseOpened | CaseDecided | ReviewOverdue
) -> tuple[Case, ...]:
    """Return the cases that are listed after an event."""
    match event:
        case CaseOpened() if any(one.id == event.case for one in known):
            return known
        case CaseOpened():
            return (*known, _opened(event))
        case CaseDecided():
            return _listed(tuple(_decided(one, event) for one in known))
        case ReviewOverdue():
            return tuple(_called_overdue(one, event) for one in known)


def case_of(known: Iterable[Case], wanted: Wanted, *, principal: str, at: datetime) -> Case | None:
    """Return the case that a question goes by: one that allows it now, else one that waits."""
    own = [one for one in known if one.is_about(wanted, principal)]
    allowing = [one for one in own if one.allows(at)]
    waiting = [one for one in own if one.outcome is None]
    return next(iter([*allowing, *waiting]), None)


def _opened(event: CaseOpened) -> Case:
    return Case(
        event.case,
        event.principal,
        event.action,
        event.object,
        event.purpose,
        event.opened_at,
        event.due,
        event.steward,
        member=event.request.behalf,
    )


def _decided(one: Case, event: CaseDecided) -> Case:
    if one.id != event.case or one.outcome is not None:
        return one
    return msgspec.structs.replace(
        one,
        outcome=event.outcome,
        valid_until=event.valid_until,
        reviewer=event.reviewer,
        ground=event.ground,
    )


def _called_overdue(one: Case, event: ReviewOverdue) -> Case:
    is_it = one.id == event.decision and one.outcome is None
    return msgspec.structs.replace(one, is_overdue=True) if is_it else one


def _listed(known: tuple[Case, ...]) -> tuple[Case, ...]:
    """Return all that wait, and the last DECIDED_MAX of the others."""
    decided = [one.id for one in known if one.outcome is not None]
    old = set(decided[: max(0, len(decided) - DECIDED_MAX)])
    return tuple(one for one in known if one.id not in old)
