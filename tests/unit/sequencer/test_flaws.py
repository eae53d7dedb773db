"""Record batches with something wrong: each has its leaf, and a damaged one stops its own partition alone."""

from __future__ import annotations

import pytest
from tests.unit.sequencer.world import CLINICAL, World, document

from salus.ledger.merkle import leaf_hash
from salus.ledger.records import Flaw
from salus.sequencer.errors import BeyondEndError


@pytest.mark.parametrize("flaw", Flaw)
async def test_a_good_event_in_a_batch_with_a_flaw_is_a_rejected_leaf(flaw: Flaw) -> None:
    # cases SEC4, K3
    world = World.with_hospital()
    at = CLINICAL, 0
    flawed = world.publish(document(1), at=at)
    world.topics.partitions[at][-1] = type(flawed)(
        *at, flawed.offset, flawed.timestamp_ms, flawed.key, flawed.value, flawed.headers, flaw
    )
    world.publish(document(1), at=at)
    await world.seal_everything()

    rejected, accepted = [row for row in world.rows() if (row["topic"], row["partition"]) == at]
    assert (rejected["status"], rejected["value"]) == (f"rejected:{flaw.value}", None)
    assert rejected["digest"] == leaf_hash(flawed.value or b"")
    assert accepted["status"] == "accepted", "what is rejected makes no later one a duplicate"


async def test_a_damaged_batch_stops_its_own_partition_alone_also_over_a_restart() -> None:
    # case K3
    world = World.with_hospital()
    broken, sound = (CLINICAL, 0), (CLINICAL, 1)
    for number in range(3):
        world.publish(document(number), at=broken)
    world.topics.damaged[broken] = 2
    world.publish(document(3), at=sound)

    def sealed() -> dict[tuple[str, int], int]:
        return world.headers()[-1].next_offsets if world.headers() else {}

    await world.run_until(lambda: sealed().get(broken) == 2 and sealed().get(sound) == 1)
    world.topics.damaged[broken] = 1
    world.publish(document(4), at=sound)
    await world.run_until(lambda: sealed()[sound] == 2)
    assert sealed()[broken] == 2

    del world.topics.damaged[broken]
    await world.seal_everything()
    assert {status for at, status in world.statuses().items() if at[0] == CLINICAL} == {"accepted"}
    assert sealed()[broken] == 3


async def test_a_block_never_covers_what_the_log_does_not_have() -> None:
    # case F5
    world = World.with_hospital()
    at = CLINICAL, 0
    await world.seal_everything()
    sealed = len(world.headers())
    astray = world.publish(document(1), at=at)
    world.topics.partitions[at][-1] = type(astray)(
        *at, astray.offset + 1000, astray.timestamp_ms, astray.key, astray.value, astray.headers
    )

    with pytest.raises(BeyondEndError) as beyond:
        await world.seal_everything()
    assert (beyond.value.reached, beyond.value.end) == (1001, 1)
    assert len(world.headers()) == sealed
