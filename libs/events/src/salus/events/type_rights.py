"""Who may propose, activate and withdraw a member's event type: one rule for all who judge."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from salus.events.contexts.identity import EventTypeActivated, EventTypeProposed, EventTypeWithdrawn
from salus.events.parties import Operator
from salus.events.rights import Act, Actor, Objection, Relation, Target, objection_to
from salus.events.type_registry import TypeFact, TypeRegistry

_TYPE_ACTS: Mapping[type[TypeFact], Act] = {
    EventTypeProposed: Act.PROPOSE_TYPE,
    EventTypeActivated: Act.ACTIVATE_TYPE,
    EventTypeWithdrawn: Act.WITHDRAW_TYPE,
}


def objection_to_type(
    data: TypeFact, actor: Actor, operators: Collection[Operator], types: TypeRegistry
) -> Objection | None:
    """Return why a fact about a member's event type has no effect, by who asks and by what is known of it."""
    return objection_to_type_act(data, actor, operators, types) or types.objection(data)


def objection_to_type_act(
    data: TypeFact, actor: Actor, operators: Collection[Operator], types: TypeRegistry
) -> Objection | None:
    """Return `not-permitted` or `second-operator-needed` unless the actor may do that with a type."""
    member = data.member if isinstance(data, EventTypeProposed) else types.member_of(data.type)
    relation = actor.relation_to(member or "", "member", None)
    if relation is Relation.ITSELF and actor.kind != "member":
        return Objection("not-permitted", "only a member brings event types")
    return objection_to(_TYPE_ACTS[type(data)], Target.TYPE, relation, actor=actor, operators=operators)
