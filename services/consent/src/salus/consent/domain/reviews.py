"""When an emergency access is called overdue, and what the list of those that await review has. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any

from salus.access.emergencies import GlassBreak, owed_escalations
from salus.access.state import PatientState
from salus.consent.domain.consents import patient_of
from salus.events.contexts.consent_oversight import ReviewOverdue
from salus.events.fields import microseconds
from salus.events.requests import Request

OPEN, OVERDUE = "open", "overdue"


def owed(state: PatientState) -> Collection[str]:
    """Return the decisions whose reviews are awaited, and were not called overdue."""
    return owed_escalations(state.glass_breaks)


def falls_due(state: PatientState, decision: str) -> datetime:
    """Return when a review that is awaited is overdue."""
    return _due(_awaiting(state, decision))


def escalation(state: PatientState, decision: str, *, request: Request) -> ReviewOverdue:
    """Return the event that nobody reviewed an emergency access in time."""
    broken = _awaiting(state, decision)
    return ReviewOverdue(
        decision=decision,
        patient=patient_of(decision),
        principal=broken.principal,
        due=_due(broken),
        request=request,
    )


def review_rows(state: PatientState) -> Iterable[Mapping[str, Any]]:
    """Return what the list has of a patient: the accesses that await review."""
    return (
        {
            "decision": broken.decision,
            "steward": broken.steward or "",
            "status": OVERDUE if broken.is_overdue else OPEN,
            "due_us": microseconds(_due(broken)),
        }
        for broken in state.glass_breaks
        if broken.outcome is None
    )


def _awaiting(state: PatientState, decision: str) -> GlassBreak:
    return next(b for b in state.glass_breaks if b.decision == decision and b.outcome is None)


def _due(broken: GlassBreak) -> datetime:
    # Whatever is folded has one.
    assert broken.due is not None  # noqa: S101
    return broken.due
