"""What audit publishes is what the ledger has, whoever writes to its database.

Case of the third attack: a large number as the published position, and nothing was published again.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.unit.audit.chain import Accepted
from tests.unit.audit.samples import STORAGE
from tests.unit.audit.test_indexing import EVERYTHING, PATIENT, READ, index_all, publish_all
from tests.unit.audit.test_reconciliation import World, database, world

from salus.audit.domain.identity_history import IDENTITY_TOPIC
from salus.audit.domain.search import Question
from salus.audit.ports import DamagedTrailError, OutOfReachError

__all__ = ["database", "world"]

OCSF, FHIR = "salus.audit.ocsf", "salus.audit.fhir"
INNOCENT = "did:key:z6MkinnocentInnocentInnocentInnocentInnocentInn"


def uids(world: World, topic: str = FHIR) -> set[str]:
    return {message.uid for message in world.outputs.messages if message.topic == topic}


def events(world: World) -> list[dict[str, Any]]:
    return [json.loads(each.value) for each in world.outputs.messages if each.topic == OCSF]


async def trail_uids(world: World) -> set[str]:
    return {each.entry.uid for each in await world.trail.search(Question(), EVERYTHING, limit=100)}


async def read(world: World, *names: str) -> None:
    # An honest sequencer has read the identity events of the minute before.
    at = world.chain.next[IDENTITY_TOPIC]
    for name in names:
        world.other.seal([Accepted(READ, source=STORAGE, name=name, subject=PATIENT)], judged_at=at)
    await index_all(world.other, world.trail, world.chain)


@pytest.mark.parametrize(
    "changes",
    [
        ["UPDATE audit_published SET next_height = 9000000000000000"],
        ["UPDATE audit_published SET next_height = next_height + 1"],
        [
            "UPDATE audit_published SET shard = 7 WHERE shard = 0",
            "UPDATE audit_published SET shard = 0 WHERE shard = 1",
        ],
        ["UPDATE audit_published SET proof = x'00'"],
        ["DELETE FROM audit_published"],
    ],
)
async def test_no_change_to_the_database_keeps_an_entry_from_being_published(
    world: World, changes: list[str]
) -> None:
    await publish_all(world.publisher)
    await world.change(*changes)
    await read(world, "read-secret")
    await publish_all(world.publisher)

    assert uids(world, OCSF) == uids(world) == await trail_uids(world)
    assert not await world.publisher.round()


async def test_what_is_published_is_not_published_again_at_the_next_start(world: World) -> None:
    await publish_all(world.publisher)
    count = len(world.outputs.messages)

    assert not await world.publisher.round()
    assert len(world.outputs.messages) == count


async def test_a_block_that_the_ledger_does_not_have_is_not_taken_for_published(world: World) -> None:
    await world.change("UPDATE audit_shards SET next_height = 1000")
    await publish_all(world.publisher)
    await world.compare(repair=True)
    await read(world, "read-secret")
    await publish_all(world.publisher)

    assert uids(world) == await trail_uids(world)


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM audit_trail WHERE id = 'read-a'",
        "UPDATE audit_trail SET height = 99 WHERE id = 'read-a'",
        "UPDATE audit_trail SET shard = 5 WHERE id = 'read-a'",
    ],
)
async def test_a_block_with_a_row_too_few_waits_until_it_is_repaired(world: World, change: str) -> None:
    await publish_all(world.publisher)
    await read(world, "read-a", "read-b")
    await world.change(change)
    await publish_all(world.publisher)
    with pytest.raises(DamagedTrailError):
        await world.publisher.check()
    assert not await trail_uids_of(world, "read-b") & uids(world)

    await world.compare(repair=True)
    await publish_all(world.publisher)

    assert await trail_uids(world) <= uids(world)


async def trail_uids_of(world: World, name: str) -> set[str]:
    found = await world.trail.entry(STORAGE, name)
    assert found is not None
    return {found.entry.uid}


async def test_what_was_published_while_it_was_wrong_is_corrected_when_it_is_repaired(world: World) -> None:
    await read(world, "read-a")
    found = await world.trail.entry(STORAGE, "read-a")
    assert found is not None
    was = found.entry.actor
    assert was is not None
    # In the entry and in each column that follows from it, so that no read notices.
    words = f"words = replace(words, '{was.lower()}', '{INNOCENT.lower()}')"
    sets = f"actor = '{INNOCENT}', {words}"
    blob = f"entry = CAST(replace(CAST(entry AS TEXT), '{was}', '{INNOCENT}') AS BLOB)"
    await world.change(f"UPDATE audit_trail SET {blob}, {sets} WHERE id = 'read-a'")
    await publish_all(world.publisher)
    uid = found.entry.uid
    false = [event for event in events(world) if event["metadata"]["uid"] == uid]
    assert [event["actor"]["user"]["uid"] for event in false] == [INNOCENT]

    await world.compare(repair=True)
    [right] = [event for event in events(world) if event["unmapped"].get("corrects") == uid]
    *_, resource = [each for each in world.outputs.messages if each.topic == FHIR]

    assert right["actor"]["user"]["uid"] == was
    assert right["metadata"]["uid"] not in {uid, None}
    assert (json.loads(resource.value)["id"], resource.uid) == (uid, right["metadata"]["uid"])
    assert INNOCENT not in resource.value.decode()


async def test_a_correction_that_cannot_be_sent_leaves_the_difference_to_the_next_repair(
    world: World,
) -> None:
    await world.change("UPDATE audit_trail SET actor = 'x' WHERE id = 'read-0'")
    world.outputs.fault = "LATE"
    with pytest.raises(OutOfReachError):
        await world.compare(repair=True)

    assert await world.compare() != []
    await world.compare(repair=True)
    assert await world.compare() == []


@pytest.mark.parametrize("seq", [-5, 0, 2**62])
@pytest.mark.parametrize(("shard", "height"), [(0, 10**9), (7, 3)])
async def test_a_row_from_outside_the_ledger_is_found_wherever_it_stands(
    world: World, seq: int, shard: int, height: int
) -> None:
    await world.change(
        f"UPDATE audit_trail SET seq = {seq}, shard = {shard}, height = {height} WHERE id = 'read-0'"
    )
    found = await world.compare()
    await world.compare(repair=True)

    assert f"entry shard {shard} block {height} row 0 is extra" in found
    assert await world.compare() == []
    await read(world, "read-after")


@pytest.mark.parametrize("seq", [-5, 0, 2**62])
async def test_a_position_that_no_entry_can_have_is_found_and_holds_nothing_up(
    world: World, seq: int
) -> None:
    await world.change(f"UPDATE audit_trail SET seq = {seq} WHERE id = 'read-0'")
    await read(world, "read-after")

    assert await world.compare(repair=True) == ["entry shard 1 block 0 row 0 is changed (seq)"]
    assert await world.compare() == []
