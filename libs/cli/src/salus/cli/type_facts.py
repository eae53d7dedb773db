"""Event types as identity tells of them: which there are, and the schema of one."""

from __future__ import annotations

from typing import Literal, cast

import msgspec

from salus.cli.exits import CommandError, Exit
from salus.cli.network_access import NetworkAccess
from salus.cli.party_commands import target_of
from salus.cli.service_answers import read_answer
from salus.client.own_types import own_event_type
from salus.events.contexts.identity import PartyKind
from salus.events.errors import RejectedError
from salus.events.event_types import EventType, dataschema_of
from salus.events.judging import require_owner
from salus.events.parties import Party


class ProposalFacts(msgspec.Struct, frozen=True):
    """What was proposed for a type and is not activated."""

    dataschema: str
    since: str


class TypeFacts(msgspec.Struct, frozen=True, kw_only=True):
    """An event type, as identity tells it; one of the release has no member."""

    type: str
    status: Literal["active", "proposed", "withdrawn"]
    meaning: str
    topic: str
    owner: str
    subject: str | None = None
    sealed: tuple[str, ...]
    retention: str
    dataschema: str
    member: str | None = None
    revision: int = 1
    activated_by: str | None = None
    since: str | None = None
    until: str | None = None
    proposed: ProposalFacts | None = None


class _Types(msgspec.Struct, frozen=True):
    types: tuple[TypeFacts, ...]


async def members_types(network: NetworkAccess) -> list[TypeFacts]:
    """Return the event types that members proposed or brought."""
    told = read_answer("identity", await network.ask("/event-types"), _Types)
    return [each for each in told.types if each.member is not None]


async def event_type(network: NetworkAccess, name: str) -> TypeFacts:
    """Return what identity knows of one event type."""
    return read_answer("identity", await network.ask(target_of("event-types", name)), TypeFacts)


async def schema_of(network: NetworkAccess, name: str, *, proposed: bool) -> bytes:
    """Return the schema of a type, which is the one that its `dataschema` names.

    Raises:
        CommandError: there is none, or identity shows another one than it names.
    """
    facts = await event_type(network, name)
    if not proposed and facts.status == "proposed":
        look = f"`salus catalogue show {name} --proposed`"
        raise CommandError(Exit.NO, f"TYPE: {name} is proposed and was never active: see {look}")
    of = facts.proposed if proposed else facts
    return await schema_named(network, name, None if of is None else of.dataschema, proposed=proposed)


async def schema_named(network: NetworkAccess, name: str, dataschema: str | None, *, proposed: bool) -> bytes:
    """Return the schema of a type, or what is proposed for it, which this `dataschema` names.

    Raises:
        CommandError: there is none, or identity shows another one.
    """
    query = [("proposed", "true")] if proposed else []
    schema = await network.ask(target_of("event-types", name, "schema"), query=query)
    if dataschema_of(name, schema) != dataschema:
        raise CommandError(Exit.NO, f"identity shows another schema of {name} than its dataschema names")
    return schema


async def active_schema(network: NetworkAccess, facts: TypeFacts) -> bytes | None:
    """Return the schema by which events of a type are taken, or were last; None: it was never active."""
    if facts.since is None:
        return None
    return await schema_named(network, facts.type, facts.dataschema, proposed=False)


async def own_type(network: NetworkAccess, name: str) -> EventType:
    """Return a member's event type, to read events of it.

    Raises:
        CommandError: identity knows none, or shows a schema that is none of an event type.
    """
    return await _own_type(network, await event_type(network, name))


async def writable_type(network: NetworkAccess, name: str, *, signer: str) -> EventType:
    """Return a member's event type, to write events of it that this party signs.

    Raises:
        CommandError: as `own_type`; it was withdrawn, or is for others to state.
    """
    facts = await event_type(network, name)
    if facts.status == "withdrawn":
        sentence = f"{name} was withdrawn at {facts.until}, so every network refuses it as unknown-type"
        raise CommandError(Exit.NO, f"not sent: {sentence}")
    entry, party = await _own_type(network, facts), await network.party(signer)
    kind = cast("PartyKind", party.kind)
    try:
        require_owner(entry, Party(party.did, kind, frozenset(party.roles), party.member))
    except RejectedError as error:
        raise CommandError(Exit.NO, f"not sent: {error}: its owner is {facts.owner}") from None
    return entry


async def _own_type(network: NetworkAccess, facts: TypeFacts) -> EventType:
    name = facts.type
    schema = await schema_of(network, name, proposed=False)
    try:
        return own_event_type(schema, member=str(facts.member))
    except ValueError as error:
        raise CommandError(Exit.NO, f"identity's schema of {name} cannot be used: {error}") from None
