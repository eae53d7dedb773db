"""Event types over HTTP: those of the release and of members, their schemas, and members' proposals."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path
from fastapi.responses import Response
from pydantic import BaseModel, Field

from salus.contracts.contract import ContractHost
from salus.contracts.http_fields import CommandBody
from salus.events import asyncapi, fields
from salus.events.catalogue import Catalogue
from salus.events.event_types import EventType
from salus.events.sealed_fields import sealed_fields
from salus.events.type_definition import outline_of
from salus.events.type_registry import OwnType, Proposal, TypeRegistry, own_type_of
from salus.identity.api import actor_of
from salus.identity.event_types import (
    ActivateType,
    EventTypeState,
    ProposeType,
    TypeCommand,
    WithdrawType,
    decide,
    fact_of,
    is_done,
    require_right,
)
from salus.identity.handlers import as_known
from salus.identity.ports import Ring
from salus.runtime.auth import Caller, Callers
from salus.runtime.fields import pattern_of
from salus.runtime.limits import AccountLimit, Rate
from salus.runtime.openapi import content
from salus.runtime.problems import documented
from salus.runtime.refusal import Refusal

SCHEMA_TYPE = "application/schema+json"
ASYNCAPI_TYPE = "application/vnd.aai.asyncapi+json"
# Everybody who folds the topic judges each again at each start, for ever: some 50 ms for the largest.
COMMANDS = Rate(burst=60, per_minute=0.2)
# Of so many proposals it is kept what they say of their types, each a kilobyte at most.
PROPOSALS_KEPT_MAX = 4096

TypeInPath = Annotated[str, Path(max_length=160, pattern=pattern_of(fields.TypeName))]


class ProposalBody(CommandBody):
    """A JSON Schema (2020-12) with all that is known of the type in `x-salus`."""

    definition: dict[str, Any] = Field(
        alias="schema", description="docs/own-event-types.md says what is in it."
    )

    def as_command(self) -> ProposeType:
        """Return the command."""
        return ProposeType(own_type_of(self.definition), self.definition)


class ActivationBody(CommandBody):
    """Which schema is activated: the one that was proposed, and that the operators have seen."""

    dataschema: str = Field(min_length=1, max_length=256, pattern=pattern_of(fields.Text))


class ProposalView(BaseModel):
    """What was proposed and not activated yet."""

    dataschema: str
    since: datetime

    @classmethod
    def of(cls, proposal: Proposal) -> ProposalView:
        """Return the view of a proposal."""
        return cls(dataschema=proposal.dataschema, since=proposal.at)


class EventTypeView(BaseModel):
    """An event type: of the release, or of the `member` that proposed it.

    `revision` counts the schemas that were activated for it. `since` and `until` are when the broker appended
    the activation and the withdrawal: what was appended afterwards is judged by them.
    """

    type: str
    status: Literal["active", "proposed", "withdrawn"]
    meaning: str
    topic: str
    owner: str
    subject: str | None = Field(description="The field that the event's subject, its Kafka key, repeats.")
    sealed: list[str]
    retention: str
    dataschema: str
    member: str | None = None
    revision: int = 1
    activated_by: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    proposed: ProposalView | None = None

    @classmethod
    def of(cls, entry: EventType, **more: Any) -> EventTypeView:
        """Return the view of a type of the release, or of what `more` says."""
        facts = {
            "type": entry.name,
            "status": "active",
            "meaning": entry.summary,
            "topic": entry.topic,
            "owner": entry.owner,
            "subject": entry.subject_field,
            "sealed": list(sealed_fields(entry.data)),
            "retention": entry.retention.value,
            "dataschema": entry.dataschema,
        }
        return cls(**(facts | more))

    @classmethod
    def of_own(cls, name: str, own: OwnType | None, proposal: Proposal | None) -> EventTypeView:
        """Return the view of a member's type that was activated, proposed or both."""
        waiting = None if proposal is None else ProposalView.of(proposal)
        if own is None:
            assert proposal is not None  # noqa: S101  # one of them is there
            return cls(
                type=name,
                status="proposed",
                dataschema=proposal.dataschema,
                member=proposal.member,
                revision=0,
                proposed=waiting,
                **_outline_of(proposal.schema)._asdict(),
            )
        return cls.of(
            own.entry,
            status="active" if own.until is None else "withdrawn",
            member=own.member,
            revision=own.revision,
            activated_by=own.by,
            since=own.since,
            until=own.until,
            proposed=waiting,
        )


class EventTypes(BaseModel):
    """All event types, by name."""

    types: list[EventTypeView]


def view_of(types: TypeRegistry, name: str) -> EventTypeView:
    """Return the view of a type; raises Refusal `unknown-type`."""
    own, proposal = types.own.get(name), types.proposed.get(name)
    if own is not None or proposal is not None:
        return EventTypeView.of_own(name, own, proposal)
    entry = types.release.type_named(name)
    if entry is None:
        raise Refusal("unknown-type", "type: the network has no such event type", status=404)
    return EventTypeView.of(entry)


