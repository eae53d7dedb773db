"""A chain ends before its first forged block, and another shard goes on there (redB7, 2 to 5)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from random import Random

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from tests.unit.sequencer.test_foreign_blocks import AT, forge, with_status
from tests.unit.sequencer.test_handing_over import ALL_HERE, FIRST, Running
from tests.unit.sequencer.test_handover_faults import KEYS, SHARDS, Shards
from tests.unit.sequencer.world import CLINICAL, IDENTITY, PARTITIONS, World, document, rows_of

from salus.archive.body import encode_body
from salus.archive.building import columns_of
from salus.ledger.block import Handover, Header, Range, body_key, header_key, parse_block_origin, sign_header
from salus.ledger.check_coverage import CoverageChecker
from salus.ledger.key_periods import KeyHistory, KeyPeriod
from salus.ledger.merkle import leaf_hash, root_of
from salus.ledger.note import NoteVerifier
from salus.sequencer.domain import Partition
from salus.sequencer.errors import ForeignBlockError, HaltError

ALL_TO_1 = dict.fromkeys(PARTITIONS, 1)


def end(shards: Shards, shard: int, *, before: int) -> None:
    """Say in everybody's network file that the chain of a shard ends before a height."""
    key = NoteVerifier.from_vkey(KEYS[shard].vkey)
    keys = KeyHistory(key.name, (KeyPeriod(key, 0, before),))
    for number, view in shards.views.items():
        own = replace(view.shard, verifier=keys) if number == shard else view.shard
        fellows = tuple(replace(f, verifier=keys) if f.id == shard else f for f in own.fellows)
        known = {shard: keys} if shard else {}
        before_ = view.shard.described
        described = lambda n, known=known, before_=before_: known.get(n) or before_(n)  # noqa: E731
        view.seals = replace(own, fellows=fellows, described=described)


def require_covered(shards: Shards, ended: dict[int, int]) -> None:
    """The blocks that count cover every offset once."""
    checker = CoverageChecker()
    for shard in range(SHARDS):
        for header in shards.headers(shard)[: ended.get(shard)]:
            checker.add(header)
    assert checker.findings(ended={KEYS[shard].name: height for shard, height in ended.items()}) == []


def sealed_by(shards: Shards, shard: int) -> dict[tuple[object, ...], object]:
    rows = rows_of(shards.world.store, shard, KEYS[shard].verifier)
    return {(r["topic"], r["partition"], r["offset"]): r["status"] for r in rows}


def sealed_to(shards: Shards, shard: int) -> dict[tuple[str, int], int]:
    return shards.headers(shard)[-1].next_offsets if shards.headers(shard) else {}


def beyond(header: Header) -> Header:
    """Let the range of a partition end where its topic never will."""
    ranges = (replace(r, next=10**12) if (r.topic, r.partition) == AT else r for r in header.ranges)
    return replace(header, ranges=tuple(ranges))


FORGERIES: list[Callable[[World], None]] = [
    lambda world: forge(world, with_status("rejected:duplicate")),
    lambda world: forge(world, lambda rows: [replace(row, value=document(9)) for row in rows]),
    lambda world: forge(world, lambda rows: rows, beyond),
    lambda world: forge(world, lambda rows: [replace(row, timestamp_ms=5) for row in rows]),
    # An invented record has source and id of one that waits.
    lambda world: forge(world, lambda rows: [replace(rows[0], value=rows[1].value), rows[1]]),
]


@pytest.mark.parametrize("forgery", FORGERIES)
async def test_another_shard_seals_again_what_a_stolen_key_sealed(forgery: Callable[[World], None]) -> None:
    running = Running(Shards(World.with_hospital()))
    shards, world = running.shards, running.shards.world
    await world.seal_everything()
    for number in (1, 2):
        world.publish(document(number))
    forgery(world)
    world.publish(document(3))
    with pytest.raises(HaltError):
        await world.run_until(lambda: False)

    end(shards, 0, before=1)
    shards.assign(ALL_TO_1)
    await running.until(
        lambda: (
            shards.sealed().get(AT) == (1, 3)
            and all(running.holder(at) == 1 for at in PARTITIONS)
            and IDENTITY in shards.headers(1)[-1].next_offsets
        )
    )

    assert {status for place, status in sealed_by(shards, 1).items() if place[0] == CLINICAL} == {"accepted"}
    assert len(shards.headers(0)) == 2
    require_covered(shards, {0: 1})
    status = await running.status(0)
    assert (status["epoch"], status["height"], status["ranges"], status["awaited"]) == (1, 0, [], [])
    assert status["halted"] is status["trouble"] is None


