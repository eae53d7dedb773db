"""redB6 8: a copy in another partition made a stale event count; a topic with one owner has one partition."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.asking import UNASKED
from tests.databases import Databases
from tests.founding import public_key
from tests.unit.contracts.test_fold_batches import (
    STEPS,
    Step,
    emptied,
    event_of,
    fold,
    one_by_one,
    rows,
)
from tests.unit.contracts.test_rebuilt_state import CONSENT

from salus.consent.adapters.folded import PATIENTS
from salus.contracts.fold_store import open_fold_store
from salus.contracts.partitions import SeveralPartitionsError, folded_partitions
from salus.events.contexts import CATALOGUE
from salus.events.contexts.identity import AssignedShard, AssignedTopic, ShardsAssigned
from salus.events.effect import Applied
from salus.events.sharding import Assignment
from salus.runtime.network import FoundingParty, Log, Network, Shard

OWNED, OF_MEMBERS = "salus.consent.events", "salus.clinical.events"


def network_of(*topics: dict[str, tuple[int, ...]]) -> Network:
    shards = tuple(Shard(number, f"net/shard/{number}", "", each) for number, each in enumerate(topics))
    return Network("net", FoundingParty(CONSENT.did, public_key(CONSENT)), {}, Log("net", ""), shards)


def partitions_of(network: Network, *topics: str, assigned: Any = ()) -> list[tuple[str, int]]:
    return folded_partitions(topics, network=network, assignments=assigned, catalogue=CATALOGUE)


def test_members_topics_are_folded_in_all_their_partitions_and_a_services_in_its_one() -> None:
    network = network_of({OWNED: (0,), OF_MEMBERS: (0, 2)}, {OF_MEMBERS: (1,)})

    assert partitions_of(network, OWNED, OF_MEMBERS) == [(OWNED, 0), *((OF_MEMBERS, n) for n in range(3))]


@pytest.mark.parametrize("shards", [[{OWNED: (0, 1)}], [{OWNED: (0,)}, {OWNED: (1,)}]])
def test_a_topic_with_one_owner_in_several_partitions_is_not_folded(
    shards: list[dict[str, tuple[int, ...]]],
) -> None:
    with pytest.raises(SeveralPartitionsError, match=r"consent\.events is sealed in 2 partitions"):
        partitions_of(network_of(*shards), OWNED)


def test_nor_is_one_that_was_assigned_so_later() -> None:
    topics = (AssignedTopic(OF_MEMBERS, (0,)), AssignedTopic(OWNED, (0, 1)))
    event = ShardsAssigned("net", 1, (AssignedShard(0, topics),), request=UNASKED)

    with pytest.raises(SeveralPartitionsError):
        partitions_of(network_of({OF_MEMBERS: (0,)}), OWNED, assigned=[(5, Assignment.of(event))])


def test_a_topic_that_no_shard_seals_is_named() -> None:
    with pytest.raises(LookupError, match=OWNED):
        partitions_of(network_of({OF_MEMBERS: (0,)}), OWNED)


async def test_between_partitions_a_copy_of_a_stale_event_would_count(databases: Databases) -> None:
    """Why: of two partitions the one with the copy may be folded first."""
    grant = event_of(Step(0, 0, 1, 0, revokes=False, again=False), 0)
    stale = event_of(Step(0, 1, 2, 0, revokes=False, again=False), 0)
    async with open_fold_store(await databases.url("a")) as store:
        await emptied(store)
        live = await fold(store, [grant, stale, stale])
        await emptied(store)
        rebuilt = await fold(store, [stale, grant, stale])

    # The first one counts, and the second fold begins with another event.
    assert [isinstance(effect, Applied) for effect in live] == [True, False, False]
    assert [isinstance(effect, Applied) for effect in rebuilt] == [True, False, False]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, copies=st.lists(st.tuples(st.integers(0, 23), st.integers(0, 23)), max_size=12))
async def test_in_one_partition_copies_change_nothing_wherever_they_are_put(
    databases: Databases, steps: list[Step], copies: list[tuple[int, int]]
) -> None:
    """The law: a copy stands behind what it copies, where its version is over and its request is claimed."""
    # A service expects the version that it has read, which may be over and is never one to come.
    honest = [step._replace(ahead=min(step.ahead, 0)) for step in steps]
    async with open_fold_store(await databases.url("a")) as store:
        events, effects = await one_by_one(await emptied(store), honest)
        states = [row for row in (await rows(store))[0] if row[0] == PATIENTS.kind]

        with_copies = [(number, event) for number, event in enumerate(events)]
        for of, behind in copies:
            if of < len(events):
                place = next(at for at, (number, _) in enumerate(with_copies) if number == of)
                with_copies.insert(min(place + 1 + behind, len(with_copies)), (-1, events[of]))
        await emptied(store)
        found = await fold(store, [event for _, event in with_copies])
        copied = [row for row in (await rows(store))[0] if row[0] == PATIENTS.kind]

    assert [effect for (number, _), effect in zip(with_copies, found, strict=True) if number >= 0] == effects
    of_copies = [effect for (number, _), effect in zip(with_copies, found, strict=True) if number < 0]
    assert not any(isinstance(effect, Applied) for effect in of_copies)
    assert copied == states
