"""Prohibitions over HTTP: forbid, lift, and look."""

from __future__ import annotations

from datetime import datetime

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field

from salus.access.prohibitions import Prohibition
from salus.consent import handlers, prohibition_handlers
from salus.consent.api import Api, IdInPath, actor_of, asking
from salus.consent.domain.consents import identifier_under, patient_of
from salus.consent.domain.prohibitions import Forbid, Lift, found_prohibition
from salus.consent.domain.rights import require
from salus.contracts.http_fields import CommandBody, IdempotencyKey, PatientInPath, id_digits
from salus.events.contexts.consent import Action
from salus.events.fields import Purpose
from salus.events.parties import Party
from salus.events.patient_rights import Act
from salus.events.recipients import RecipientRole
from salus.runtime.auth import Caller
from salus.runtime.fields import Did, Pseudonym
from salus.runtime.moments import Moment
from salus.runtime.problems import documented


class ProhibitionBody(CommandBody):
    """Who may not do what with whose data, for which purposes and how long."""

    patient: Pseudonym
    party: Did | None = Field(
        default=None, description="A person, or a member and so all of its people; everybody, unless given."
    )
    role: RecipientRole | None = Field(
        default=None,
        description="Only those who hold this role at the party, a member, when they ask; not its own key.",
    )
    actions: list[Action] = Field(default=[], max_length=8, description="Every action, unless given.")
    purposes: list[Purpose] = Field(
        default=[],
        max_length=8,
        description="HL7 v3 PurposeOfUse codes; every purpose, unless given. An emergency access is "
        "forbidden by naming ETREAT, and not otherwise.",
    )
    valid_from: Moment | None = Field(default=None, description="Now, unless given.")
    valid_until: Moment | None = Field(default=None, description="Until it is lifted, unless given.")

    def as_command(self, prohibition: str) -> Forbid:
        """Return the command."""
        return Forbid(
            prohibition=prohibition,
            patient=self.patient,
            party=self.party,
            actions=tuple(self.actions),
            purposes=tuple(self.purposes),
            valid_from=self.valid_from,
            valid_until=self.valid_until,
            role=self.role,
        )


class ProhibitionView(BaseModel):
    """A prohibition; without party, actions or purposes it is about each."""

    prohibition: str
    patient: str
    party: str | None
    role: RecipientRole | None
    recipient: str = Field(description="Whom it is about, in words.")
    actions: list[Action]
    purposes: list[Purpose]
    valid_from: datetime
    valid_until: datetime | None
    lifted: bool

    @classmethod
    def of(cls, prohibition: Prohibition, *, patient: str) -> ProhibitionView:
        """Return the view of a prohibition."""
        return cls(
            prohibition=prohibition.id,
            patient=patient,
            party=prohibition.party,
            role=prohibition.role,
            recipient="everybody" if prohibition.recipient is None else str(prohibition.recipient),
            actions=list(prohibition.actions),
            purposes=list(prohibition.purposes),
            valid_from=prohibition.valid_from,
            valid_until=prohibition.valid_until,
            lifted=prohibition.lifted,
        )


class ProhibitionList(BaseModel):
    """A patient's prohibitions."""

    patient: str
    prohibitions: list[ProhibitionView]


def routes(api: Api) -> APIRouter:
    """Return the routes of prohibitions."""
    router = APIRouter()
    caller, commander = Depends(api.authenticate), Depends(api.authenticate.command)
    world = api.world

    @router.post(
        "/prohibitions",
        status_code=201,
        tags=["consents"],
        responses=documented(401, 403, 404, 409, 422, 429, 503),
    )
    async def forbid_access(
        body: ProhibitionBody, idempotency_key: IdempotencyKey = None, caller: Caller = commander
    ) -> ProhibitionView:
        """Forbid an access to a patient's data, whatever consents and policies say.

        By the patient herself, or by her steward for her. Every decision token given before is void from
        here on.
        """
        actor, at = asking(caller), api.now()
        suffix = id_digits(actor.did, idempotency_key)
        command = body.as_command(identifier_under(body.patient, suffix=suffix))
        repeatable = idempotency_key is not None
        stated = await prohibition_handlers.forbid(
            command, actor=actor, at=at, repeatable=repeatable, world=world
        )
        return ProhibitionView.of(stated, patient=body.patient)

    @router.get(
        "/prohibitions/{prohibition}", tags=["consents"], responses=documented(401, 403, 404, 429, 503)
    )
    async def get_prohibition(prohibition: IdInPath, caller: Party = caller) -> ProhibitionView:
        """Return one prohibition, to the patient, her steward or its privacy officers."""
        patient = patient_of(prohibition)
        found = await prohibition_handlers.read_prohibition(
            patient, prohibition, actor=actor_of(caller), world=world
        )
        return ProhibitionView.of(found, patient=patient)

    @router.post(
        "/prohibitions/{prohibition}/lift",
        tags=["consents"],
        responses=documented(401, 403, 404, 409, 429, 503),
    )
    async def lift_prohibition(prohibition: IdInPath, caller: Caller = commander) -> ProhibitionView:
        """Let a prohibition forbid nothing any more."""
        patient = patient_of(prohibition)
        await handlers.execute(Lift(prohibition, patient), actor=asking(caller), at=api.now(), world=world)
        state = (await world.facts.facts(patient)).state
        return ProhibitionView.of(found_prohibition(state, prohibition), patient=patient)

    @router.get(
        "/patients/{patient}/prohibitions",
        tags=["patients"],
        responses=documented(401, 403, 422, 429, 503),
    )
    async def list_prohibitions(patient: PatientInPath, caller: Party = caller) -> ProhibitionList:
        """List what a patient forbids, to her, her steward and its privacy officers."""
        known = await world.facts.facts(patient)
        require(Act.SEE, actor_of(caller), about=None, state=known.state, subject=known.subject)
        views = [ProhibitionView.of(one, patient=patient) for one in known.state.prohibitions]
        return ProhibitionList(patient=patient, prohibitions=views)

    return router
