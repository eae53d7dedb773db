"""Cases over HTTP: accesses that a policy leaves to a person, as asker, patient and officer see them."""

from __future__ import annotations

from datetime import datetime

from fastapi import APIRouter, Depends
from pydantic import BaseModel

from salus.access.cases import Case, CaseOutcome
from salus.consent import handlers
from salus.consent.api import Api, IdInPath, actor_of, asking
from salus.consent.domain.cases import DecideCase, visible_case
from salus.consent.domain.consents import patient_of
from salus.consent.domain.rights import require
from salus.contracts.http_fields import CommandBody, PatientInPath
from salus.events.contexts.consent import Action
from salus.events.contexts.consent_oversight import CaseGround
from salus.events.fields import Purpose
from salus.events.parties import Party
from salus.events.patient_rights import Act
from salus.runtime.auth import Caller
from salus.runtime.problems import documented


class CaseBody(CommandBody):
    """Whether a person allows what waits for her, and why."""

    outcome: CaseOutcome
    ground: CaseGround


class CaseView(BaseModel):
    """An access that a policy leaves to a person; without an outcome it waits, and is due by `due`.

    What was approved is allowed until `valid_until`, when it is asked for again, as far as policies and
    consents allow it then.
    """

    case: str
    patient: str
    principal: str
    member: str | None
    action: Action
    object: str
    purpose: Purpose
    opened_at: datetime
    due: datetime
    overdue: bool
    outcome: CaseOutcome | None
    ground: CaseGround | None
    reviewer: str | None
    valid_until: datetime | None

    @classmethod
    def of(cls, one: Case, *, patient: str) -> CaseView:
        """Return the view of a case."""
        return cls(
            case=one.id,
            patient=patient,
            principal=one.principal,
            member=one.member,
            action=one.action,
            object=one.object,
            purpose=one.purpose,
            opened_at=one.opened_at,
            due=one.due,
            overdue=one.is_overdue,
            outcome=one.outcome,
            ground=one.ground,
            reviewer=one.reviewer,
            valid_until=one.valid_until,
        )


def case_routes(api: Api) -> APIRouter:
    """Return the routes of cases."""
    router = APIRouter()
    caller, commander = Depends(api.authenticate), Depends(api.authenticate.command)
    world = api.world

    @router.get("/cases/{case}", tags=["reviews"], responses=documented(401, 404, 429, 503))
    async def get_case(case: IdInPath, caller: Party = caller) -> CaseView:
        """Return one case: to who asked, the patient, her steward and its officers."""
        patient = patient_of(case)
        known = await world.facts.facts(patient)
        return CaseView.of(visible_case(case, actor_of(caller), known.state, known.subject), patient=patient)

    @router.get("/patients/{patient}/cases", tags=["patients"], responses=documented(401, 403, 422, 429, 503))
    async def list_cases(patient: PatientInPath, caller: Party = caller) -> list[CaseView]:
        """List the cases about a patient, to her and to her steward and its officers."""
        known = await world.facts.facts(patient)
        require(Act.SEE, actor_of(caller), about=None, state=known.state, subject=known.subject)
        return [CaseView.of(one, patient=patient) for one in known.state.cases]

    @router.post(
        "/cases/{case}/decide", tags=["reviews"], responses=documented(401, 403, 404, 409, 422, 429, 503)
    )
    async def decide_case(case: IdInPath, body: CaseBody, caller: Caller = commander) -> CaseView:
        """Allow or refuse an access that waits: by a privacy officer of the steward, and not one's own."""
        patient = patient_of(case)
        command = DecideCase(case=case, patient=patient, outcome=body.outcome, ground=body.ground)
        await handlers.execute(command, actor=asking(caller), at=api.now(), world=world)
        known = await world.facts.facts(patient)
        return CaseView.of(visible_case(case, asking(caller), known.state, known.subject), patient=patient)

    return router
