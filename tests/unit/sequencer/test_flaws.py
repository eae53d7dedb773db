"""Record batches with something wrong: each has its leaf, and a damaged one stops its own partition alone."""

from __future__ import annotations

from collections.abc import Callable

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


@pytest.mark.parametrize("late_ends", [0, 3])
async def test_records_that_come_while_the_broker_answers_are_sealed(late_ends: int) -> None:
    """Kafka notes the high watermark before it reads: an answer can bring more than it says that there is."""
    world = World.with_hospital()
    before = read_and_sealed(world)
    await world.run_until(before)

    def come() -> bool:
        if not world.topics.unnoted and before():
            world.topics.unnoted[CLINICAL, 0], world.topics.late_ends = 2, late_ends
            for number in range(5):
                world.publish(document(number))
        return bool(world.headers()) and world.headers()[-1].next_offsets.get((CLINICAL, 0)) == 5

    await world.run_until(come)
    assert world.topics.late_ends == 0, "nobody was asked"


async def test_where_the_broker_goes_on_to_know_of_less_the_shard_stops() -> None:
    world = World.with_hospital()
    sealed = read_and_sealed(world)

    def come() -> bool:
        if not world.topics.unnoted and sealed():
            world.topics.unnoted[CLINICAL, 0], world.topics.late_ends = 1, 1_000_000
            world.publish(document(1))
        return False

    with pytest.raises(BeyondEndError):
        await world.run_until(come)
    assert world.headers()[-1].next_offsets[CLINICAL, 0] == 0


def read_and_sealed(world: World) -> Callable[[], bool]:
    return lambda: bool(world.headers()) and world.is_everything_sealed()
