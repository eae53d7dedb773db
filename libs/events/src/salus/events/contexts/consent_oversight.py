"""What waits for a person, as consent states it: accesses to allow or refuse, and what nobody did in time."""

from __future__ import annotations

from functools import partial
from typing import Literal

from salus.events.contexts.consent import CONSENT, CONTEXT, Action, AskedQuestion
from salus.events.event_types import Retention
from salus.events.fields import Did, Moment, Pseudonym, Purpose
from salus.events.names import Name
from salus.events.patient_rights import is_privacy_officer
from salus.events.requests import RequestedData
from salus.events.signed_request import Asked, Body

_event = partial(CONTEXT.event, owner=CONSENT, retention=Retention.ACCESS, subject_field="patient")


@_event(
    "salus.consent.review-overdue.v1",
    changes=True,
    claims=lambda data: (f"overdue:{data.decision}",),
    unasked=True,
)
class ReviewOverdue(RequestedData):
    """Nobody has reviewed an emergency access, or decided a case, by the time that it was due."""

    decision: Name
    patient: Pseudonym
    principal: Did
    due: Moment


CaseGround = Literal["needed", "not-needed", "too-much", "wrong-purpose", "other"]


@_event(
    "salus.consent.case-opened.v1",
    changes=True,
    claims=lambda data: (f"case:{data.case}",),
    accompanies=True,
)
class CaseOpened(RequestedData):
    """Somebody asked for an access that a policy leaves to a person; it waits for a privacy officer."""

    case: Name
    principal: Did
    action: Action
    object: Name
    patient: Pseudonym
    purpose: Purpose
    opened_at: Moment
    due: Moment
    steward: Did


@_event(
    "salus.consent.case-decided.v1",
    changes=True,
    claims=lambda data: (f"case-decided:{data.case}",),
    # As of a review.
    asker=lambda _, party: is_privacy_officer(party),
)
class CaseDecided(RequestedData):
    """A privacy officer allowed or refused an access that waited for her, and `ground` says why.

    What was asked for is allowed until `valid_until`, as far as policies and consents allow it then.
    """

    case: Name
    patient: Pseudonym
    reviewer: Did
    outcome: Literal["approved", "rejected"]
    ground: CaseGround
    valid_until: Moment | None = None


CONTEXT.form("POST", "cases", None, "decide", body_bytes_max=1024)


class _Judgement(Body):
    outcome: str
    ground: str


@CONTEXT.asked(CaseOpened)
def _opens(asked: Asked, data: CaseOpened) -> bool:
    body = asked.read(AskedQuestion)
    return (
        asked.is_("POST", "decisions")
        and body is not None
        and body.break_glass is None
        and (body.action, body.object, body.patient, body.purpose)
        == (data.action, data.object, data.patient, data.purpose)
        and data.request.by == data.principal
    )


@CONTEXT.asked(CaseDecided)
def _decides(asked: Asked, data: CaseDecided) -> bool:
    body = asked.read(_Judgement)
    return (
        asked.is_("POST", "cases", data.case, "decide")
        and body is not None
        and (body.outcome, body.ground) == (data.outcome, data.ground)
        and data.request.by == data.reviewer
    )
