"""What waits for a person over HTTP: the list of it, and the reviews of emergency accesses."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from fastapi.responses import Response
from pydantic import BaseModel, Field

from salus.access.cases import Case
from salus.access.emergencies import GlassBreak, Outcome
from salus.access.state import PatientState
from salus.consent import handlers
from salus.consent.api import Api, IdInPath, actor_of, asking
from salus.consent.domain.consents import Review, patient_of
from salus.consent.domain.reviews import Kind
from salus.consent.domain.rights import require, sees_all, steward_of
from salus.consent.ports import Rows
from salus.contracts.http_fields import CommandBody, PatientInPath
from salus.contracts.keyset import CURSOR_CHARS_MAX, CursorError, KeysetPage
from salus.events.contexts.consent import Action, EmergencyReason, ReviewGround
from salus.events.fields import Purpose
from salus.events.parties import Party
from salus.events.patient_rights import Act
from salus.runtime.auth import Caller
from salus.runtime.fields import PLAIN
from salus.runtime.problems import ProblemError, documented

PAGE_MAX = 200
Limit = Annotated[int, Query(ge=1, le=PAGE_MAX, description="So many at most.")]
After = Annotated[
    str | None,
    Query(max_length=CURSOR_CHARS_MAX, pattern=PLAIN, description="`next` of the page before."),
]
OnlyOverdue = Annotated[bool, Query(description="Only those that are overdue.")]


class ReviewBody(CommandBody):
    """The judgement on an emergency access."""

    outcome: Outcome
    ground: ReviewGround | None = Field(
        default=None, description="Why. Needed where the access was unjustified."
    )


class GlassBreakView(BaseModel):
    """An emergency access; without an outcome it awaits review, by `review_due` at the latest.

    `overdue` tells whether it is on the ledger that nobody had reviewed it by then.
    """

    decision: str
    principal: str
    member: str | None
    object: str
    reason: EmergencyReason | None
    broken_at: datetime | None
    review_due: datetime | None
    overdue: bool
    outcome: Outcome | None
    ground: ReviewGround | None
    reviewer: str | None

    @classmethod
    def of(cls, broken: GlassBreak) -> GlassBreakView:
        """Return the view of an emergency access."""
        return cls(
            decision=broken.decision,
            principal=broken.principal,
            member=broken.member,
            object=broken.object,
            reason=broken.reason,
            broken_at=broken.broken_at,
            review_due=broken.due,
            overdue=broken.is_overdue,
            outcome=broken.outcome,
            ground=broken.ground,
            reviewer=broken.reviewer,
        )


class AwaitedView(BaseModel):
    """What waits for a privacy officer: an emergency access to review, or a case to decide.

    `overdue` tells whether it is on the ledger that nobody had done it by `review_due`.
    """

    kind: Kind
    decision: str
    patient: str
    principal: str
    member: str | None
    action: Action
    object: str
    purpose: Purpose
    reason: EmergencyReason | None
    since: datetime | None
    review_due: datetime | None
    overdue: bool

    @classmethod
    def of(cls, one: GlassBreak | Case, *, patient: str) -> AwaitedView:
        """Return the view of what waits."""
        since: datetime | None
        if isinstance(one, Case):
            name, since, reason = one.id, one.opened_at, None
            action, purpose = one.action, one.purpose
        else:
            name, since, reason = one.decision, one.broken_at, one.reason
            action, purpose = "read", "ETREAT"
        return cls(
            kind="case" if isinstance(one, Case) else "emergency",
            decision=name,
            patient=patient,
            principal=one.principal,
            member=one.member,
            action=action,
            object=one.object,
            purpose=purpose,
            reason=reason,
            since=since,
            review_due=one.due,
            overdue=one.is_overdue,
        )


class AwaitedPage(BaseModel):
    """Some of what waits for a person, the first one due first; `next` is None on the last page."""

    reviews: list[AwaitedView]
    next: str | None


def _waiting(state: PatientState, kind: Kind, name: str) -> GlassBreak | Case | None:
    if kind == "case":
        return next((one for one in state.cases if one.id == name and one.outcome is None), None)
    return next((b for b in state.glass_breaks if b.decision == name and b.outcome is None), None)


def review_routes(api: Api) -> APIRouter:
    """Return the routes of reviews."""
    router = APIRouter()
    caller, commander = Depends(api.authenticate), Depends(api.authenticate.command)
    world = api.world

    @router.get("/reviews", tags=["reviews"], responses=documented(400, 401, 403, 422, 429, 503))
    async def list_reviews(
        *, overdue: OnlyOverdue = False, after: After = None, limit: Limit = 50, caller: Party = caller
    ) -> AwaitedPage:
        """List what waits for a person: to a member and its privacy officers, of patients that it stewards.

        An officer who is such a patient is not shown what is about herself.
        """
        actor = actor_of(caller)
        steward = steward_of(actor)
        try:
            page = await world.reviews.page(
                steward, overdue=overdue, after=after, limit=limit, is_shown=partial(of_caller, caller)
            )
        except CursorError as error:
            raise ProblemError(400, "invalid-cursor", str(error)) from None
        return AwaitedPage(reviews=await shown(page, caller), next=page.next)

    async def of_caller(caller: Party, rows: Rows) -> Rows:
        facts = await world.facts.facts_of({row["patient"] for row in rows})
        known = {patient: (one.state, one.subject) for patient, one in facts.items()}
        return [row for row in rows if sees_all(actor_of(caller), *known[row["patient"]])]

    async def shown(page: KeysetPage, caller: Party) -> list[AwaitedView]:
        facts = await world.facts.facts_of({row["patient"] for row in page.rows})
        found = []
        for row in page.rows:
            known = facts[row["patient"]]
            waiting = _waiting(known.state, row["kind"], row["decision"])
            # It may have been done since the page was read.
            if waiting is not None and sees_all(actor_of(caller), known.state, known.subject):
                found.append(AwaitedView.of(waiting, patient=row["patient"]))
        return found

    @router.get(
        "/patients/{patient}/glass-breaks", tags=["patients"], responses=documented(401, 403, 422, 429, 503)
    )
    async def list_glass_breaks(patient: PatientInPath, caller: Party = caller) -> list[GlassBreakView]:
        """List the emergency accesses to a patient's data, to her and to her steward's privacy officers.

        She is told who looked at what and why, and what the review says of it.
        """
        known = await world.facts.facts(patient)
        require(Act.SEE, actor_of(caller), about=None, state=known.state, subject=known.subject)
        return [GlassBreakView.of(broken) for broken in known.state.glass_breaks]

    @router.post(
        "/glass-breaks/{decision}/review",
        status_code=204,
        tags=["reviews"],
        responses=documented(401, 403, 404, 409, 422, 429, 503),
    )
    async def review_glass_break(
        decision: IdInPath, body: ReviewBody, caller: Caller = commander
    ) -> Response:
        """Judge an emergency access: by a privacy officer of the patient's steward, and not one's own.

        An access that was not justified is a finding of high severity on the audit stream.
        """
        command = Review(
            decision=decision, patient=patient_of(decision), outcome=body.outcome, ground=body.ground
        )
        await handlers.execute(command, actor=asking(caller), at=api.now(), world=world)
        return Response(status_code=204)

    return router
