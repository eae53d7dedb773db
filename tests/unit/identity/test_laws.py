"""The laws of every domain, for identity's: tried on what Hypothesis makes up."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from tests.asking import UNASKED
from tests.own_types import activated, dataschema, name_of, proposed, schema_of
from tests.unit.events.test_sharding import TOPIC, Founder, added, assigned

from salus.contracts.testing.domain_laws import DomainLaws, EvolveLaws
from salus.contracts.testing.strategies import NOON
from salus.events.contexts import CATALOGUE
from salus.events.did import LocalSigner, multibase_of
from salus.events.event_types import EventData
from salus.events.parties import Operator
from salus.events.rights import Actor
from salus.events.type_registry import TypeFact, TypeRegistry
from salus.identity import event_types, shards
from salus.identity.domain import (
    AddKey,
    Command,
    GrantRole,
    PartyState,
    Register,
    RevokeKey,
    WithdrawRole,
    decide,
)
from salus.identity.event_types import ActivateType, EventTypeState, ProposeType, TypeCommand, WithdrawType
from salus.identity.folded import EVENT_TYPES, PARTIES, PROVIDERS, SHARDS
from salus.identity.shards import AssignShards, ShardingState
from salus.runtime.refusal import Refusal

ALICE, HOSPITAL, SALUS = (f"did:web:{name}.example" for name in ("alice", "h", "salus"))
OPERATORS = [Operator(SALUS, SALUS), Operator(ALICE, HOSPITAL)]
ASKERS = [
    Actor(SALUS, "person", frozenset({"operator"}), UNASKED),
    Actor(SALUS, "person", frozenset({"operator"}), UNASKED, second=ALICE),
    Actor(ALICE, "person", frozenset(), UNASKED),
    Actor(HOSPITAL, "member", frozenset(), UNASKED),
    Actor(SALUS, "service", frozenset({"identity"}), UNASKED, founding=True),
]
_keys = st.sampled_from([f"{ALICE}#{number}" for number in range(3)])
_public = [multibase_of(LocalSigner.from_seed(bytes([number]) * 32).public_key) for number in range(3)]
_roles = st.sampled_from(["patient", "clinician", "operator", "consent", "unknown"])
FIELDS = {
    "did": st.just(ALICE),
    **dict.fromkeys(("PublicKey.id", "key_id"), _keys),
    "multibase": st.sampled_from(_public),
    **dict.fromkeys(("Register.member", "PartyRegistered.member"), st.sampled_from([None, HOSPITAL])),
    "lookalike": st.just(value=False),
    "organisation": st.sampled_from([None, PartyState(HOSPITAL, "member")]),
    "role": _roles,
    "roles": st.lists(_roles, max_size=2).map(tuple),
}


class TestParties(DomainLaws):
    contract, catalogue, aggregate = PARTIES, CATALOGUE, ALICE
    commands = (Register, AddKey, RevokeKey, GrantRole, WithdrawRole)
    facts = st.sampled_from(ASKERS)
    fields = FIELDS

    def decide(self, state: PartyState, command: Command, actor: Actor) -> EventData:
        return decide(state, command, actor=actor, at=NOON, catalogue=CATALOGUE, operators=OPERATORS)

    def invariants(self, state: PartyState) -> None:
        assert len({key.id for key in state.keys}) == len(state.keys)
        assert state.roles == tuple(sorted(set(state.roles)))
        assert bool(state.did) == bool(state.keys)


_SCHEMAS = [schema_of(HOSPITAL), schema_of(HOSPITAL, fields={"floor": {"type": "boolean"}}), schema_of(SALUS)]
_TYPE = name_of(_SCHEMAS[0])
TYPE_FIELDS = {**FIELDS, "type": st.just(_TYPE)}


class TestEventTypes(DomainLaws):
    contract, catalogue, aggregate = EVENT_TYPES, CATALOGUE, _TYPE
    commands = st.one_of(
        st.builds(ProposeType, st.just(_TYPE), st.sampled_from(_SCHEMAS)),
        st.builds(ActivateType, st.just(_TYPE), st.sampled_from([*map(dataschema, _SCHEMAS)])),
        st.just(WithdrawType(_TYPE)),
    )
    facts = st.tuples(
        st.sampled_from(ASKERS),
        st.lists(st.sampled_from([*map(proposed, _SCHEMAS[:2]), *map(activated, _SCHEMAS[:2])]), max_size=4),
    )
    fields = TYPE_FIELDS

    def decide(self, state: EventTypeState, command: TypeCommand, facts: Any) -> EventData:
        actor, history = facts
        types = TypeRegistry(CATALOGUE)
        for fact in history:
            types.apply(fact, at=NOON)
        decided = event_types.decide(command, actor=actor, types=types, operators=OPERATORS)
        # Whoever finds it done already states nothing, as the routes do.
        require_new(state, decided)
        return decided

    def invariants(self, state: EventTypeState) -> None:
        assert not (state.withdrawn and state.active)


def require_new(state: EventTypeState, fact: TypeFact) -> None:
    if event_types.is_done(state, fact):
        raise Refusal("done", "it is so already")


def assignment(epoch: int, holders: list[int], new: list[int]) -> AssignShards:
    """The command that these shards hold the partitions from 0 on, of which some are new."""
    places = {shard: tuple(p for p, holder in enumerate(holders) if holder == shard) for shard in holders}
    given = assigned(epoch, places, *map(added, new))
    return AssignShards(given.epoch, given.shards, given.added)


SHARD_FIELDS = {"network": st.just("net"), "added": st.sampled_from([(), (added(1),), (added(2),)])}


class TestShards(DomainLaws):
    contract, catalogue, aggregate = SHARDS, CATALOGUE, "net"
    commands = st.builds(
        assignment,
        st.integers(1, 3),
        st.lists(st.integers(0, 2), min_size=3, max_size=4),
        st.sets(st.integers(1, 2)).map(sorted),
    )
    facts = st.sampled_from(ASKERS)
    fields = SHARD_FIELDS

    def decide(self, state: ShardingState, command: AssignShards, actor: Actor) -> EventData:
        return shards.decide(
            state,
            command,
            network="net",
            founders=[Founder()],
            actor=actor,
            there={TOPIC: range(4)},
            catalogue=CATALOGUE,
            operators=OPERATORS,
        )

    def event_invariants(self, state: ShardingState) -> None:
        epochs = state.sharding([Founder()]).epochs
        assert [epoch.number for epoch in epochs] == list(range(len(epochs)))


class TestProviders(EvolveLaws):
    # A decision goes by the ring alone, not by this state: `test_logins.py` has the cells of its table.
    contract, catalogue, fields = PROVIDERS, CATALOGUE, FIELDS
