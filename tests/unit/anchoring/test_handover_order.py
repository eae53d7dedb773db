"""A block that takes a partition stands in the log after the block that gave it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.anchoring.world import World
from tests.unit.events.test_sharding import TOPIC, Founder, added, assignment

from salus.anchoring.domain import Block, in_handover_order
from salus.events.sharding import Sharding
from salus.ledger.block import Handover, Header, Range, parse_block_origin
from salus.ledger.key_periods import Keys
from salus.ledger.merkle import EMPTY_ROOT
from salus.ledger.note import NoteVerifier
from salus.runtime.shard_keys import learn

HEADER = Header(
    origin="",
    height=0,
    leaves=0,
    root=EMPTY_ROOT,
    previous=bytes(32),
    time=datetime(2026, 6, 1, tzinfo=UTC),
    accepted=0,
    body_bytes=0,
    body_sha256=bytes(32),
    identity=("salus.identity.events", 0, 0),
    ranges=(Range(TOPIC, 0, 0, 0),),
)


def block(shard: int, height: int, *givers: str) -> Block:
    taken = tuple(Handover("took", TOPIC, p, 0, giver) for p, giver in enumerate(givers))
    header = replace(HEADER, origin=f"net/shard/{shard}", height=height, handovers=taken)
    return Block(shard, header, b"")


def named(blocks: list[Block]) -> list[tuple[int, int]]:
    return [(b.shard, b.header.height) for b in blocks]


def test_a_block_waits_for_the_one_that_it_takes_from() -> None:
    chains = {0: [block(0, 4, "net/shard/1/block/7"), block(0, 5)], 1: [block(1, 7), block(1, 8)]}

    assert named(in_handover_order(chains, {"net/shard/0": 4, "net/shard/1": 7})) == [
        (1, 7),
        (1, 8),
        (0, 4),
        (0, 5),
    ]
    assert named(in_handover_order(chains, {"net/shard/0": 4, "net/shard/1": 9})) == [
        (0, 4),
        (0, 5),
        (1, 7),
        (1, 8),
    ]


def test_blocks_behind_one_that_waits_wait_too() -> None:
    chains = {0: [block(0, 0), block(0, 1, "net/shard/9/block/0"), block(0, 2)], 1: [block(1, 0)]}

    assert named(in_handover_order(chains, {})) == [(0, 0), (1, 0)]


@given(st.lists(st.integers(0, 2), max_size=14), st.data())
def test_every_order_of_arrival_becomes_one_in_which_givers_come_first(
    moves: list[int], data: st.DataObject
) -> None:
    """A partition wanders; the archive is looked at when any number of each chain's blocks are there."""
    chains: dict[int, list[Block]] = {0: [], 1: [], 2: []}
    last: Block | None = None
    for shard in moves:
        giver = [last.header.block_origin] if last and last.shard != shard else []
        last = block(shard, len(chains[shard]), *giver)
        chains[shard].append(last)
    seen = {shard: blocks[: data.draw(st.integers(0, len(blocks)))] for shard, blocks in chains.items()}

    ready = in_handover_order(seen, {})

    done: set[tuple[str, int]] = set()
    for one in ready:
        assert all(parse_block_origin(h.other) in done for h in one.header.handovers)
        done.add((one.header.origin, one.header.height))
    rest = in_handover_order(
        {s: blocks[len([b for b in ready if b.shard == s]) :] for s, blocks in chains.items()},
        {f"net/shard/{s}": len([b for b in ready if b.shard == s]) for s in chains},
    )
    assert len(ready) + len(rest) == len(moves), "nothing waits for ever"


async def test_the_chain_of_a_shard_that_is_added_is_anchored_once_its_key_is_known() -> None:
    world = World()
    keys = {0: world.chains[0].note_signer.verifier}
    anchor = world.anchor()
    anchor._shards = keys
    await world.chains[0].seal_samples(1)
    await world.chains[1].seal_samples(1)
    assert await anchor.append() == 1

    keys[1] = world.chains[1].note_signer.verifier

    assert await anchor.append() == 1
    await world.require_whole()


def test_the_key_of_an_added_shard_is_learned_and_none_is_replaced() -> None:
    known = NoteVerifier.from_vkey(added(0).verifier_key)
    keys: dict[int, Keys] = {0: known}
    event = assignment(1, {1: (0, 1, 2)}, added(1))

    learn(keys, Sharding.of([Founder()], [(1, event)]))

    assert keys[0] is known
    assert keys[1].name == "net/shard/1"
