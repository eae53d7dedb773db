"""Assignments follow one another, change nothing when they cannot, and say who seals what at a position."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from tests.asking import UNASKED

from salus.events.contexts.identity import AddedShard, AssignedShard, AssignedTopic, ShardsAssigned
from salus.events.sharding import Assignment, Sharding
from salus.ledger.note import NoteSigner, encode_vkey

TOPIC = "salus.clinical.events"
WEAK = encode_vkey("net/shard/1", 0x01, bytes([1, *bytes(31)]))


@dataclass(frozen=True)
class Founder:
    id: int = 0
    origin: str = "net/shard/0"
    topics: dict[str, tuple[int, ...]] = field(default_factory=lambda: {TOPIC: (0, 1, 2)})


def added(shard: int, *, origin: str | None = None) -> AddedShard:
    name = origin or f"net/shard/{shard}"
    key = Ed25519PrivateKey.from_private_bytes(bytes([shard]) * 32)
    return AddedShard(shard, name, NoteSigner(name, key).vkey)


def assigned(epoch: int, places: dict[int, tuple[int, ...]], *new: AddedShard) -> ShardsAssigned:
    shards = tuple(
        AssignedShard(shard, (AssignedTopic(TOPIC, partitions),) if partitions else ())
        for shard, partitions in places.items()
    )
    return ShardsAssigned("net", epoch, shards, new, request=UNASKED)


def assignment(epoch: int, places: dict[int, tuple[int, ...]], *new: AddedShard) -> Assignment:
    return Assignment.of(assigned(epoch, places, *new))


NAMED_TWICE = Assignment(1, (AssignedShard(0, (AssignedTopic(TOPIC, (3,)),)), AssignedShard(0, ())))


def test_a_shard_does_not_give_more_than_a_header_holds() -> None:
    many = Founder(topics={TOPIC: tuple(range(300))})

    few = assignment(1, {1: tuple(range(256))}, added(1))
    too_many = assignment(1, {1: tuple(range(257))}, added(1))

    assert Sharding.of([many]).objection(few) is None
    assert (Sharding.of([many]).objection(too_many) or ("", ""))[0] == "too-many-moved"


def test_an_assignment_counts_from_its_position_on() -> None:
    event = assignment(1, {0: (0,), 1: (1, 2)}, added(1))

    sharding = Sharding.of([Founder()], [(17, event)])

    assert sharding.at(16).partitions_of(0) == {(TOPIC, 0), (TOPIC, 1), (TOPIC, 2)}
    assert sharding.at(17).partitions_of(1) == sharding.now.partitions_of(1) == {(TOPIC, 1), (TOPIC, 2)}
    assert sharding.shard_of("net/shard/1") == 1
    assert sharding.added[1].verifier_key == added(1).verifier_key


@pytest.mark.parametrize(
    ("code", "event"),
    [
        ("wrong-epoch", assignment(2, {0: (0, 1, 2)})),
        ("wrong-epoch", assignment(0, {0: (0, 1, 2)})),
        ("unknown-shard", assignment(1, {1: (0, 1, 2)})),
        ("shard-exists", assignment(1, {0: (0, 1, 2)}, added(0, origin="net/shard/9"))),
        ("shard-exists", assignment(1, {0: (0, 1, 2)}, added(3, origin="net/shard/0"))),
        ("shard-exists", assignment(1, {0: (0, 1, 2)}, added(3), added(3))),
        ("malformed-key", assignment(1, {0: (0, 1, 2)}, AddedShard(1, "net/shard/1", "net/shard/1+00+AA=="))),
        # Case SEC11: anybody signs under this key.
        ("malformed-key", assignment(1, {0: (0, 1, 2)}, AddedShard(1, "net/shard/1", WEAK))),
        ("malformed-origin", assignment(1, {0: (0, 1, 2)}, added(1, origin="net/block/1"))),
        ("malformed-key", assignment(1, {0: (0, 1, 2)}, AddedShard(1, "net/x", added(1).verifier_key))),
        ("assigned-twice", assignment(1, {0: (0, 1, 2), 1: (2,)}, added(1))),
        ("assigned-twice", assignment(1, {0: (0, 0)})),
        ("assigned-twice", NAMED_TWICE),
        # Red team 4: one operator alone stated any number of these, which everybody kept for ever.
        ("nothing-moves", assignment(1, {0: (0, 1, 2)})),
        ("nothing-moves", assignment(1, {0: (1,)})),
        ("nothing-moves", assignment(1, {0: ()})),
    ],
)
def test_an_assignment_that_cannot_follow_changes_nothing(code: str, event: Assignment) -> None:
    before = Sharding.of([Founder()])
    objection = before.objection(event)

    assert objection is not None
    assert objection[0] == code
    assert before.after(event, position=3) is before


@pytest.mark.parametrize("topics", [{}, {TOPIC: ()}])
def test_a_shard_without_partitions_in_network_json_counts_only_once_it_is_added(
    topics: dict[str, tuple[int, ...]],
) -> None:
    waiting = Founder(1, "net/shard/1", topics)

    assert Sharding.of([Founder(), waiting], [(1, assignment(1, {1: (0,)}))]).now.number == 0
    sharding = Sharding.of([Founder(), waiting], [(1, assignment(1, {1: (0,)}, added(1)))])

    assert sharding.now.partitions_of(1) == {(TOPIC, 0)}
    assert sharding.now.partitions_of(0) == {(TOPIC, 1), (TOPIC, 2)}, "what is not named stays"


@given(
    st.lists(st.tuples(st.integers(0, 3), st.lists(st.integers(0, 2), min_size=3, max_size=3)), max_size=6)
)
def test_every_partition_has_one_shard_at_every_position(steps: list[tuple[int, list[int]]]) -> None:
    events = []
    for number, (skew, homes) in enumerate(steps, start=1):
        places = {shard: tuple(p for p in range(3) if homes[p] == shard) for shard in range(3)}
        new = (added(1), added(2)) if number == 1 else ()
        events.append((10 * number, assignment(number + skew, places, *new)))

    sharding = Sharding.of([Founder()], events)

    assert [epoch.number for epoch in sharding.epochs] == list(range(len(sharding.epochs)))
    for position in range(70):
        epoch = sharding.at(position)
        assert epoch.position <= position
        held = [at for shard in sharding.origins for at in epoch.partitions_of(shard)]
        assert sorted(held) == [(TOPIC, 0), (TOPIC, 1), (TOPIC, 2)]
