"""What the trail says of an entry follows from the ledger alone, whatever order its blocks are indexed in.

Threat model: "the trail of a network with several shards depends on the order in which blocks were indexed".
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.effort import tries
from tests.unit.audit.chain import ORIGIN, Accepted, Chain, Chains, Refused, identity_topic
from tests.unit.audit.people import joining
from tests.unit.audit.samples import CONSENT, IDENTITY, MEMBER, STORAGE
from tests.unit.audit.test_indexing import (
    CLINICIAN,
    DOCUMENT,
    GRANTED,
    PATIENT,
    READ,
    all_of,
    documents,
    indexer_of_all,
)

from salus.audit.adapters.sql import SqlTrail, open_trail
from salus.audit.domain.directory import Directory, Needs
from salus.audit.domain.entry import TrailEntry
from salus.audit.domain.identity_history import IDENTITY_TOPIC, IdentityHistory
from salus.audit.ports import BehindError
from salus.audit.reconciliation import Reconciler, Step

STORAGE_TOPIC = "salus.storage.events"
CONSENT_TOPIC = "salus.consent.events"
ORIGINS = [f"salus.local/dev/shard/{shard}" for shard in range(3)]


def registered(did: str) -> Accepted:
    return Accepted(joining(did), source=IDENTITY, name=f"party-{did}")


def read(name: str, *, reader: str = CLINICIAN) -> Accepted:
    data = msgspec.structs.replace(READ, reader=reader)
    return Accepted(data, source=STORAGE, name=name, subject=PATIENT, topic=STORAGE_TOPIC)


def shard(number: int, topic: str) -> Chain:
    return Chain(topic=topic, origin=ORIGINS[number], shard=number)


async def index_in(order: Iterable[int], chains: Sequence[Chain], trail: SqlTrail, *, restarts: bool) -> None:
    """Try the shards in this order, and then in turns until nothing is left."""
    indexer = indexer_of_all(chains, trail)
    left = True
    for turn in [*order, *[None] * 200]:
        if turn is None and not left:
            return
        left = turn is not None
        for number in indexer.shards if turn is None else [turn]:
            if restarts:
                indexer = indexer_of_all(chains, trail)
            with suppress(BehindError):
                left |= await indexer.index_next(number) is not None
    raise AssertionError("indexing does not come to an end")


async def nothing_to_correct(_: object) -> None:
    raise AssertionError("nothing is repaired here")


async def differences(chains: Sequence[Chain], trail: SqlTrail) -> list[str]:
    found: list[str] = []

    async def take(step: Step) -> None:
        found.extend(map(str, step.differences))

    ledger = Chains(*chains)
    reconciler = Reconciler(ledger, trail.stored, ledger.keys, identity_topic(), nothing_to_correct)
    await reconciler.run(take)
    return found


async def entries_in(
    order: Iterable[int], chains: Sequence[Chain], *, restarts: bool
) -> dict[str, TrailEntry]:
    """Return the entries of a trail that was indexed in this order: whole, and equal to the ledger."""
    async with open_trail("sqlite+aiosqlite://") as trail:
        await index_in(order, chains, trail, restarts=restarts)
        assert [(await trail.tip(chain.shard)).height for chain in chains] == [c.height for c in chains]
        assert await differences(chains, trail) == []
        return {found.entry.uid: found.entry for found in await all_of(trail)}


def members_of(entries: Mapping[str, TrailEntry]) -> dict[str | None, str | None]:
    return {entry.id: entry.member for entry in entries.values()}


@pytest.mark.parametrize("restarts", [False, True])
async def test_two_shards_give_the_same_entries_in_every_order(restarts: bool) -> None:  # noqa: FBT001
    first, second = shard(0, "salus.clinical.events"), shard(1, STORAGE_TOPIC)
    first.seal(documents(1))
    first.seal([registered(CLINICIAN)])
    first.seal([Refused("bad-signature")])
    second.seal([read("before")], judged_at=0)
    second.seal([read("after")], judged_at=1)
    second.seal([read("later")], judged_at=1)
    orders = sorted(set(permutations([0, 0, 0, 1, 1, 1])))
    seen = [await entries_in(order, [first, second], restarts=restarts) for order in orders]

    assert all(entries == seen[0] for entries in seen)
    members = members_of(seen[0])
    assert (members["before"], members["after"], members["later"]) == (None, MEMBER, MEMBER)


async def test_a_block_that_seals_identity_events_is_judged_further_than_it_seals() -> None:
    """The registration stands in a later block of the same shard, as after an outage of the sequencer."""
    chain = shard(0, STORAGE_TOPIC)
    chain.seal([read("early")], judged_at=1)
    chain.seal([read("late"), registered(CLINICIAN)])

    members = members_of(await entries_in([0, 0], [chain], restarts=False))
    assert (members["early"], members["late"]) == (MEMBER, MEMBER)


async def test_a_handover_to_the_shard_of_the_identity_topic_does_not_wait_in_a_circle() -> None:
    """It takes from a block that was judged at a position which it seals only after it has taken."""
    first, second = shard(0, "salus.clinical.events"), shard(1, STORAGE_TOPIC)
    second.seal([read("given")], judged_at=1, gives={STORAGE_TOPIC: ORIGIN})
    first.seal([], judged_at=1, takes={STORAGE_TOPIC: (f"{ORIGINS[1]}/block/0", 1)})
    first.seal([registered(CLINICIAN)])
    first.seal([read("taken")])
    seen = [
        await entries_in(order, [first, second], restarts=restarts)
        for order in set(permutations([0, 0, 0, 1]))
        for restarts in (False, True)
    ]

    assert all(entries == seen[0] for entries in seen)
    assert [members_of(seen[0])[name] for name in ("given", "taken")] == [MEMBER, MEMBER]


@pytest.mark.parametrize("restarts", [False, True])
async def test_the_identity_topic_is_followed_to_the_shard_that_took_it(restarts: bool) -> None:  # noqa: FBT001
    first, second = shard(0, "salus.clinical.events"), shard(1, STORAGE_TOPIC)
    first.seal([registered(CLINICIAN)])
    first.seal([], gives={IDENTITY_TOPIC: ORIGINS[1]})
    late = f"{MEMBER}:late"
    first.seal([Accepted(DOCUMENT, source=late, name="elsewhere")], judged_at=2)
    second.seal([read("old")], judged_at=0)
    second.seal([read("known")], judged_at=1)
    second.seal([], judged_at=1, takes={IDENTITY_TOPIC: (f"{ORIGIN}/block/1", 1)})
    second.seal([registered(late)])
    seen = [
        await entries_in(order, [first, second], restarts=restarts)
        for order in sorted(set(permutations([0, 0, 0, 1, 1, 1, 1])))[restarts::2]
    ]

    assert all(entries == seen[0] for entries in seen)
    assert [members_of(seen[0])[n] for n in ("elsewhere", "old", "known")] == [MEMBER, None, MEMBER]


@pytest.mark.parametrize("restarts", [False, True])
async def test_the_identity_topic_may_come_back_and_go_again(restarts: bool) -> None:  # noqa: FBT001
    first, second = shard(0, "salus.clinical.events"), shard(1, STORAGE_TOPIC)
    people = [f"did:web:north-hospital.example:person-{number}" for number in range(4)]
    for number, person in enumerate(people):
        holder, other = (first, second) if number % 2 == 0 else (second, first)
        holder.seal([registered(person)])
        block = holder.seal([], gives={IDENTITY_TOPIC: ORIGINS[other.shard]}).block_origin
        other.seal([], takes={IDENTITY_TOPIC: (block, number + 1)})
    second.seal([read(f"read-{person}", reader=person) for person in people], judged_at=4)
    seen = [await entries_in(order, [first, second], restarts=restarts) for order in ([0] * 9, [1] * 9)]

    assert seen[0] == seen[1]
    assert [members_of(seen[0])[f"read-{person}"] for person in people] == [MEMBER] * 4


async def test_what_took_effect_is_derived_from_the_block_that_gave_first(trail: SqlTrail) -> None:
    first, second = shard(0, "salus.clinical.events"), shard(1, CONSENT_TOPIC)
    other = msgspec.structs.replace(GRANTED, consent="c-2")
    second.seal([Accepted(GRANTED, source=CONSENT, name="1", subject=PATIENT)], gives={CONSENT_TOPIC: ORIGIN})
    first.seal(
        [Accepted(other, source=CONSENT, name="2", subject=PATIENT, version=1, topic=CONSENT_TOPIC)],
        takes={CONSENT_TOPIC: (f"{ORIGINS[1]}/block/0", 1)},
    )
    await index_in([0, 1], [first, second], trail, restarts=False)

    assert {found.entry.facts.outcome for found in await all_of(trail)} == {"success"}
    assert await differences([first, second], trail) == []


@dataclass
class Network:
    """Three shards that move partitions among them, and are judged by more than they have sealed."""

    chains: list[Chain] = field(
        default_factory=lambda: [
            shard(0, CONSENT_TOPIC),
            shard(1, STORAGE_TOPIC),
            shard(2, "salus.lab.events"),
        ]
    )
    holders: dict[str, int] = field(
        default_factory=lambda: {IDENTITY_TOPIC: 0, CONSENT_TOPIC: 0, STORAGE_TOPIC: 1}
    )
    published: list[str] = field(default_factory=list)
    sealed: int = 0
    judged: list[int] = field(default_factory=lambda: [0, 0, 0])
    members: dict[str, str | None] = field(default_factory=dict)
    count: int = 0
    version: int = 0

    def publish_party(self) -> None:
        self.published.append(f"did:web:north-hospital.example:person-{len(self.published)}")

    def know(self, number: int, further: int) -> int:
        self.judged[number] = min(len(self.published), self.judged[number] + further)
        return self.judged[number]

    def seal(self, number: int, *, about: int, further: int, parties: int) -> None:
        """Seal one fact of each topic that the shard has, about a party that is registered or will be."""
        at = self.know(number, further)
        records: list[Accepted | Refused] = []
        mine = {topic for topic, holder in self.holders.items() if holder == number}
        if IDENTITY_TOPIC in mine:
            records += map(registered, self.published[self.sealed : self.sealed + parties])
            self.sealed = min(len(self.published), self.sealed + parties)
        did = f"did:web:north-hospital.example:person-{about}"
        self.count += 1
        if STORAGE_TOPIC in mine:
            records.append(read(f"read-{self.count}", reader=did))
            self.members[f"read-{self.count}"] = MEMBER if about < at else None
        if CONSENT_TOPIC in mine:
            granted = msgspec.structs.replace(GRANTED, consent=f"c-{self.count}")
            version = self.version if about % 2 else 0
            self.version += version == self.version
            records.append(
                Accepted(
                    granted, source=CONSENT, name=f"grant-{self.count}", subject=PATIENT, version=version,
                    topic=CONSENT_TOPIC,
                )
            )  # fmt: skip
        self.chains[number].seal(records, judged_at=at)

    def move(self, topic: str, to: int, *, further: int) -> None:
        giver = self.holders[topic]
        if giver == to:
            return
        chain = self.chains[giver]
        offset = chain.next[topic]
        block = chain.seal([], judged_at=self.know(giver, further), gives={topic: ORIGINS[to]}).block_origin
        self.chains[to].seal([], judged_at=self.know(to, further), takes={topic: (block, offset)})
        self.holders[topic] = to

    def finish(self) -> None:
        """Seal what every block may have been judged by."""
        self.seal(self.holders[IDENTITY_TOPIC], about=0, further=0, parties=len(self.published))


SHARDS = st.integers(0, 2)
SMALL = st.integers(0, 2)
ACTS = st.one_of(
    st.just(("party",)),
    st.tuples(st.just("seal"), SHARDS, st.integers(0, 3), SMALL, SMALL),
    st.tuples(
        st.just("move"), st.sampled_from([IDENTITY_TOPIC, CONSENT_TOPIC, STORAGE_TOPIC]), SHARDS, SMALL
    ),
)


def network_of(acts: Sequence[tuple[Any, ...]]) -> Network:
    network = Network()
    network.publish_party()
    for name, *given_ in acts:
        match name, given_:
            case "party", []:
                network.publish_party()
            case "seal", [number, about, further, parties]:
                network.seal(number, about=about, further=further, parties=parties)
            case "move", [topic, to, further]:
                network.move(topic, to, further=further)
    network.finish()
    return network


@given(
    st.lists(ACTS, min_size=4, max_size=14),
    st.lists(SHARDS, max_size=20),
    st.lists(SHARDS, max_size=20),
    st.booleans(),
)
@settings(max_examples=tries(10, long=500), deadline=None)
def test_any_ledger_gives_one_trail(
    acts: list[tuple[Any, ...]],
    order: list[int],
    other: list[int],
    restarts: bool,  # noqa: FBT001
) -> None:
    network = network_of(acts)

    async def check() -> None:
        one = await entries_in(order, network.chains, restarts=False)
        two = await entries_in(other, network.chains, restarts=restarts)

        assert one == two
        members = members_of(one)
        assert {name: members[name] for name in network.members} == network.members

    asyncio.run(check())


async def test_a_replica_that_is_overtaken_by_another_writes_no_older_who_is_who(tmp_path: Path) -> None:
    """Case of the third attack: between reading who is who and appending, the other replica indexes more."""
    first, second = shard(0, "salus.clinical.events"), shard(1, STORAGE_TOPIC)
    first.seal([registered(CLINICIAN)])
    second.seal([read("before")], judged_at=0)
    second.seal([read("after")], judged_at=1)
    chains, url = [first, second], f"sqlite+aiosqlite:///{tmp_path}/replicas.db"
    async with open_trail(url) as one, open_trail(url) as two:
        other, overtaken = indexer_of_all(chains, one), indexer_of_all(chains, two)
        directory = two.directory

        async def slow(needs: Needs, identity: IdentityHistory) -> Directory:
            known = await directory(needs, identity)
            await other.index_next(0)
            await other.index_next(1)
            return known

        two.directory = slow  # type: ignore[method-assign]  # the moment of the race
        for _ in range(2):
            await overtaken.index_next(1)
        entries = {found.entry.uid: found.entry for found in await all_of(one)}

        assert members_of(entries) == {"before": None, "after": MEMBER, f"party-{CLINICIAN}": None}
        assert await differences(chains, one) == []