async def test_what_nobody_was_assigned_yet_waits_aloud() -> None:
    # redB7, 5: partitions that nobody seals were nowhere to be seen
    running = Running(Shards(World.with_hospital()))
    await running.shards.world.seal_everything()
    running.shards.world.publish(document(1))
    forge(running.shards.world, with_status("rejected:duplicate"))
    end(running.shards, 0, before=1)

    await running.until(lambda: running.progress[0].outlook and running.progress[0].outlook.trouble, of=(0,))

    status = await running.status(0)
    assert len(status["awaited"]) == len(PARTITIONS)  # type: ignore[arg-type]  # JSON
    assert "its chain has ended" in str(status["trouble"])


async def test_a_partition_that_a_forged_block_kept_against_the_assignment_is_taken() -> None:
    # redB7, 5
    running = Running(Shards(World.with_hospital()))
    shards, world = running.shards, running.shards.world
    await world.seal_everything()
    shards.assign(ALL_HERE | {FIRST: 1})
    forge(world)
    await running.until(lambda: running.progress[1].outlook and running.progress[1].outlook.trouble, of=(1,))
    assert "keeps" in str((await running.status(1))["trouble"])

    end(shards, 0, before=1)
    shards.assign(ALL_HERE | {at: 2 for at in PARTITIONS if at != FIRST} | {FIRST: 1})
    await running.until(lambda: all(running.holder(at) == (1 if at == FIRST else 2) for at in PARTITIONS))

    require_covered(shards, {0: 1})


async def test_what_was_given_to_a_shard_that_ended_before_it_took_it_the_next_one_takes() -> None:
    running = Running(Shards(World.with_hospital()))
    shards, world = running.shards, running.shards.world
    other = (CLINICAL, 1)
    shards.assign(ALL_HERE | {other: 1})
    await running.until(lambda: running.holder(other) == 1)
    shards.assign(ALL_HERE | {other: 1, FIRST: 1})
    await running.until(lambda: shards.headers(0)[-1].handed("gave").get(FIRST) is not None, of=(0,))
    ended = len(shards.headers(1))
    end(shards, 1, before=ended)

    shards.assign(ALL_HERE | {other: 2, FIRST: 2})
    world.publish(document(1), at=FIRST)
    world.publish(document(2), at=other)
    await running.until(lambda: shards.sealed().get(FIRST) == (2, 1) and shards.sealed().get(other) == (2, 1))

    require_covered(shards, {1: ended})


async def test_who_gave_to_a_shard_that_ended_before_it_took_says_that_a_third_one_has_to() -> None:
    running = Running(Shards(World.with_hospital()))
    shards, world = running.shards, running.shards.world
    other = (CLINICAL, 1)
    shards.assign(ALL_HERE | {other: 1})
    await running.until(lambda: running.holder(other) == 1)
    shards.assign(ALL_HERE | {other: 1, FIRST: 1})
    await running.until(lambda: shards.headers(0)[-1].handed("gave").get(FIRST) is not None, of=(0,))
    ended = len(shards.headers(1))
    end(shards, 1, before=ended)

    shards.assign(ALL_HERE | {other: 0})
    await running.until(lambda: running.progress[0].outlook and running.progress[0].outlook.trouble, of=(0,))
    assert "assign it to a third shard" in str((await running.status(0))["trouble"])
    shards.assign(ALL_HERE | {FIRST: 2, other: 2})
    world.publish(document(1), at=FIRST)
    await running.until(lambda: shards.sealed().get(FIRST) == (2, 1) and running.holder(other) == 2)

    require_covered(shards, {1: ended})


async def test_a_chain_that_ends_behind_a_forged_block_does_not_go_on() -> None:
    running = Running(Shards(World.with_hospital()))
    world = running.shards.world
    await world.seal_everything()
    world.publish(document(1))
    forge(world, with_status("rejected:duplicate"))
    end(running.shards, 0, before=2)

    with pytest.raises(ForeignBlockError, match="block 1"):
        await running.shards.views[0].run_until(lambda: False)


