"""What waits for a person, as consent states it: emergency accesses that nobody reviewed in time."""

from __future__ import annotations

from functools import partial

from salus.events.contexts.consent import CONSENT, CONTEXT
from salus.events.event_types import Retention
from salus.events.fields import Did, Moment, Pseudonym, Text
from salus.events.requests import RequestedData

_event = partial(CONTEXT.event, owner=CONSENT, retention=Retention.ACCESS, subject_field="patient")


@_event(
    "salus.consent.review-overdue.v1",
    changes=True,
    claims=lambda data: (f"overdue:{data.decision}",),
    unasked=True,
)
class ReviewOverdue(RequestedData):
    """Nobody has reviewed an emergency access by the time that its review was due."""

    decision: Text
    patient: Pseudonym
    principal: Did
    due: Moment
