"""New events are published at once, whoever writes to audit's database, and one shard holds up no other.

Cases of the fourth attack: the mark up to where a shard is published is taken away again and again; a header
that is false or gone, and a damaged row, in one shard of several.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.asking import NETWORK, UNASKED
from tests.unit.audit.chain import Accepted
from tests.unit.audit.samples import STORAGE
from tests.unit.audit.test_indexing import PATIENT, READ, index_all, publish_all, publisher_of
from tests.unit.audit.test_publication import read, trail_uids_of, uids
from tests.unit.audit.test_reconciliation import World, database, world

from salus.audit import publication
from salus.audit.adapters.signatures import OwnSignatures
from salus.audit.domain.progress import NEWEST_BLOCKS, Progress
from salus.audit.ports import DamagedHeaderError, DamagedTrailError, Message, Published
from salus.audit.publication import Publisher
from salus.audit.publication_mark import LostMarkError
from salus.events.contexts import CATALOGUE
from salus.events.contexts.identity import KeyRevoked, PartyRegistered, PublicKey
from salus.events.did import LocalSigner, multibase_of
from salus.events.keyring import KeyRing
from salus.ledger.block import header_key

__all__ = ["database", "world"]

LONG = NEWEST_BLOCKS + 10
GONE = "DELETE FROM audit_published WHERE shard = 1"


def restarted(world: World) -> Publisher:
    """Return a publisher as a start of the service makes it."""
    return publisher_of(world.trail, world.outputs, world.chain, world.other)


async def read_much(world: World) -> None:
    await read(world, *(f"old-{number}" for number in range(LONG)))


async def row(world: World) -> Published:
    mark = await world.trail.published(1)
    assert mark is not None
    return mark


async def test_a_mark_that_is_taken_away_again_and_again_holds_nothing_up_and_is_told(world: World) -> None:
    await read_much(world)
    await publish_all(world.publisher)
    await world.publisher.check()
    count = len(world.outputs.messages)
    for number in range(5):
        await world.change(GONE)
        await read(world, f"new-{number}")
        await world.publisher.round()

        assert await trail_uids_of(world, f"new-{number}") <= uids(world)
    with pytest.raises(LostMarkError):
        await world.publisher.check()
    assert len(world.outputs.messages) == count + 2 * 5
    assert (await row(world)).height == (await world.trail.tip(1)).height


async def test_an_old_mark_that_is_put_back_holds_nothing_up_and_is_told(world: World) -> None:
    await publish_all(world.publisher)
    old = await row(world)
    await read_much(world)
    await publish_all(world.publisher)
    count = len(world.outputs.messages)
    for number in range(5):
        assert await world.trail.set_published(1, old, before=await row(world))
        await read(world, f"new-{number}")
        await world.publisher.round()

        assert await trail_uids_of(world, f"new-{number}") <= uids(world)
    with pytest.raises(LostMarkError):
        await world.publisher.check()
    assert len(world.outputs.messages) == count + 2 * 5


async def test_a_start_without_a_mark_publishes_the_newest_first_and_all_in_the_end(world: World) -> None:
    await read_much(world)
    await publish_all(world.publisher)
    await world.change(GONE)
    world.outputs.messages.clear()
    publisher = restarted(world)
    await publisher.round()
    tip = (await world.trail.tip(1)).height
    [newest] = await world.trail.block(1, tip - NEWEST_BLOCKS, limit=2)
    [oldest] = await world.trail.block(1, 0, limit=2)
    assert {newest.entry.uid, oldest.entry.uid} <= uids(world)

    await publish_all(publisher)

    blocks = [await world.trail.block(1, height, limit=2) for height in range(tip)]
    assert uids(world) == {each.entry.uid for block in blocks for each in block}
    assert (await row(world)).height == tip


async def test_what_breaks_off_while_history_is_published_leaves_no_gap(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publication, "BLOCKS_AT_ONCE_MAX", 1)
    await read_much(world)
    first = restarted(world)
    for _ in range(3):
        await first.round()
    assert (await row(world)).height == 3

    await publish_all(restarted(world))

    assert len({each.uid for each in world.outputs.messages}) == await world.trail.end()


async def test_small_blocks_go_out_together_with_one_mark(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await publish_all(world.publisher)
    world.outputs.messages.clear()
    await read(world, *(f"new-{number}" for number in range(8)))
    await world.change("DELETE FROM audit_trail WHERE id = 'new-6'")
    sent: list[int] = []
    publish = world.outputs.publish

    async def counted(messages: Sequence[Message]) -> None:
        sent.append(len(messages))
        await publish(messages)

    monkeypatch.setattr(world.outputs, "publish", counted)
    monkeypatch.setattr(publication, "PUBLISHED_AT_ONCE_MAX", 4)
    tip = (await world.trail.tip(1)).height
    await world.publisher.round()
    first = await row(world)
    await world.publisher.round()
    await world.publisher.round()

    # Each event is published to two topics; what is damaged ends the run before it.
    assert (sent, first.height) == ([8, 4], tip - 4)
    assert (await row(world)).height == tip - 2
    with pytest.raises(DamagedTrailError, match=f"shard 1 block {tip - 2}"):
        await world.publisher.check()
    published = [message.uid for message in world.outputs.messages if message.topic.endswith("ocsf")]
    trail = [await world.trail.block(1, height, limit=2) for height in range(tip - 8, tip - 2)]
    assert published == [each.entry.uid for block in trail for each in block]


async def test_a_damaged_block_of_history_does_not_hold_up_the_newest(world: World) -> None:
    await read_much(world)
    await world.change("DELETE FROM audit_trail WHERE shard = 1 AND height = 0")
    publisher = restarted(world)
    await publish_all(publisher)
    await read(world, "new")
    await publisher.round()

    assert await trail_uids_of(world, "new") <= uids(world)
    with pytest.raises(DamagedTrailError):
        await publisher.check()


async def test_two_replicas_accuse_nobody(world: World) -> None:
    second = restarted(world)
    await second.round()
    await publish_all(world.publisher)
    await read(world, "new")
    await publish_all(second)
    await publish_all(world.publisher)

    await world.publisher.check()
    await second.check()


async def test_a_mark_is_signed_anew_at_the_start_with_the_next_key(world: World) -> None:
    old = LocalSigner.from_seed(b"a" * 32)
    new = LocalSigner.from_seed(b"b" * 32, f"{old.did}#2")
    began = datetime(2026, 1, 1, tzinfo=UTC)
    keys = tuple(
        PublicKey(each.verification_method, multibase_of(each.public_key), began) for each in (old, new)
    )
    ring = KeyRing(CATALOGUE, NETWORK)
    ring.apply(PartyRegistered(old.did, "service", keys, ("audit",), request=UNASKED))
    world.outputs.signatures = OwnSignatures(old, lambda: ring)
    await publish_all(world.publisher)
    count = len(world.outputs.messages)
    world.outputs.signatures = OwnSignatures(new, lambda: ring)
    await restarted(world).round()
    ring.apply(KeyRevoked(old.did, old.verification_method, "rotated", request=UNASKED), at=began)
    third = restarted(world)
    await publish_all(third)

    await third.check()
    assert len(world.outputs.messages) == count


@pytest.mark.parametrize("value", [b"x", None])
async def test_a_header_that_is_false_or_gone_is_told_and_holds_up_no_other_shard(
    world: World, value: bytes | None
) -> None:
    if value is None:
        del world.chain.objects[header_key(0, 0)]
    else:
        world.chain.objects[header_key(0, 0)] = value
    await publish_all(world.publisher)
    with pytest.raises(DamagedHeaderError, match="shard 0 block 0 is in the trail, but its header"):
        await world.publisher.check()

    assert (await row(world)).height == (await world.trail.tip(1)).height


async def test_a_damaged_row_does_not_slow_the_other_shards(world: World) -> None:
    await world.change("DELETE FROM audit_trail WHERE shard = 0 AND height = 0")
    for number in range(20):
        world.other.seal([Accepted(READ, source=STORAGE, name=f"read-{number + 2}", subject=PATIENT)])
    await index_all(world.other, world.trail, world.chain)
    # The clock stands still: what waits for it is not tried again.
    world.publisher.clock = lambda: 0.0
    await publish_all(world.publisher)

    assert (await row(world)).height == (await world.trail.tip(1)).height
    with pytest.raises(DamagedTrailError, match="shard 0 block 0"):
        await world.publisher.check()


async def test_a_mark_that_was_taken_away_is_written_again_without_a_new_block(world: World) -> None:
    await publish_all(world.publisher)
    mark = await row(world)
    await world.change(GONE)
    await world.publisher.round()

    assert await row(world) == mark


async def test_a_start_from_a_tip_beyond_the_ledger_begins_when_it_is_repaired(world: World) -> None:
    await read_much(world)
    tip = (await world.trail.tip(1)).height
    await world.change("UPDATE audit_shards SET next_height = 1000 WHERE shard = 1")
    publisher = restarted(world)
    await publisher.round()
    with pytest.raises(DamagedHeaderError):
        await publisher.check()
    await world.compare(repair=True)
    await publisher.round()
    [newest] = await world.trail.block(1, tip - NEWEST_BLOCKS, limit=2)

    assert newest.entry.uid in uids(world)
    await publisher.check()


@given(
    st.integers(0, 200),
    st.integers(1, 60),
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 1), st.integers(0, 260))),
)
def test_below_the_mark_everything_is_published_and_the_mark_never_falls(
    tip: int, limit: int, steps: list[tuple[int, int, int]]
) -> None:
    progress, published, mark = Progress.from_mark(0, tip=tip), set[int](), 0
    for more, lane, other in steps:
        due = progress.due(tip + more, limit=limit)
        if other > 200:
            published |= set(range(other))
            progress.raise_to(other)
        elif due:
            for height in due[lane % len(due)]:
                published.add(height)
                progress.note(height)

        assert progress.mark >= mark
        mark = progress.mark
        assert set(range(mark)) <= published
