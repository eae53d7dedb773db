"""Permits over HTTP: propose research on a data set, approve it, withdraw it, and ask for each use."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query
from pydantic import BaseModel, Field

from salus.access.permits import WORDS, Permit, Status, UseQuestion
from salus.consent import permit_handlers
from salus.consent.api import Api, actor_of, asking
from salus.consent.domain.permits import (
    Approve,
    Ask,
    Propose,
    Standing,
    Withdraw,
    is_shown,
    listed_for,
    require,
    standing_of,
)
from salus.consent.permit_handlers import Usage
from salus.contracts.http_fields import CommandBody, IdempotencyKey, id_digits
from salus.contracts.keyset import CURSOR_CHARS_MAX, CursorError
from salus.events.contexts.consent_permits import (
    DATA_SET_CHARS_MAX,
    DATA_SET_PATTERN,
    PERMIT_ID_PATTERN,
    USES_MAX,
    PermitGround,
    ResearchPurpose,
)
from salus.events.fields import portable
from salus.events.parties import Party
from salus.events.permit_rights import Act
from salus.runtime.auth import Caller
from salus.runtime.fields import PLAIN, Did, Pseudonym
from salus.runtime.moments import Moment
from salus.runtime.problems import ProblemError, documented
from salus.runtime.refusal import Refusal

PAGE_MAX = 200
PermitInPath = Annotated[str, Path(pattern=portable(PERMIT_ID_PATTERN), max_length=27)]
DataSet = Annotated[
    str,
    Field(
        min_length=1,
        max_length=DATA_SET_CHARS_MAX,
        pattern=portable(DATA_SET_PATTERN),
        description="The name that its owner gave the data set. It is on the ledger, so it names no person.",
    ),
]


class PermitProposalBody(CommandBody):
    """Which researcher may use which data set, for what, in which period and how often."""

    owner: Did = Field(description="The member whose data set it is.")
    data_set: DataSet
    recipient: Did = Field(description="A person of yours with the role researcher.")
    purpose: ResearchPurpose = Field(description="HL7 v3 PurposeOfUse; it never changes.")
    valid_from: Moment | None = Field(default=None, description="Now, unless given.")
    valid_until: Moment
    uses_max: int = Field(ge=1, le=USES_MAX, description="So often it may be used.")

    def as_command(self, permit: str) -> Propose:
        """Return the command."""
        return Propose(permit=permit, **{name: getattr(self, name) for name in type(self).model_fields})


class ApprovalBody(CommandBody):
    """What is approved: the digest of the terms that the approver has read."""

    terms: str = Field(pattern=r"^[0-9a-f]{64}$")


class WithdrawalBody(CommandBody):
    """Why a permit is withdrawn."""

    ground: PermitGround


class UseBody(CommandBody):
    """What is to be used, and for what; `patient`, if the use is about one."""

    owner: Did
    data_set: DataSet
    purpose: ResearchPurpose
    patient: Pseudonym | None = None


class PermitView(BaseModel):
    """A permit. `standing` is what it is worth now, and `terms` the digest that an approval names."""

    permit: str
    owner: str
    data_set: str
    proposer: str
    recipient: str
    purpose: ResearchPurpose
    valid_from: datetime
    valid_until: datetime
    uses_max: int
    used: int
    standing: Standing
    terms: str
    approver: str | None
    withdrawn_by: str | None
    ground: PermitGround | None

    @classmethod
    def of(cls, permit: Permit, *, at: datetime) -> PermitView:
        """Return the view of a permit that was proposed."""
        terms = permit.terms
        if terms is None:
            raise Refusal("unknown-permit", "there is no such permit", status=404)
        return cls(
            permit=permit.id,
            **{name: getattr(terms, name) for name in terms.__struct_fields__},
            used=permit.used,
            standing=standing_of(permit, at=at),
            terms=terms.digest,
            approver=permit.approver,
            withdrawn_by=permit.withdrawn_by,
            ground=permit.ground,
        )


class PermitPage(BaseModel):
    """Some permits, those that end first before; `next` is None on the last page."""

    permits: list[PermitView]
    next: str | None


class UseView(BaseModel):
    """Whether the use is allowed. One that is has an id and a number, and counts; `left` are the others."""

    permit: str
    allowed: bool
    reasons: list[str]
    explanation: list[str]
    use: str | None
    number: int | None
    left: int | None
    used_at: datetime | None

    @classmethod
    def of(cls, usage: Usage) -> UseView:
        """Return the view of an answer; who is not the recipient is not told how much is left."""
        permit, use = usage.permit, usage.use
        left = None if use is None or permit.terms is None else permit.terms.uses_max - permit.used
        return cls(
            permit=permit.id,
            allowed=use is not None,
            reasons=list(usage.reasons),
            explanation=[WORDS[reason] for reason in usage.reasons],
            use=None if use is None else use.id,
            number=None if use is None else use.number,
            left=left,
            used_at=None if use is None else use.used_at,
        )


def routes(api: Api) -> APIRouter:
    """Return the routes of permits."""
    router = APIRouter(tags=["permits"])
    _add_commands(router, api)
    _add_uses(router, api)
    _add_reads(router, api)
    return router


def _add_commands(router: APIRouter, api: Api) -> None:
    commander, world = Depends(api.authenticate.command), api.world

    @router.post("/permits", status_code=201, responses=documented(401, 403, 409, 422, 429, 503))
    async def propose_permit(
        body: PermitProposalBody, idempotency_key: IdempotencyKey = None, caller: Caller = commander
    ) -> PermitView:
        """Propose that a researcher of yours may use a data set: by the member itself.

        Nothing is permitted until an ethics reviewer approves it.
        """
        actor, at = asking(caller), api.now()
        command = body.as_command(f"permit-{id_digits(actor.did, idempotency_key)}")
        repeatable = idempotency_key is not None
        permit = await permit_handlers.propose_permit(
            command, actor=actor, at=at, repeatable=repeatable, world=world
        )
        return PermitView.of(permit, at=api.now())

    @router.post("/permits/{permit}/approve", responses=documented(401, 403, 404, 409, 422, 429, 503))
    async def approve_permit(
        permit: PermitInPath, body: ApprovalBody, caller: Caller = commander
    ) -> PermitView:
        """Grant what was proposed: by an ethics reviewer, who acts for no member.

        `terms` is the digest of what the reviewer has read, so that nothing else is approved.
        """
        command = Approve(permit, body.terms)
        found = await permit_handlers.execute_permit(command, actor=asking(caller), at=api.now(), world=world)
        return PermitView.of(found, at=api.now())

    @router.post("/permits/{permit}/withdraw", responses=documented(401, 403, 404, 409, 422, 429, 503))
    async def withdraw_permit(
        permit: PermitInPath, body: WithdrawalBody, caller: Caller = commander
    ) -> PermitView:
        """End a permit or a proposal at once, and for ever.

        By the member that proposed it, an ethics reviewer, the data set's owner or its privacy officer, or an
        operator.
        """
        command = Withdraw(permit, body.ground)
        found = await permit_handlers.execute_permit(command, actor=asking(caller), at=api.now(), world=world)
        return PermitView.of(found, at=api.now())


def _add_uses(router: APIRouter, api: Api) -> None:
    commander = Depends(api.authenticate.command)

    @router.post("/permits/{permit}/uses", responses=documented(401, 403, 404, 409, 422, 429, 503))
    async def use_permit(
        permit: PermitInPath,
        body: UseBody,
        idempotency_key: IdempotencyKey = None,
        caller: Caller = commander,
    ) -> UseView:
        """Ask whether the caller may use the data set once now. A denial is an answer, and an event, too.

        What is allowed counts, and is on the ledger before it is answered. With an `Idempotency-Key` a
        repeated question counts once.
        """
        actor = asking(caller)
        question = UseQuestion(
            principal=actor,
            owner=body.owner,
            data_set=body.data_set,
            purpose=body.purpose,
            patient=body.patient,
        )
        key = None if idempotency_key is None else f"{permit}\0{idempotency_key}"
        usage = await permit_handlers.use_permit(
            Ask(permit, id_digits(actor.did, key), question),
            actor=actor,
            at=api.now(),
            repeatable=key is not None,
            world=api.world,
        )
        return UseView.of(usage)


def _add_reads(router: APIRouter, api: Api) -> None:
    caller, world = Depends(api.authenticate), api.world

    @router.get("/permits/{permit}", responses=documented(401, 403, 404, 422, 429, 503))
    async def get_permit(permit: PermitInPath, caller: Party = caller) -> PermitView:
        """Return one permit, to whose business it is (docs/rights.md)."""
        found = await world.permits.state(permit)
        require(Act.SEE, found, actor_of(caller))
        return PermitView.of(found, at=api.now())

    @router.get("/permits", responses=documented(400, 401, 403, 422, 429, 503))
    async def list_permits(
        *,
        status: Annotated[
            Status | None,
            Query(description="Only those that are so; of proposals those that can still be approved."),
        ] = None,
        after: Annotated[
            str | None,
            Query(max_length=CURSOR_CHARS_MAX, pattern=PLAIN, description="`next` of the page before."),
        ] = None,
        limit: Annotated[int, Query(ge=1, le=PAGE_MAX, description="So many at most.")] = 50,
        caller: Party = caller,
    ) -> PermitPage:
        """List the permits that are the caller's business: all, to ethics reviewers and operators."""
        actor, at = actor_of(caller), api.now()
        source = world.permit_source
        try:
            page = await source.page(listed_for(actor), status=status, after=after, limit=limit, at=at)
        except CursorError as error:
            raise ProblemError(400, "invalid-cursor", str(error)) from None
        found = await world.permits.states([row["permit"] for row in page.rows])
        shown = (found[name] for name in (row["permit"] for row in page.rows) if name in found)
        views = [PermitView.of(permit, at=at) for permit in shown if is_shown(permit, actor)]
        return PermitPage(permits=views, next=page.next)