def take_again(shards: Shards, shard: int, at: Partition, giver: Header, *, to: int) -> None:
    """Seal an empty block that takes a partition from the last block of a chain, and gives it on."""
    last, offset = shards.headers(shard)[-1], giver.next_offsets[at]
    columns = columns_of([])
    body, root = encode_body(columns), root_of(columns.leaf_hash)
    ends = {**last.next_offsets, at: offset}
    header = replace(
        last,
        height=last.height + 1,
        leaves=0,
        accepted=0,
        root=root,
        previous=leaf_hash(shards.world.store.objects[header_key(shard, last.height)][0]),
        body_bytes=len(body),
        body_sha256=sha256(body).digest(),
        ranges=tuple(Range(*place, end, end) for place, end in sorted(ends.items())),
        handovers=(
            Handover("gave", *at, offset, KEYS[to].name),
            Handover("took", *at, offset, giver.block_origin),
        ),
        identity=(*IDENTITY, len(shards.world.topics.partitions[IDENTITY])),
    )
    store = shards.world.store
    store.objects[body_key(shard, header.height, root)] = (body, "body")
    store.objects[header_key(shard, header.height)] = (sign_header(header, KEYS[shard]), "header")


async def test_what_an_ended_chain_left_is_taken_once_and_by_its_heir() -> None:
    """Case redB8 2: the thief of a further shard's key takes what another shard took long ago."""
    running = Running(Shards(World.with_hospital()))
    shards, world = running.shards, running.shards.world
    other = (CLINICAL, 1)
    shards.assign(ALL_HERE | {other: 2})
    await running.until(lambda: running.holder(other) == 2)
    ended = len(shards.headers(0))
    end(shards, 0, before=ended)
    shards.assign(ALL_TO_1 | {other: 2})
    await running.until(lambda: all(running.holder(at) == (2 if at == other else 1) for at in PARTITIONS))

    take_again(shards, 2, FIRST, shards.headers(0)[ended - 1], to=1)
    world.publish(document(1), at=other)

    with pytest.raises(ForeignBlockError, match="did not give it, or which"):
        await shards.views[2].run_until(lambda: False)


def builds_on(shards: Shards, shard: int, ended: dict[int, int]) -> int | None:
    """Return the height of the first block that took something from what lies behind an end."""
    ends = {KEYS[number].name: height for number, height in ended.items()}
    for header in shards.headers(shard)[: ended.get(shard)]:
        takes = [parse_block_origin(line.other) for line in header.handovers if line.way == "took"]
        if any(height >= ends.get(origin, height + 1) for origin, height in takes):
            return header.height
    return None


@settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(seed=st.integers(0, 2**32))
async def test_wherever_chains_end_every_record_is_sealed_once_by_what_is_left(seed: int) -> None:
    random = Random(seed)
    running = Running(Shards(World.with_hospital()))
    shards, world, homes = running.shards, running.shards.world, dict(ALL_HERE)
    await world.seal_everything()
    for number in range(4):
        before, homes = homes, {at: random.randrange(2) for at in PARTITIONS}
        if homes == before:
            continue
        shards.assign(homes)
        world.publish(document(number), at=(CLINICAL, random.randrange(2)))
        await running.until(lambda: shards.is_settled(homes))  # noqa: B023  # it is awaited here
    # The first shard has a block without anything of the others before it, so it can end wherever others do.
    ended = {0: random.randint(1, len(shards.headers(0)))}
    if random.random() < 0.5 and len(shards.headers(1)) > 1:
        ended[1] = random.randint(1, len(shards.headers(1)))
    while again := {n: h for n in range(SHARDS) if (h := builds_on(shards, n, ended)) is not None}:
        assume(0 not in again.values())
        ended |= again
    for shard, height in ended.items():
        end(shards, shard, before=height)
    world.publish(document(9))
    shards.assign(dict.fromkeys(PARTITIONS, 2))
    ends = {at: len(records) for at, records in world.topics.partitions.items()}
    await running.until(lambda: all(sealed_to(shards, 2).get(at) == ends[at] for at in PARTITIONS))

    require_covered(shards, ended)
