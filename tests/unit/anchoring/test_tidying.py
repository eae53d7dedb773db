"""Partial tiles give way to the full ones that replaced them, and nobody waits for that."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from tests.unit.anchoring.world import World

from salus.anchoring.log_bucket import LogBucket
from salus.anchoring.metrics import Metrics
from salus.anchoring.runner import Runner
from salus.anchoring.tidying import REST_S_MAX, Tidying, rest_after
from salus.objects import StoreAwayError
from salus.objects.memory import MemoryObjects

FIRST = ("tile/0/000", "tile/entries/000")


def partial_ones(objects: MemoryObjects, *full: str) -> list[str]:
    """Return the partial tiles and bundles that these full ones replace; without any, all there are."""
    beginnings = tuple(f"{path}.p/" for path in full)
    return [key for key in objects.objects if ".p/" in key and (not full or key.startswith(beginnings))]


async def put_full(objects: MemoryObjects, *paths: str) -> None:
    """Write full ones, and beside each the partial one that it replaces."""
    for path in paths:
        await objects.put(path, b"full")
        await objects.put(f"{path}.p/255", b"partial")


async def seal(world: World, count: int) -> None:
    for _ in range(count):
        await world.chains[0].seal([])


async def grow(world: World, bucket: LogBucket) -> None:
    """Append up to 253 entries, and then each by itself, up to 258."""
    anchor = world.anchor(bucket=bucket)
    await seal(world, 253)
    for _ in range(5):
        await seal(world, 1)
        await anchor.append()


async def test_partial_tiles_give_way_to_the_full_one_and_older_checkpoints_can_still_be_read(
    world: Any,
) -> None:
    bucket = world.bucket()
    await grow(world, bucket)
    before = partial_ones(world.log, *FIRST)

    await bucket.tidying.tidy_next()
    await bucket.tidying.tidy_next()

    # Of tiles and bundles each: 254 and 255.
    assert len(before) == 4
    assert partial_ones(world.log, *FIRST) == []
    assert world.published().size == 258
    assert "tile/0/001.p/2" in world.log.objects
    await world.require_whole()


async def test_no_append_waits_for_a_store_that_removes_nothing_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(with_bodies=True)
    bucket = world.bucket()
    removing, never = asyncio.Event(), asyncio.Event()

    async def delete(_key: str) -> None:
        removing.set()
        await never.wait()

    monkeypatch.setattr(world.log, "delete", delete)
    await seal(world, 255)
    anchor = world.anchor(bucket=bucket)
    await anchor.append()
    runner = Runner(anchor, Metrics(CollectorRegistry()), poll_interval_s=0.01, checkpoint_interval_s=0)
    await seal(world, 1)
    running = [asyncio.create_task(work) for work in (runner.run(), bucket.tidying.run())]

    await asyncio.wait_for(runner.wait_beyond(255), timeout=60)
    await asyncio.wait_for(removing.wait(), timeout=60)
    await seal(world, 1)
    published = await asyncio.wait_for(runner.wait_beyond(256), timeout=60)

    assert published.head.size == 257
    for task in running:
        task.cancel()
    await asyncio.wait(running)


async def test_who_takes_over_tidies_up_behind_who_was_killed(world: Any) -> None:
    await grow(world, world.bucket())
    left = partial_ones(world.log, *FIRST)
    bucket = world.bucket()

    await world.anchor(bucket=bucket).stand()
    await bucket.tidying.tidy_next()
    await bucket.tidying.tidy_next()

    assert left
    assert partial_ones(world.log, *FIRST) == []


async def test_each_level_has_a_last_full_tile() -> None:
    objects = MemoryObjects()
    tidying = Tidying(objects)
    last = ("tile/entries/x001/023", "tile/0/x001/023", "tile/1/003")
    await put_full(objects, *last, "tile/1/002", "tile/0/000")

    tidying.took_over(1024 * 256 + 255)
    for _ in last:
        await tidying.tidy_next()

    assert partial_ones(objects) == ["tile/1/002.p/255", "tile/0/000.p/255"]


async def test_nothing_is_removed_before_what_replaces_it_is_there() -> None:
    objects = MemoryObjects()
    tidying = Tidying(objects)
    await objects.put("tile/0/000.p/255", b"partial")

    tidying.heard(["tile/0/000"])
    await tidying.tidy_next()

    assert "tile/0/000.p/255" in objects.objects


async def test_a_store_that_goes_away_leaves_them_behind_and_the_next_ones_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    objects = MemoryObjects()
    tidying = Tidying(objects)
    delete = objects.delete
    await put_full(objects, "tile/0/000", "tile/0/001")

    async def away_for_one(key: str) -> None:
        if key.startswith("tile/0/000"):
            raise StoreAwayError(key, "for a test")
        await delete(key)

    monkeypatch.setattr(objects, "delete", away_for_one)
    tidying.heard(["tile/0/000", "tile/0/001.p/255", "tile/0/001"])
    await tidying.tidy_next()
    await tidying.tidy_next()

    assert partial_ones(objects) == ["tile/0/000.p/255"]


async def test_only_partial_tiles_are_removed_whatever_else_lies_beside_them() -> None:
    """Case L2: a key with a line break kept every partial tile; another's object was removed with them."""
    objects = MemoryObjects()
    await put_full(objects, "tile/0/000")
    others = ["tile/0/000.p/note\n.txt", "tile/0/000.p/README", "tile/0/000.p//7"]
    for key in others:
        objects.plant(key, b"x")
    tidying = Tidying(objects)
    tidying.heard(["tile/0/000"])

    await tidying.tidy_next()

    assert sorted(objects.objects) == sorted(["tile/0/000", *others])


async def test_no_more_wait_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("salus.anchoring.tidying.FULL_MAX", 1)
    objects = MemoryObjects()
    tidying = Tidying(objects)
    await put_full(objects, "tile/0/000", "tile/0/001", "tile/0/002")

    tidying.heard(["tile/0/000", "tile/0/001"])
    await tidying.tidy_next()
    tidying.heard(["tile/0/002"])
    await tidying.tidy_next()

    assert partial_ones(objects) == ["tile/0/001.p/255"]


def test_a_removal_is_followed_by_a_rest_that_is_never_long() -> None:
    assert rest_after(0.001) == pytest.approx(0.004)
    assert rest_after(1.0) == REST_S_MAX
