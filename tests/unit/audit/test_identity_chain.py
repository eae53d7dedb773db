"""The identity topic as audit reads it from the ledger: noted, shared by replicas, waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import text
from tests.unit.audit.chain import Accepted, Chain, Chains, identity_topic
from tests.unit.audit.samples import AROUND, MEMBER, NOON, STORAGE
from tests.unit.audit.test_indexing import (
    CLINICIAN,
    PATIENT,
    READ,
    FakeOutputs,
    all_of,
    documents,
    indexer_of_all,
)
from tests.unit.audit.test_order import (
    STORAGE_TOPIC,
    differences,
    index_in,
    members_of,
    read,
    registered,
    shard,
)

from salus.audit.adapters.identity_store import SqlIdentityStore
from salus.audit.adapters.sql import SqlTrail
from salus.audit.domain.blocks import BlockRefusedError
from salus.audit.domain.identity_history import IDENTITY_TOPIC
from salus.audit.handlers import Alarm, Bell, Follower, Indexer
from salus.audit.identity_chain import BLOCKS_UNNOTED_MAX, IdentityChain
from salus.audit.ports import BehindError, IdentityPlace, OutOfReachError
from salus.ledger.block import open_header
from salus.runtime.supervisor import Supervisor, TaskStoppedError

OTHER = "did:web:north-hospital.example:other"


class FaultyStore(SqlIdentityStore):
    """Its next note is LOST (it did not happen) or LATE (it did, and the answer is lost)."""

    fault: str | None = None

    async def note_identity(
        self, events: Mapping[int, bytes], place: IdentityPlace, *, before: IdentityPlace | None
    ) -> bool:
        fault, self.fault = self.fault, None
        if fault == "LOST":
            raise OutOfReachError("lost")
        noted = await super().note_identity(events, place, before=before)
        if fault == "LATE":
            raise OutOfReachError("late")
        return noted


@pytest.mark.parametrize("fault", ["LOST", "LATE"])
async def test_what_is_noted_of_the_identity_topic_may_get_lost(trail: SqlTrail, fault: str) -> None:
    chain = shard(0, STORAGE_TOPIC)
    chain.seal([registered(CLINICIAN)])
    chain.seal([read("after"), registered(STORAGE)])
    store = FaultyStore(trail._engine)
    keys = {0: chain.signer.verifier}
    indexer = Indexer(chain, trail, keys, IdentityChain(chain, keys, identity_topic(), store))
    store.fault = fault
    with pytest.raises(OutOfReachError):
        await indexer.index_next(0)
    while await indexer.index_next(0) is not None:
        pass

    assert [found.entry.member for found in await all_of(trail)] == [None, None, MEMBER]
    assert await differences([chain], trail) == []
    assert list(await trail.identity.identity_events(9)) == [0, 1]


async def test_where_the_identity_topic_is_quiet_its_end_is_noted_all_the_same(trail: SqlTrail) -> None:
    """Else the first event after a long time would have all headers since read at once."""
    chain = shard(0, STORAGE_TOPIC)
    for _ in range(BLOCKS_UNNOTED_MAX + 20):
        chain.seal([])
    await index_in([], [chain], trail, restarts=False)
    place = await trail.identity.identity_place()

    assert place is not None
    assert open_header(place.note, chain.signer.verifier).height == BLOCKS_UNNOTED_MAX - 1


async def test_who_read_less_far_notes_nothing(trail: SqlTrail) -> None:
    one, two, three = (IdentityPlace(0, note) for note in (b"one", b"two", b"three"))
    store = trail.identity
    assert await store.note_identity({0: b"a"}, one, before=None)
    assert await store.note_identity({1: b"b"}, two, before=one)

    assert not await store.note_identity({1: b"x"}, three, before=one)
    assert not await store.note_identity({}, three, before=None)
    assert (await store.identity_place(), await store.identity_events(9)) == (two, {0: b"a", 1: b"b"})


async def test_two_replicas_note_the_identity_topic_once(trail: SqlTrail) -> None:
    first, second = shard(0, "salus.clinical.events"), shard(1, STORAGE_TOPIC)
    for number in range(4):
        first.seal([registered(f"did:web:north-hospital.example:person-{number}")])
        second.seal(
            [read(f"r-{number}", reader=f"did:web:north-hospital.example:person-{number}")],
            judged_at=number + 1,
        )
    replicas = [indexer_of_all([first, second], trail) for _ in range(2)]
    for turn in range(16):
        with suppress(BehindError):
            await replicas[turn % 3 % 2].index_next(turn // 2 % 2)
    await asyncio.gather(*(index_in([], [first, second], trail, restarts=False) for _ in replicas))

    members = members_of({found.entry.uid: found.entry for found in await all_of(trail)})
    assert [members[f"r-{number}"] for number in range(4)] == [MEMBER] * 4
    assert await differences([first, second], trail) == []


def chains_of(chain: Chain, trail: SqlTrail) -> tuple[IdentityChain, IdentityChain]:
    """Two replicas, one database."""
    ledger = Chains(chain)
    one, other = (IdentityChain(ledger, ledger.keys, identity_topic(), trail.identity) for _ in range(2))
    return one, other


async def test_a_history_goes_on_where_another_replica_noted_first(trail: SqlTrail) -> None:
    """Case readC6, 3: it was made anew each time, and all transfers were judged again by it."""
    chain = shard(0, STORAGE_TOPIC)
    chain.seal([registered(CLINICIAN)])
    one, other = chains_of(chain, trail)
    history = await one.read_on()
    chain.seal([read("r")])
    chain.seal([registered(f"{OTHER}-1")])
    await other.read_on()
    chain.seal([registered(OTHER)])
    await other.read_on()

    assert await one.read_on() is history
    assert (history.events, one.position) == (3, 3)
    assert history.digest_after(3) == other.history.digest_after(3)
    assert [history.member_of(did, at=9) for did in (CLINICIAN, f"{OTHER}-1", OTHER)] == [MEMBER] * 3
    chain.seal([registered(f"{OTHER}-2")])
    assert (await one.read_on()).events == 4
    assert len(await trail.identity.identity_events(9)) == 4


@pytest.mark.parametrize("change", ["value = x'00000000000000002e'", '"offset" = "offset" + 1'])
async def test_what_does_not_go_on_from_what_was_read_is_taken_as_a_whole(
    trail: SqlTrail, change: str
) -> None:
    """As after a repair by another replica."""
    chain = shard(0, STORAGE_TOPIC)
    chain.seal([registered(CLINICIAN)])
    one, other = chains_of(chain, trail)
    history = await one.read_on()
    await other.read_on()
    async with trail._engine.begin() as connection:
        await connection.execute(text(f"UPDATE audit_identity SET {change}"))
    chain.seal([registered(f"{OTHER}-1")])
    chain.seal([registered(OTHER)])
    await other.read_on()

    assert await one.read_on() is not history


async def test_a_block_that_waits_for_identity_events_is_indexed_when_they_are_sealed(
    trail: SqlTrail,
) -> None:
    first, second = shard(0, "salus.clinical.events"), shard(1, STORAGE_TOPIC)
    second.seal([read("after")], judged_at=1)
    indexer = indexer_of_all([first, second], trail)
    with pytest.raises(BehindError, match="identity topic up to 1, the ledger has 0 of it"):
        await indexer.index_next(1)
    first.seal([registered(CLINICIAN)])

    assert await indexer.index_next(1) == 1
    assert [found.entry.member for found in await all_of(trail)] == [MEMBER]


async def test_what_waits_still_is_told_and_what_waited_a_moment_is_not(trail: SqlTrail) -> None:
    first, second = shard(0, "salus.clinical.events"), shard(1, STORAGE_TOPIC)
    second.seal([read("after")], judged_at=1)
    second.seal([read("never")], judged_at=10**6)
    alarm = Alarm(FakeOutputs(), AROUND, lambda: NOON)
    follower = Follower(
        indexer_of_all([first, second], trail), alarm, announced=Bell(), grown=Bell(), poll_s=1
    )

    async def told() -> str:
        with pytest.raises(TaskStoppedError) as stopped:
            await pulse.check()
        return str(stopped.value)

    with Supervisor().watching("indexing", age_s_max=0.0) as pulse:
        await follower.round()
        assert "waits for: an answer" in await told()
        await follower.round()
        assert "shard 1 block 0 waits" in await told()

        first.seal([registered(CLINICIAN)])
        while await follower.round():
            assert "waits for: an answer" in await told()
        first.seal(documents(3))
        await follower.round()
        assert "shard 1 block 1 waits: it needs the identity topic up to 1000000" in await told()
        assert REGISTRY.get_sample_value("salus_audit_blocks_waiting") == 1
    assert await trail.end() == 5


async def test_events_of_the_identity_topic_count_only_where_it_was_assigned(trail: SqlTrail) -> None:
    """A shard that seals another event at an offset of the topic changes nothing, and stands still."""
    first, second = shard(0, STORAGE_TOPIC), shard(1, IDENTITY_TOPIC)
    first.seal([registered(STORAGE)])
    second.seal([registered(CLINICIAN)])
    first.seal([read("by nobody known")])
    indexer = indexer_of_all([first, second], trail)
    with pytest.raises(BlockRefusedError) as refused:
        await indexer.index_next(1)
    while await indexer.index_next(0) is not None:
        pass

    assert refused.value.code == "coverage-overlap"
    assert [found.entry.member for found in await all_of(trail)] == [None, None]


async def test_leaves_that_another_shard_has_sealed_are_refused_aloud(trail: SqlTrail) -> None:
    """Before, the block was tried again and again at once, and all was well."""
    first, second = shard(0, STORAGE_TOPIC), shard(1, STORAGE_TOPIC)
    first.seal([read("one")])
    second.seal([read("one")])
    alarm = Alarm(FakeOutputs(), AROUND, lambda: NOON)
    indexer = indexer_of_all([first, second], trail)
    follower = Follower(indexer, alarm, announced=Bell(), grown=Bell(), poll_s=1)

    assert await follower.round()
    assert not await follower.round()
    with pytest.raises(BlockRefusedError, match="coverage-overlap: a leaf of it stands in shard 0 block 0"):
        await follower.check()


async def test_a_block_that_was_judged_by_another_topic_is_damaged(trail: SqlTrail) -> None:
    """Case redB6 5: whoever has a shard's key can name any topic, and the trail goes on."""
    chain = shard(0, STORAGE_TOPIC)
    chain.seal([read("r")], identity=(STORAGE_TOPIC, 0))
    await indexer_of_all([chain], trail).index_next(0)

    assert [found.entry.facts.damage for found in await all_of(trail)] == ["identity-ahead"]


async def test_of_an_event_that_two_shards_sealed_the_earlier_is_shown(trail: SqlTrail) -> None:
    first, second = shard(0, STORAGE_TOPIC), shard(1, "salus.lab.events")
    first.seal([])
    first.seal([read("twice")])
    second.seal([Accepted(READ, source=STORAGE, name="twice", subject=PATIENT)])
    await index_in([0, 0, 1], [first, second], trail, restarts=False)
    found = await trail.entry(STORAGE, "twice")

    assert found is not None
    assert found.entry.place.shard == 1
