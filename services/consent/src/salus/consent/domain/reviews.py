"""What waits for a person, when it is called overdue, and what the list of it has. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from salus.access.state import PatientState
from salus.consent.domain.consents import patient_of
from salus.events.contexts.consent_oversight import ReviewOverdue
from salus.events.fields import microseconds
from salus.events.requests import Request

OPEN, OVERDUE = "open", "overdue"
# In the list: the event is of an older release, and names none.
STEWARD_UNNAMED = ""
Kind = Literal["emergency", "case"]


@dataclass(frozen=True)
class Awaited:
    """Something that waits for a privacy officer: an emergency access to review, or a case to decide."""

    id: str
    kind: Kind
    principal: str
    steward: str
    due: datetime
    is_overdue: bool


def awaited(state: PatientState) -> Iterator[Awaited]:
    """Yield what waits for a person about a patient."""
    for broken in state.glass_breaks:
        if broken.outcome is None:
            # Whatever is folded has one.
            assert broken.due is not None  # noqa: S101
            steward = broken.steward or STEWARD_UNNAMED
            yield Awaited(
                broken.decision, "emergency", broken.principal, steward, broken.due, broken.is_overdue
            )
    for case in state.cases:
        if case.outcome is None:
            yield Awaited(case.id, "case", case.principal, case.steward, case.due, case.is_overdue)


def owed(state: PatientState) -> Collection[str]:
    """Return the ids of what waits and was not called overdue."""
    return [one.id for one in awaited(state) if not one.is_overdue]


def falls_due(state: PatientState, identifier: str) -> datetime:
    """Return when something that waits is overdue."""
    return _awaited(state, identifier).due


def escalation(state: PatientState, identifier: str, *, request: Request) -> ReviewOverdue:
    """Return the event that no person looked at it in time."""
    one = _awaited(state, identifier)
    return ReviewOverdue(
        decision=identifier,
        patient=patient_of(identifier),
        principal=one.principal,
        due=one.due,
        request=request,
    )


def review_rows(state: PatientState) -> Iterable[Mapping[str, Any]]:
    """Return what the list has of a patient."""
    return (
        {
            "kind": one.kind,
            "decision": one.id,
            "steward": one.steward,
            "status": OVERDUE if one.is_overdue else OPEN,
            "due_us": microseconds(one.due),
        }
        for one in awaited(state)
    )


def _awaited(state: PatientState, identifier: str) -> Awaited:
    return next(one for one in awaited(state) if one.id == identifier and not one.is_overdue)
