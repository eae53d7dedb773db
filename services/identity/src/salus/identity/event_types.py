"""The law of members' own event types: who proposes, activates and withdraws them. Pure, as `domain` is.

There is one aggregate a type, named by it. What its events come to is `salus.events.type_registry`, which
everybody follows who judges; here is only what a command becomes, and what is done already.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, assert_never

import msgspec

from salus.events.contexts.identity import EventTypeActivated, EventTypeProposed, EventTypeWithdrawn
from salus.events.event_types import EventData, dataschema_of, schema_file
from salus.events.parties import Operator
from salus.events.rights import Actor
from salus.events.type_registry import TypeFact, TypeRegistry
from salus.events.type_rights import objection_to_type_act
from salus.runtime.refusal import Refusal, require


class EventTypeState(msgspec.Struct, frozen=True, omit_defaults=True):
    """The schemas of a type that were proposed and activated last, by their `dataschema`."""

    proposed: str | None = None
    active: str | None = None
    withdrawn: bool = False


@dataclass(frozen=True)
class ProposeType:
    """Take events of this type, as this schema says; who proposes it is the member whose it is."""

    type: str
    schema: Mapping[str, Any]


@dataclass(frozen=True)
class ActivateType:
    """Let the type be as the schema says that was proposed, and that has this `dataschema`."""

    type: str
    dataschema: str


@dataclass(frozen=True)
class WithdrawType:
    """Take no more events of this type."""

    type: str


TypeCommand = ProposeType | ActivateType | WithdrawType
_STATUS = {"invalid-schema": 422, "not-active": 404}


def concerns(subject: str, event: EventData) -> str | None:
    """Name the aggregate that an event of the identity topic belongs to, if it is one of ours."""
    return subject if isinstance(event, TypeFact) else None


def evolve(state: EventTypeState, event: EventData) -> EventTypeState:
    """Return the state after the event."""
    match event:
        case EventTypeProposed():
            proposed = dataschema_of(event.type, event.schema.encode())
            return msgspec.structs.replace(state, proposed=proposed)
        case EventTypeActivated():
            return EventTypeState(active=event.dataschema)
        case EventTypeWithdrawn():
            return EventTypeState(withdrawn=True)
        case _:
            return state


def fact_of(command: TypeCommand, actor: Actor) -> TypeFact:
    """Return the event that the command becomes, if nothing is against it."""
    request = actor.request
    match command:
        case ProposeType():
            schema = schema_file(command.schema).decode()
            return EventTypeProposed(type=command.type, member=actor.did, schema=schema, request=request)
        case ActivateType():
            return EventTypeActivated(type=command.type, dataschema=command.dataschema, request=request)
        case WithdrawType():
            return EventTypeWithdrawn(type=command.type, request=request)
        case _:
            assert_never(command)


def is_done(state: EventTypeState, fact: TypeFact) -> bool:
    """Tell whether what is asked for is so already: a command that is repeated states nothing new."""
    match fact:
        case EventTypeProposed():
            wanted = evolve(state, fact).proposed
            return wanted == state.proposed or (state.proposed is None and wanted == state.active)
        case EventTypeActivated():
            return state.active == fact.dataschema and state.proposed is None
        case EventTypeWithdrawn():
            return state.withdrawn and state.proposed is None
        case _:
            assert_never(fact)


def require_right(
    fact: TypeFact, *, actor: Actor, types: TypeRegistry, operators: Collection[Operator]
) -> None:
    """Raise Refusal `not-permitted` or `second-operator-needed` unless the actor may do that."""
    require(objection_to_type_act(fact, actor, operators, types))


def decide(
    command: TypeCommand, *, actor: Actor, types: TypeRegistry, operators: Collection[Operator]
) -> TypeFact:
    """Return the event that the command becomes.

    Raises:
        Refusal: with one of the codes not-permitted, second-operator-needed, invalid-schema,
            incompatible-schema, type-active, too-many-types, not-proposed, not-active.
    """
    fact = fact_of(command, actor)
    require_right(fact, actor=actor, types=types, operators=operators)
    objection = types.objection(fact)
    if objection is not None:
        raise Refusal(objection.code, objection.why, status=_STATUS.get(objection.code, 409))
    return fact
