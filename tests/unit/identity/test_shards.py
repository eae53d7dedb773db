"""Who may assign partitions to shards, and which assignments are refused with which code."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import pytest
from fastapi import FastAPI
from tests.asking import UNASKED, FixedCallers
from tests.unit.events.test_sharding import TOPIC, Founder, added, assigned

from salus.events.catalogue import Catalogue
from salus.events.contexts import clinical, consent, identity, lab
from salus.events.contexts.identity import AssignedShard, AssignedTopic, ShardsAssigned
from salus.events.parties import Operator, Party
from salus.events.rights import Actor
from salus.identity.shards import AssignShards, ShardingState, concerns, decide, evolve
from salus.identity.shards_api import AddedBody, AssignBody, ShardBody, ShardingView, shard_routes
from salus.runtime.refusal import Refusal

OPERATOR = Actor(did="did:web:salus.example", kind="person", roles=frozenset({"operator"}), request=UNASKED)
MEMBER = Actor(did="did:web:hospital.example", kind="member", roles=frozenset(), request=UNASKED)


# What Kafka has: partition 3 and 4 of the clinical topic are new.
THERE = {TOPIC: range(5), "salus.identity.events": range(2), "salus.lab.events": range(1)}
THERE |= {"salus.consent.events": range(1)}


BEFORE = Catalogue([identity.CONTEXT, clinical.CONTEXT])
JOINED = Catalogue([identity.CONTEXT, clinical.CONTEXT, lab.CONTEXT, consent.CONTEXT])


def elsewhere(topic: str, *partitions: int) -> ShardsAssigned:
    """An assignment of another topic's partitions as well."""
    whole = assigned(1, {0: (0, 1, 2)})
    more = (*whole.shards[0].topics, AssignedTopic(topic, partitions))
    return ShardsAssigned("net", 1, (AssignedShard(0, more),), request=UNASKED)


twice = ShardsAssigned(
    "net", 1, (*assigned(1, {0: (0, 1, 2)}).shards, AssignedShard(0, ())), (added(1),), request=UNASKED
)


def asked(
    event: ShardsAssigned,
    *,
    actor: Actor = OPERATOR,
    state: ShardingState | None = None,
    topics: dict[str, tuple[int, ...]] | None = None,
    operators: Collection[Operator] = (),
    catalogue: Catalogue = BEFORE,
    there: Mapping[str, range] = THERE,
) -> ShardsAssigned:
    command = AssignShards(event.epoch, event.shards, event.added)
    founders = [Founder(topics=topics)] if topics else [Founder()]
    return decide(
        state or ShardingState(),
        command,
        network="net",
        founders=founders,
        actor=actor,
        there=there,
        catalogue=catalogue,
        operators=operators,
    )


def test_a_new_shard_needs_two_operators_and_moving_partitions_one() -> None:  # case SEC2
    second = "did:web:second.example"
    others = (Operator(OPERATOR.did, OPERATOR.did), Operator(second, second))
    with pytest.raises(Refusal, match="second-operator-needed"):
        asked(assigned(1, {0: (0,), 1: (1, 2)}, added(1)), operators=others)
    seconded = replace(OPERATOR, second=second)
    state = evolve(
        ShardingState(), asked(assigned(1, {0: (0,), 1: (1, 2)}, added(1)), actor=seconded, operators=others)
    )

    assert asked(assigned(2, {1: (0, 1, 2)}), state=state, operators=others).epoch == 2


def test_an_operator_assigns_and_the_next_assignment_builds_on_it() -> None:
    first = asked(assigned(1, {0: (0,), 1: (1, 2)}, added(1)))
    state = evolve(ShardingState(), first)
    second = asked(assigned(2, {1: (0, 1, 2)}), state=state)

    view = ShardingView.of("net", evolve(state, second).sharding([Founder()]))

    assert view.epoch == 2
    assert [(shard.id, shard.topics) for shard in view.shards] == [(0, {}), (1, {TOPIC: [0, 1, 2]})]
    assert view.shards[1].verifier_key == added(1).verifier_key


