"""Single hand-overs: of quiet partitions, from chains that do not verify, to shards with nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.sequencer.test_handover_faults import KEYS, SHARDS, Shards
from tests.unit.sequencer.world import CLINICAL, IDENTITY, PARTITIONS, World, document

from salus.ledger.block import Header, Range, header_key, sign_header
from salus.ledger.merkle import EMPTY_ROOT, leaf_hash
from salus.messaging import MissingRecordsError
from salus.sequencer.api import routes
from salus.sequencer.custody import Chains
from salus.sequencer.handlers import Progress, run

ALL_HERE = dict.fromkeys(PARTITIONS, 0)
FIRST = (CLINICAL, 0)


@dataclass
class Running:
    """Sequencers of some shards, run until a condition holds."""

    shards: Shards
    progress: dict[int, Progress] = field(default_factory=dict)

    async def until(
        self, condition: Callable[[], object], *, of: tuple[int, ...] = tuple(range(SHARDS))
    ) -> None:
        stop = asyncio.Event()
        sequencers = {n: self.shards.views[n].sequencer() for n in of}
        self.progress = {n: sequencer.progress for n, sequencer in sequencers.items()}
        tasks = [asyncio.create_task(run(sequencer, stop)) for sequencer in sequencers.values()]
        for _ in range(20_000):
            if condition():
                break
            assert not any(task.done() for task in tasks), [task for task in tasks if task.done()]
            await asyncio.sleep(0)
        else:
            pytest.fail("it did not come to that")
        stop.set()
        await asyncio.gather(*tasks)

    def holder(self, at: tuple[str, int]) -> int | None:
        return self.shards.sealed().get(at, (None, 0))[0]

    async def status(self, shard: int) -> dict[str, object]:
        app = FastAPI()
        app.include_router(routes(self.shards.views[shard].shard, self.progress[shard]))
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://sequencer") as client:
            answer: dict[str, object] = (await client.get("/status")).json()
        return answer


@pytest.fixture
def running() -> Running:
    return Running(Shards(World.with_hospital()))


async def test_a_quiet_partition_is_handed_over_in_blocks_without_records(running: Running) -> None:
    await running.shards.world.seal_everything()
    running.shards.assign(ALL_HERE | {FIRST: 1})

    await running.until(lambda: running.holder(FIRST) == 1)

    gave, took = running.shards.headers(0)[-1], running.shards.headers(1)[0]
    assert (gave.leaves, took.leaves, took.height) == (0, 0, 0)
    assert [(h.way, h.offset, h.other) for h in took.handovers] == [("took", 0, gave.block_origin)]
    assert [(h.way, h.offset, h.other) for h in gave.handovers] == [("gave", 0, KEYS[1].name)]
    assert took.next_offsets == {FIRST: 0}


async def test_a_gap_in_the_log_is_not_forgotten_with_the_reader_that_saw_it(running: Running) -> None:
    # review B9, finding 6: behind the gap a hand-over opens another reader, to which nothing is missing
    world = running.shards.world
    world.publish(document(0))
    world.topics.skip(*FIRST)
    world.publish(document(1))
    gap = world.topics.missing[FIRST] = MissingRecordsError(*FIRST, 1, 2)
    is_assigned = False

    def is_handed_over() -> bool:
        nonlocal is_assigned
        if not is_assigned and running.shards.sealed().get(FIRST) == (0, 3):
            is_assigned = True
            running.shards.assign(ALL_HERE | {FIRST: 1})
        reader = running.progress[0].reader
        return running.holder(FIRST) == 1 and reader is not None and not reader.missing

    await running.until(is_handed_over)
    assert running.progress[0].missing == {FIRST: gap}


async def test_a_shard_says_what_it_seals_and_awaits_and_which_assignment_it_follows(
    running: Running,
) -> None:
    running.shards.assign(ALL_HERE | {FIRST: 1})

    await running.until(lambda: running.progress[1].outlook is not None, of=(1,))
    waiting = await running.status(1)
    await running.until(lambda: running.holder(FIRST) == 1 and running.progress[1].starts)
    done = await running.status(1)

    assert (waiting["epoch"], waiting["height"], waiting["ranges"]) == (1, None, [])
    assert waiting["awaited"] == [{"topic": CLINICAL, "partition": 0}]
    assert (done["epoch"], done["awaited"], done["trouble"]) == (1, [], None)
    assert [(r["topic"], r["partition"]) for r in done["ranges"]] == [FIRST]  # type: ignore[attr-defined]  # JSON


async def test_a_partition_that_a_topic_got_is_sealed_from_its_beginning_once_it_is_assigned(
    running: Running,
) -> None:
    # case K1
    world, fresh = (
        running.shards.world,
        (CLINICAL, 1 + max(n for topic, n in PARTITIONS if topic == CLINICAL)),
    )
    await world.seal_everything()
    world.topics.partitions[fresh] = []
    world.publish(document(1), at=fresh)

    running.shards.assign(ALL_HERE | {fresh: 1})
    world.publish(document(2), at=fresh)
    await running.until(lambda: running.shards.sealed().get(fresh) == (1, 2))
    running.shards.assign(ALL_HERE | {fresh: 2})
    world.publish(document(3), at=fresh)
    await running.until(lambda: running.shards.sealed().get(fresh) == (2, 3))

    headers = [header for shard in range(SHARDS) for header in running.shards.headers(shard)]
    spans = sorted((r.first, r.next) for h in headers for r in h.ranges if (r.topic, r.partition) == fresh)
    assert next(span for span in spans if span[0] < span[1])[0] == 0
    assert not [h for h in running.shards.headers(1)[0].handovers if h.way == "took"]


async def test_a_shard_that_gave_everything_away_idles_and_takes_again(running: Running) -> None:
    running.shards.assign(dict.fromkeys(PARTITIONS, 1))
    await running.until(lambda: all(running.holder(at) == 1 for at in PARTITIONS))
    assert running.shards.headers(0)[-1].next_offsets == {}

    running.shards.assign(ALL_HERE | {FIRST: 1})
    running.shards.world.publish(document(1), at=(CLINICAL, 1))
    await running.until(lambda: running.shards.sealed().get((CLINICAL, 1)) == (0, 1))

    assert running.holder(IDENTITY) == 0
    assert running.holder(FIRST) == 1


async def test_nothing_is_taken_from_a_chain_that_does_not_verify_and_sealing_goes_on(
    running: Running,
) -> None:
    world = running.shards.world
    running.shards.assign(ALL_HERE | {FIRST: 1, (CLINICAL, 1): 2})
    await running.until(lambda: running.holder(FIRST) == 1 and running.holder((CLINICAL, 1)) == 2)
    running.shards.assign(ALL_HERE | {FIRST: 1, (CLINICAL, 1): 1})
    await running.until(lambda: running.shards.headers(2)[-1].handed("gave"), of=(0, 2))
    key = header_key(2, len(running.shards.headers(2)) - 1)
    sound, etag = world.store.objects[key]
    world.store.objects[key] = (sound.replace(b"accepted 0", b"accepted 1"), etag)

    world.publish(document(1), at=FIRST)
    await _seals_on(running)
    world.store.objects[key] = (sound, etag)
    await running.until(lambda: running.holder((CLINICAL, 1)) == 1, of=(1,))

    assert (await running.status(1))["trouble"] is None


async def _seals_on(running: Running) -> None:
    """Shard 1 seals what it has, and says that it cannot tell what shard 2 gave."""

    def there() -> bool:
        outlook = running.progress[1].outlook
        sealed = running.shards.headers(1)[-1].next_offsets.get(FIRST) == 1
        return sealed and outlook is not None and outlook.trouble is not None

    await running.until(there, of=(1,))


@given(positions=st.lists(st.integers(0, 5), min_size=1, max_size=20).map(sorted), wanted=st.integers(0, 7))
def test_the_first_block_that_knew_a_position_is_found(positions: list[int], wanted: int) -> None:
    chains = chains_of(positions)

    found = asyncio.run(chains.first_knowing(0, wanted))

    expected = next((height for height, position in enumerate(positions) if position >= wanted), None)
    assert (None if found is None else found.height) == expected


@pytest.mark.parametrize("forged", range(1, 5))
@pytest.mark.parametrize(("wanted", "height"), [(1, 1), (2, 2), (3, 3)])
def test_a_forged_position_hides_no_block_that_gave_something_away(
    forged: int, wanted: int, height: int
) -> None:
    # future.py, and the shard went on behind it
    positions = [0, 1, 2, 3, 3]
    positions.insert(forged, 10**12)
    chains = chains_of(positions)
    chains.identity_end = 4

    found = asyncio.run(chains.first_knowing(0, wanted))

    assert found is not None
    assert found.height == height + (forged <= height)


def chains_of(positions: list[int]) -> Chains:
    """Return a chain whose headers name these identity positions."""
    world = World()
    previous = bytes(32)
    for height, position in enumerate(positions):
        header = Header(
            origin=KEYS[0].name,
            height=height,
            leaves=0,
            root=EMPTY_ROOT,
            previous=previous,
            time=world.clock.time,
            accepted=0,
            body_bytes=0,
            body_sha256=bytes(32),
            identity=(*IDENTITY, position),
            ranges=(Range(*FIRST, 0, 0),),
        )
        note = sign_header(header, KEYS[0])
        previous = leaf_hash(note)
        world.store.objects[header_key(0, height)] = (note, str(height))
    return Chains(world.sequencer().archive, {0: world.shard})
