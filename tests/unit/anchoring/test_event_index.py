"""Events are found by source and id, whatever becomes of the index and of single blocks."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from tests.unit.anchoring.receipts import lookup_of
from tests.unit.anchoring.world import EVENT_SIGNER, LOG_ORIGIN, World

from salus.anchoring import event_lookup
from salus.anchoring.event_index import EventIndex, IndexedEvent, prints_of
from salus.anchoring.event_lookup import EventLookup
from salus.anchoring.metrics import Metrics
from salus.anchoring.runner import Runner
from salus.client import EventName
from salus.ledger.block import body_key

SOURCE = EVENT_SIGNER.verification_method.partition("#")[0]
LAST = bytes(32)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "events.sqlite"


@asynccontextmanager
async def indexing(world: World, file: Path) -> AsyncIterator[EventLookup]:
    """A process that anchors and indexes."""
    metrics = Metrics(CollectorRegistry())
    runner = Runner(world.anchor(), metrics, poll_interval_s=0.01, checkpoint_interval_s=0)
    index = EventIndex(file, log=LOG_ORIGIN)
    lookup = lookup_of(world, runner, metrics, index)
    tasks = [asyncio.create_task(work) for work in (runner.run(), lookup.run())]
    yield lookup
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    index.close()


async def found(lookup: EventLookup, number: int, *, wait_s: float = 20) -> IndexedEvent | None:
    return await lookup.find(EventName(SOURCE, f"event-{number}"), wait_s)


async def place(lookup: EventLookup, number: int) -> tuple[int, int] | None:
    event = await found(lookup, number)
    return (event.entry, event.row) if event else None


def test_what_lies_behind_the_end_of_a_chain_is_not_found(file: Path) -> None:
    # redB7, 2: an invented row of a stolen key has the source and id of the record that was sealed later
    index = EventIndex(file, log="log")
    (pair,) = prints_of([("did:a", "1")])
    index.add(0, LAST, [(pair, 4, 9)])
    index.add(1, LAST, [(pair, 2, 9)])

    assert index.find("did:a", "1", counts=lambda entry: entry != 0) == IndexedEvent(1, 2, 9)
    assert index.find("did:a", "1", counts=lambda _: False) is None


def test_the_first_of_a_name_is_found_and_others_are_not(file: Path) -> None:
    index = EventIndex(file, log="log")
    (pair, other) = prints_of([("did:a", "1"), ("did:a", "2")])
    index.add(0, LAST, [(pair, 4, 9)])
    index.add(1, LAST, [(pair, 0, 8), (other, 1, 7)])

    assert index.find("did:a", "1") == IndexedEvent(0, 4, 9)
    assert index.find("did:a", "2") == IndexedEvent(1, 1, 7)
    assert index.find("did:a1", "") is None
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    index.close()


def test_what_was_indexed_is_still_there_after_a_start(file: Path) -> None:
    index = EventIndex(file, log="log")
    index.add(0, b"last", [(prints_of([("did:a", "1")])[0], 4, 9)])
    index.close()
    index = EventIndex(file, log="log")

    assert (index.size, index.last, index.find("did:a", "1")) == (1, b"last", IndexedEvent(0, 4, 9))
    index.close()


@pytest.mark.parametrize(("log", "damage"), [("log", b"no database " * 400), ("other log", None)])
def test_a_damaged_file_or_one_of_another_log_is_made_anew(
    file: Path, log: str, damage: bytes | None
) -> None:
    index = EventIndex(file, log=log)
    index.add(0, LAST, [])
    index.close()
    if damage is not None:
        file.write_bytes(damage)
    index = EventIndex(file, log="log")

    assert index.size == 0
    index.close()


async def test_a_start_goes_on_where_the_index_ends(file: Path) -> None:
    world = World(with_bodies=True)
    await world.chains[0].seal_samples(2)
    async with indexing(world, file) as lookup:
        assert await place(lookup, 1) == (0, 1)
    # What is indexed is not read again.
    world.ledger.objects.pop(body_key(0, 0, world.chains[0].headers[0].root))
    await world.chains[0].seal_samples(2)
    async with indexing(world, file) as lookup:
        assert await place(lookup, 3) == (1, 1)
        assert await place(lookup, 1) == (0, 1)


async def test_an_index_of_an_earlier_network_of_the_same_name_is_made_anew(file: Path) -> None:
    earlier, world = World(with_bodies=True), World(with_bodies=True)
    await earlier.chains[0].seal_samples(5)
    async with indexing(earlier, file) as lookup:
        assert await found(lookup, 4)
    await world.chains[0].seal_samples(1)
    async with indexing(world, file) as lookup:
        assert await place(lookup, 0) == (0, 0)
        assert await found(lookup, 4, wait_s=0) is None


async def test_a_damaged_block_hides_its_own_events_only(file: Path) -> None:
    world = World(with_bodies=True)
    await world.chains[0].seal_samples(1)
    await world.chains[0].seal_samples(1)
    key = body_key(0, 0, world.chains[0].headers[0].root)
    world.ledger.objects[key] = (b"damaged", '"x"')
    async with indexing(world, file) as lookup:
        assert await place(lookup, 1) == (1, 0)
        assert await found(lookup, 0, wait_s=0) is None


# case F14
async def test_a_block_that_was_damaged_when_its_turn_came_is_read_again_after_a_start(file: Path) -> None:
    world = World(with_bodies=True)
    await world.chains[0].seal_samples(2)
    await world.chains[0].seal_samples(2)
    key = body_key(0, 0, world.chains[0].headers[0].root)
    original = world.ledger.objects.pop(key)
    async with indexing(world, file) as lookup:
        assert await place(lookup, 3) == (1, 1)
        assert lookup.gaps == 1
        assert await found(lookup, 1, wait_s=0) is None
    world.ledger.objects[key] = original

    async with indexing(world, file) as lookup:
        assert await place(lookup, 1) == (0, 1)
        assert lookup.gaps == 0
    async with indexing(world, file) as lookup:
        assert lookup.gaps == 0


# case F14
async def test_a_block_that_was_damaged_is_read_again_without_a_start(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_lookup, "GAPS_LOOK_S", 0.01)
    monkeypatch.setattr(event_lookup, "GAPS_AT_ONCE_MAX", 1)
    world = World(with_bodies=True)
    for _ in range(3):
        await world.chains[0].seal_samples(1)
    keys = [body_key(0, height, world.chains[0].headers[height].root) for height in (0, 1)]
    originals = {key: world.ledger.objects.pop(key) for key in keys}
    async with indexing(world, file) as lookup:
        assert await place(lookup, 2) == (2, 0)
        assert lookup.gaps == 2
        world.ledger.objects[keys[1]] = originals[keys[1]]
        assert await place(lookup, 1) == (1, 0)
        assert lookup.gaps == 1
        world.ledger.objects[keys[0]] = originals[keys[0]]
        assert await place(lookup, 0) == (0, 0)