@pytest.mark.parametrize(
    ("code", "status", "event", "actor"),
    [
        ("not-permitted", 403, assigned(1, {0: (0, 1, 2)}), MEMBER),
        ("wrong-epoch", 409, assigned(2, {0: (0, 1, 2)}), OPERATOR),
        ("unknown-shard", 422, assigned(1, {7: (0, 1, 2)}), OPERATOR),
        ("unknown-partition", 422, assigned(1, {0: (0, 1, 2, 4)}), OPERATOR),
        ("unknown-partition", 422, assigned(1, {0: (0, 1, 2, 3, 4, 5)}), OPERATOR),
        ("unknown-partition", 422, elsewhere("salus.lab.events", 0), OPERATOR),
        ("partition-left-out", 422, assigned(1, {0: (0,), 1: (1,)}, added(1)), OPERATOR),
        ("nothing-moves", 422, assigned(1, {0: (0, 1, 2)}), OPERATOR),
        ("assigned-twice", 422, twice, OPERATOR),
    ],
)
def test_what_cannot_be_is_refused(code: str, status: int, event: ShardsAssigned, actor: Actor) -> None:
    with pytest.raises(Refusal) as caught:
        asked(event, actor=actor)

    assert (caught.value.code, caught.value.status) == (code, status)


def test_partitions_that_a_members_topic_got_are_assigned_and_are_then_known() -> None:
    # case K1
    state = evolve(ShardingState(), asked(assigned(1, {0: (0, 1, 2, 4), 1: (3,)}, added(1))))

    with pytest.raises(Refusal, match="nobody would seal"):
        asked(assigned(2, {1: (0, 1, 2, 4)}), state=state)
    assert state.sharding([Founder()]).now.partitions_of(1) == {(TOPIC, 3)}


def test_a_topic_that_services_fold_gets_no_more_partitions() -> None:
    topics = {TOPIC: (0, 1, 2), "salus.identity.events": (0,)}
    both = (AssignedTopic(TOPIC, (0, 1, 2)), AssignedTopic("salus.identity.events", (0, 1)))

    with pytest.raises(Refusal, match="none that can be assigned"):
        asked(ShardsAssigned("net", 1, (AssignedShard(0, both),), request=UNASKED), topics=topics)


def test_the_topic_of_a_context_that_joined_is_assigned_from_its_first_partition() -> None:  # issue 13
    joining = asked(elsewhere("salus.consent.events", 0), catalogue=JOINED)
    state = evolve(ShardingState(), joining)

    assert ("salus.consent.events", 0) in state.sharding([Founder()]).now.partitions_of(0)
    assert asked(elsewhere("salus.lab.events", 0), catalogue=JOINED).epoch == 1


@pytest.mark.parametrize(
    ("event", "there", "code"),
    [
        # Its context has not joined.
        (elsewhere("salus.storage.events", 0), {"salus.storage.events": range(1)}, "unknown-partition"),
        # Nobody made it yet.
        (elsewhere("salus.consent.events", 0), {}, "unknown-partition"),
        (elsewhere("salus.consent.events", 1), {"salus.consent.events": range(2)}, "unknown-partition"),
        # redB6 8: between partitions of a service's topic nothing says which event was first.
        (elsewhere("salus.consent.events", 0), {"salus.consent.events": range(2)}, "several-partitions"),
        (elsewhere("salus.consent.events", 0, 1), {"salus.consent.events": range(2)}, "several-partitions"),
    ],
)
def test_a_topic_that_nobody_may_publish_to_yet_or_that_is_not_there_is_refused(
    event: ShardsAssigned, there: dict[str, range], code: str
) -> None:
    with pytest.raises(Refusal) as caught:
        asked(event, catalogue=JOINED, there=there)

    assert caught.value.code == code


def test_only_assignments_belong_to_the_aggregate() -> None:
    assert concerns("net", assigned(1, {0: (0,)})) == "net"
    assert concerns("net", added(1)) is None  # type: ignore[arg-type]  # anything else
    assert evolve(ShardingState(), added(1)) == ShardingState()  # type: ignore[arg-type]  # anything else


def test_what_is_asked_for_has_one_form() -> None:
    body = AssignBody(
        epoch=1,
        shards=[ShardBody(id=1, topics={"b": [2, 1], "a": [0]}), ShardBody(id=0, topics={"c": []})],
        added=[AddedBody(**{name: getattr(added(1), name) for name in ("id", "origin", "verifier_key")})],
    )

    command = body.as_command()

    assert [shard.id for shard in command.shards] == [0, 1]
    assert command.shards[0].topics == ()
    assert [(t.topic, t.partitions) for t in command.shards[1].topics] == [("a", (0,)), ("b", (1, 2))]
    assert command.added == (added(1),)


def _somebody(_: object) -> Party:
    raise NotImplementedError


def test_the_routes_say_which_problems_they_answer() -> None:
    app = FastAPI()
    network: Any = None
    app.include_router(
        shard_routes(
            network,
            network,
            authenticate=FixedCallers(_somebody),
            partitions_of=network,
            ring=network,
            now=network,
        )
    )
    operations = app.openapi()["paths"]["/shards"]

    assert {"401", "403", "409", "422", "503"} <= set(operations["post"]["responses"])
    assert all(operation["description"] for operation in operations.values())