def schema_of(types: TypeRegistry, name: str, *, proposed: bool) -> bytes:
    """Return the file of a type's schema, or of its proposal; raises Refusal `unknown-type`."""
    waiting, entry = types.proposed.get(name), types.known.type_named(name)
    if proposed and waiting is not None:
        return waiting.schema
    if proposed or entry is None:
        raise Refusal("unknown-type", "type: there is no such schema", status=404)
    return entry.schema


# Nothing of a proposal is compiled to be shown, for anybody may ask for all of them.
_outline_of = lru_cache(maxsize=PROPOSALS_KEPT_MAX)(outline_of)


@lru_cache(maxsize=2)
def _document(catalogue: Catalogue) -> bytes:
    return asyncapi.document(catalogue)


def event_type_routes(
    host: ContractHost[EventTypeState],
    *,
    authenticate: Callers,
    ring: Ring,
    now: Callable[[], datetime],
    commands: Rate = COMMANDS,
) -> APIRouter:
    """Return the routes about event types."""
    router = APIRouter(tags=["event types"])
    limit = AccountLimit("event types", commands)
    _add_reads(router, ring=ring)

    async def run(command: TypeCommand, caller: Caller) -> EventTypeView:
        limit.take(caller.party)
        actor = actor_of(caller)
        known = await ring.catch_up()
        fact, operators = fact_of(command, actor), known.operators(at=now())
        require_right(fact, actor=actor, types=known.types, operators=operators)
        if not is_done(await host.state(command.type), fact):
            await host.execute(command.type, rule_of(command, caller))
        return view_of((await ring.catch_up()).types, command.type)

    def rule_of(command: TypeCommand, caller: Caller) -> Any:
        async def rule(_: EventTypeState) -> Any:
            # It may have waited: who asks, who governs and what is proposed is looked up in its turn.
            known, at = await ring.catch_up(), now()
            asking = as_known(actor_of(caller), known, at=at)
            return decide(command, actor=asking, types=known.types, operators=known.operators(at=at))

        return rule

    caller = Depends(authenticate.command)
    problems = documented(401, 403, 404, 409, 422, 429, 503)

    @router.post("/event-types", status_code=201, responses=problems)
    async def propose_event_type(body: ProposalBody, caller: Caller = caller) -> EventTypeView:
        """Propose an event type of the caller, a member, or a compatible schema for one that is active."""
        return await run(body.as_command(), caller)

    @router.post("/event-types/{type}/activate", responses=problems)
    async def activate_event_type(
        type: TypeInPath,  # noqa: A002  # its name in the path
        body: ActivationBody,
        caller: Caller = caller,
    ) -> EventTypeView:
        """Take events of this type from now on, as the schema says that was proposed."""
        return await run(ActivateType(type, body.dataschema), caller)

    @router.post("/event-types/{type}/withdraw", responses=problems)
    async def withdraw_event_type(
        type: TypeInPath,  # noqa: A002  # its name in the path
        caller: Caller = caller,
    ) -> EventTypeView:
        """Take no more events of this type, and forget what was proposed for it."""
        return await run(WithdrawType(type), caller)

    return router


def _add_reads(router: APIRouter, *, ring: Ring) -> None:
    @router.get("/event-types", responses=documented(503))
    async def list_event_types() -> EventTypes:
        """List the event types of the release and of members, those that wait for activation included."""
        types = (await ring.catch_up()).types
        names = {entry.name for entry in types.release.types()} | types.own.keys() | types.proposed.keys()
        return EventTypes(types=[view_of(types, name) for name in sorted(names)])

    @router.get("/event-types/{type}", responses=documented(404, 422, 503))
    async def get_event_type(type: TypeInPath) -> EventTypeView:  # noqa: A002  # its name in the path
        """Return one event type."""
        return view_of((await ring.catch_up()).types, type)

    @router.get(
        "/event-types/{type}/schema",
        response_class=Response,
        responses={**content(SCHEMA_TYPE, {"type": "object"}), **documented(404, 422, 503)},
    )
    async def get_event_type_schema(
        type: TypeInPath,  # noqa: A002  # its name in the path
        *,
        proposed: bool = False,
    ) -> Response:
        """Return the JSON Schema of a type: the very bytes whose SHA-256 its `dataschema` names."""
        types = (await ring.catch_up()).types
        return Response(schema_of(types, type, proposed=proposed), media_type=SCHEMA_TYPE)

    @router.get(
        "/asyncapi.json",
        response_class=Response,
        responses={**content(ASYNCAPI_TYPE, {"type": "object"}), **documented(503)},
    )
    async def get_asyncapi() -> Response:
        """Return the AsyncAPI document of all events that are taken now, members' own included."""
        return Response(_document((await ring.catch_up()).types.present), media_type=ASYNCAPI_TYPE)
