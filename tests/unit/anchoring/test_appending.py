"""What the log is, whatever happens: one copy of every header, in chain order, never rewritten."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.effort import tries

from salus.anchoring.handlers import Anchor, _within
from salus.archive.errors import HeadError
from salus.archive.head import HEAD_KEY
from salus.archive.log import CHECKPOINT_KEY
from salus.ledger.block import header_key
from salus.objects import ObjectsError
from salus.objects.memory import Fault

WRITES_A_SCHEDULE = 40
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

faults = st.lists(
    st.sampled_from([Fault.NONE, Fault.NONE, Fault.LOST, Fault.LATE]), max_size=WRITES_A_SCHEDULE
)
turns = st.lists(st.integers(0, 4), max_size=120)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("seal"), st.integers(0, 1)),
        st.tuples(st.just("append"), st.integers(0, 1)),
        st.tuples(st.just("restart"), st.integers(0, 1)),
        st.tuples(st.just("race"), st.just(0)),
    ),
    min_size=1,
    max_size=25,
)


async def attempt(anchor: Anchor) -> None:
    with suppress(ObjectsError):
        await anchor.append()


async def settle(anchor: Anchor) -> None:
    """Append until nothing is new; every fault uses up one of a finite list."""
    for _ in range(WRITES_A_SCHEDULE + 5):
        with suppress(ObjectsError):
            if not await anchor.append() and anchor.standing is not None:
                return
    raise AssertionError("anchoring does not settle")


async def play(world: Any, script: list[tuple[str, int]]) -> None:
    anchors = [world.anchor(), world.anchor()]
    for step, which in script:
        if step == "seal":
            await world.chains[which].seal_samples(1)
        elif step == "append":
            await attempt(anchors[which])
        elif step == "restart":
            anchors[which] = world.anchor()
        else:
            await asyncio.gather(*map(attempt, anchors))
    for anchor in anchors:
        await settle(anchor)
        assert anchor.published.head.size == sum(len(chain.notes) for chain in world.chains.values())


@settings(PATIENT, max_examples=tries(150, long=20_000))
@given(script=steps, faults=faults, turns=turns)
def test_whatever_fails_or_races_every_header_is_in_the_log_once_and_no_checkpoint_is_taken_back(
    make_world: Any, script: list[tuple[str, int]], faults: list[Fault], turns: list[int]
) -> None:
    world = make_world(faults=faults, turns=turns)

    asyncio.run(play(world, script))

    asyncio.run(world.require_whole())


@settings(PATIENT, max_examples=tries(20, long=500))
@given(counts=st.lists(st.integers(0, 60), min_size=1, max_size=7), limit=st.integers(1, 120))
def test_a_log_grown_in_any_steps_has_the_tiles_of_its_entries(
    make_world: Any, counts: list[int], limit: int
) -> None:
    world = make_world()

    async def grow() -> None:
        anchor = world.anchor(entries_max=2 * limit)
        for count in counts:
            for _ in range(count):
                await world.chains[0].seal([])
            await anchor.append()
        while await anchor.append():
            pass

    asyncio.run(grow())

    asyncio.run(world.require_whole())


async def test_a_slow_process_does_not_take_a_later_checkpoint_back(world: Any) -> None:
    slow, quick = world.anchor(), world.anchor()
    await slow.stand()
    await world.chains[0].seal_samples(1)
    world.log.hold = "tile/0/000.p/1"
    appending = asyncio.create_task(slow.append())
    await world.log.held.wait()
    world.log.hold = ""
    await world.chains[0].seal_samples(1)
    await quick.append()
    assert world.published().size == 2

    world.log.release.set()
    await appending

    assert world.published().size == 2
    await world.require_whole()


async def test_a_checkpoint_shown_between_reading_and_writing_is_not_taken_back(world: Any) -> None:
    slow, quick = world.anchor(), world.anchor()
    await slow.stand()
    await world.chains[0].seal_samples(1)
    world.log.hold = "checkpoint"
    appending = asyncio.create_task(slow.append())
    await world.log.held.wait()
    world.log.hold = ""
    await world.chains[0].seal_samples(1)
    await quick.append()
    assert world.published().size == 2

    world.log.release.set()
    await appending

    assert world.published().size == 2
    await world.require_whole()


async def test_an_empty_archive_has_a_checkpoint_of_the_empty_log(world: Any) -> None:
    assert await world.anchor().append() == 0

    assert world.published().size == 0


async def test_a_header_with_a_changed_byte_stops_its_chain_and_no_other(world: Any) -> None:
    for chain in world.chains.values():
        await chain.seal_samples(1)
        await chain.seal_samples(1)
    key = header_key(0, 1)
    note, etag = world.ledger.objects[key]
    world.ledger.objects[key] = (note.replace(b"accepted 1", b"accepted 0"), etag)
    anchor = world.anchor()

    appended = await anchor.append()

    assert appended == 3
    assert anchor.stalled.keys() == {0}
    assert anchor.stalled[0].startswith("block 1: header-signature")
    assert world.published().size == 3


async def test_a_chain_goes_on_once_its_header_is_mended(world: Any) -> None:
    await world.chains[0].seal_samples(1)
    key = header_key(0, 0)
    whole = world.ledger.objects[key]
    world.ledger.objects[key] = (whole[0][:-3] + b"AA\n", whole[1])
    anchor = world.anchor()
    assert await anchor.append() == 0
    assert 0 in anchor.stalled
    world.ledger.objects[key] = whole

    assert await anchor.append() == 1

    assert anchor.stalled == {}


async def test_a_header_of_another_chain_is_not_appended(world: Any) -> None:
    await world.chains[0].seal_samples(1)
    world.ledger.objects[header_key(1, 0)] = world.ledger.objects[header_key(0, 0)]
    anchor = world.anchor()

    assert await anchor.append() == 1

    assert 1 in anchor.stalled


async def test_a_header_that_skips_a_range_is_not_appended(world: Any) -> None:
    await world.chains[0].seal_samples(1)
    await world.chains[0].seal_samples(1)
    await world.chains[0].seal_samples(1)
    world.ledger.objects[header_key(0, 1)] = world.ledger.objects[header_key(0, 2)]
    anchor = world.anchor()

    assert await anchor.append() == 1

    assert anchor.stalled[0].startswith("block 1: height")


@pytest.mark.parametrize(
    ("field", "value"),
    [("size", 5), ("root", b64encode(bytes(32)).decode()), ("format", "another"), ("checkpoint", "x")],
)
async def test_a_head_that_is_not_what_was_signed_is_refused(world: Any, field: str, value: object) -> None:
    await world.chains[0].seal_samples(1)
    await world.anchor().append()
    data, etag = world.log.objects[HEAD_KEY]
    changed = msgspec.json.decode(data) | {field: value}
    world.log.objects[HEAD_KEY] = (msgspec.json.encode(changed), etag)

    with pytest.raises(HeadError):
        await world.anchor().append()


@pytest.mark.parametrize("path", ["tile/0/000.p/3", "tile/entries/000.p/3"])
async def test_nothing_is_built_on_a_damaged_edge(world: Any, path: str) -> None:
    for _ in range(3):
        await world.chains[0].seal_samples(1)
    await world.anchor().append()
    await world.chains[0].seal_samples(1)
    data, etag = world.log.objects[path]
    world.log.objects[path] = (data[:-1] + bytes([data[-1] ^ 1]), etag)

    with pytest.raises(HeadError):
        await world.anchor().append()

    assert world.published().size == 3


async def test_a_log_that_went_back_is_refused(world: Any) -> None:
    anchor = world.anchor()
    await world.chains[0].seal_samples(1)
    await anchor.append()
    before = dict(world.log.objects)
    await world.chains[0].seal_samples(1)
    await anchor.append()
    world.log.objects = before

    with pytest.raises(HeadError, match="went back"):
        await anchor.refresh()


@pytest.mark.parametrize("left", ["an old one", "none"])
async def test_a_head_behind_what_is_published_is_refused_before_anything_is_signed_or_written(
    world: Any, left: str
) -> None:
    # case B9-4, a bucket that was restored from a replica, or somebody who puts an old version back
    await world.chains[1].seal_samples(1)
    await world.anchor().append()
    old = world.log.objects[HEAD_KEY]
    for shard in (0, 1):
        # In this order in the log; from the old head both would be appended at once, in another.
        await world.chains[1 - shard].seal_samples(1)
        await world.anchor().append()
    now = world.log.objects[HEAD_KEY]
    if left == "none":
        del world.log.objects[HEAD_KEY]
    else:
        world.log.objects[HEAD_KEY] = old
    there = dict(world.log.objects)

    with pytest.raises(HeadError, match="went back"):
        await world.anchor().append()

    assert world.log.objects == there
    world.log.objects[HEAD_KEY] = now
    await world.chains[0].seal_samples(1)
    await world.anchor().append()
    await world.require_whole()


async def test_a_head_that_another_moves_while_it_is_looked_at_did_not_go_back(world: Any) -> None:
    await world.chains[0].seal_samples(1)
    await world.anchor().append()
    bucket, loads = world.bucket(), 0
    load = bucket.load_head

    async def load_and_be_overtaken() -> Any:
        nonlocal loads
        found, loads = await load(), loads + 1
        if loads == 1:
            await world.chains[0].seal_samples(1)
            await world.anchor().append()
        return found

    bucket.load_head = load_and_be_overtaken
    standing = await world.anchor(bucket=bucket).stand()

    assert (standing.head.size, loads) == (2, 2)


async def test_a_published_checkpoint_of_another_tree_is_refused(world: Any, make_world: Any) -> None:
    other = make_world()
    await world.chains[0].seal_samples(1)
    await other.chains[1].seal_samples(1)
    await world.anchor().append()
    await other.anchor().append()
    world.log.objects[CHECKPOINT_KEY] = other.log.objects[CHECKPOINT_KEY]

    with pytest.raises(HeadError, match="another tree"):
        await world.anchor().stand()


@given(st.lists(st.integers(0, 9), max_size=8), st.integers(0, 30))
def test_headers_are_taken_up_to_a_number_of_bytes_and_at_least_one(sizes: list[int], bytes_max: int) -> None:
    # case F8: a head brings its entries, and has a maximum
    notes = [bytes(size) for size in sizes]

    taken = _within(notes, bytes_max)

    assert taken == notes[: len(taken)]
    assert sum(map(len, taken[1:]), len(taken[0]) if taken else 0) <= bytes_max or len(taken) == 1
    assert bool(taken) == bool(notes)
    assert len(taken) == len(notes) or sum(map(len, notes[: len(taken) + 1])) > bytes_max
