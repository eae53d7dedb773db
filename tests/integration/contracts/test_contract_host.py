"""A contract on real Kafka: one winner a version, read-your-writes, and state that survives any restart."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka import Producer as ForeignProducer
from sqlalchemy import select, text
from tests.asking import UNASKED, proofs_of, truly_asked
from tests.databases import Databases
from tests.founding import public_key
from tests.integration.contracts.hosts import Replica, member, running_replica
from tests.integration.raw_kafka import produce, record_batch, send_dated, session_of
from tests.parties import founded

from salus.contracts.fold import FoldStore
from salus.contracts.fold_marks import OtherTopicsError
from salus.contracts.fold_store import StateBehindError
from salus.contracts.fold_tables import AGGREGATES
from salus.contracts.testing.host_promises import HELD_KEYS, HeldKeys
from salus.devkit.addresses import Addresses
from salus.devkit.waiting import until
from salus.events.contexts.identity import KeyAdded, PartyRegistered
from salus.events.did import LocalSigner
from salus.events.envelope import encode_event
from salus.events.signature import sign_values
from salus.messaging import Producer
from salus.runtime.identity_view import IDENTITY_TOPIC
from salus.runtime.network import RestoredRange
from salus.runtime.problems import ProblemError

_MADE: list[LocalSigner] = []


def signer() -> LocalSigner:
    """A new party, whom the network file names."""
    _MADE.append(LocalSigner.from_seed(os.urandom(32)))
    return _MADE[-1]


def replica(
    parts: Addresses, root: LocalSigner, url: str, restored: Iterable[RestoredRange] = ()
) -> AbstractAsyncContextManager[Replica]:
    founders = [member(each) for each in _MADE if each != root]
    return running_replica(parts.kafka_bootstrap, root, url, founders, restored=restored)


def _registered(party: LocalSigner, root: LocalSigner, _: HeldKeys) -> PartyRegistered:
    return registered(party, root)


def registered(party: LocalSigner, root: LocalSigner) -> PartyRegistered:
    """Return what the root states as it founds the network."""
    return founded(party, root=root.did)


def added(party: LocalSigner, holder: LocalSigner) -> KeyAdded:
    """Return what the party has asked for, with the proof of the key's holder."""
    data, now = KeyAdded(did=party.did, key=public_key(holder), request=UNASKED), datetime.now(UTC)
    return truly_asked(data, party, at=now, proofs=proofs_of(holder, at=now))


async def test_of_racing_replicas_each_command_takes_effect_once(
    parts: Addresses, databases: Databases
) -> None:
    root, party = signer(), signer()
    async with (
        replica(parts, root, await databases.url("a")) as a,
        replica(parts, root, await databases.url("b")) as b,
    ):
        await a.host.execute(party.did, lambda _: registered(party, root))

        async def add(host: Replica, name: str) -> str:
            holder = LocalSigner.from_seed(os.urandom(32), f"{party.did}#{name}")
            try:
                await host.host.execute(party.did, lambda _: added(party, holder))
            except ProblemError as error:
                return error.code
            return "won"

        results = await asyncio.gather(*(add(host, f"{host is a}-{i}") for host in (a, b) for i in range(3)))
        states = [await host.host.state(party.did) for host in (a, b)]
        rings = [(await host.identity.catch_up()).keys for host in (a, b)]

    assert set(results) == {"won"}
    assert states[0] == states[1]
    assert len(states[0].ids) == 1 + results.count("won")
    # Verifiers keep a ring of their own: it must agree with the contract on which key additions took effect.
    for ring in rings:
        assert {key for key, known in ring.items() if known.did == party.did} == set(states[0].ids)


async def test_a_state_rebuilt_from_the_topic_equals_the_one_that_was_kept(
    parts: Addresses, databases: Databases
) -> None:
    root, people = signer(), [signer() for _ in range(5)]
    async with replica(parts, root, await databases.url("kept")) as kept:
        for person in people[:3]:
            await kept.host.execute(person.did, partial(_registered, person, root))
    async with replica(parts, root, await databases.url("kept")) as kept:
        for person in people[3:]:
            await kept.host.execute(person.did, partial(_registered, person, root))
        dids = [person.did for person in people]
        before = await kept.host.states(dids)
    async with replica(parts, root, await databases.url("new")) as new:
        rebuilt = await new.host.states(dids)

    assert len(before) == 5
    assert rebuilt == before


async def test_what_others_write_on_the_topic_changes_nothing(parts: Addresses, databases: Databases) -> None:
    root, party = signer(), signer()
    async with replica(parts, root, await databases.url("a")) as a:
        async with Producer(parts.kafka_bootstrap, client_id="intruder") as intruder:
            for value in (None, b"", b"\xff", b"{}", b"[" * 100_000):
                await intruder.send(
                    IDENTITY_TOPIC, key=b"k", value=value, headers=[("salus-signature", b"?")]
                )
        await a.host.execute(party.did, lambda _: registered(party, root))
        async with a.store.engine.connect() as connection:
            of_kind = select(AGGREGATES.c.id).where(AGGREGATES.c.kind == HELD_KEYS.kind)
            names = (await connection.execute(of_kind)).scalars().all()

    assert names == [party.did]


async def test_a_record_that_says_it_stands_at_the_next_position_decides_no_command(
    parts: Addresses, databases: Databases
) -> None:
    # case F5: what became of the record there is kept by its position.
    root, party = signer(), signer()
    async with replica(parts, root, await databases.url("a")) as a:
        await produce(parts.kafka_bootstrap, IDENTITY_TOPIC, 0, record_batch([(1, b"not an event")]))
        await a.follower.catch_up()
        await a.host.execute(party.did, lambda _: registered(party, root))
        states = await a.host.states([party.did])

    assert list(states) == [party.did]


async def test_a_record_that_its_sender_dated_changes_nothing_unless_it_was_restored(
    parts: Addresses, databases: Databases
) -> None:
    # Red team B6, 1: a fold took what a revoked key signed, dated back.
    root, party, late = signer(), signer(), signer()
    async with replica(parts, root, await databases.url("a")) as a:
        await a.host.execute(party.did, lambda _: registered(party, root))
        fact = registered(late, root)
        value = encode_event(
            fact,
            id=uuid4().hex,
            source=root.did,
            subject=late.did,
            time=datetime.now(UTC),
            expected_version=0,
        )
        (signature,) = sign_values([value], root)
        header = b"salus-signature", signature
        batch = record_batch([(0, value)], key=late.did.encode(), header=header)
        now_ms = int(datetime.now(UTC).timestamp() * 1000)
        offset = await send_dated(parts.kafka_bootstrap, IDENTITY_TOPIC, batch, now_ms)
        await a.follower.catch_up()
        states = await a.host.states([party.did, late.did])
        ring = await a.identity.catch_up()
    said = RestoredRange(IDENTITY_TOPIC, 0, offset, offset + 1)
    async with replica(parts, root, await databases.url("b"), [said]) as b:
        await b.follower.catch_up()
        restored = await b.host.states([party.did, late.did])

    assert list(states) == [party.did]
    assert late.verification_method not in ring.keys
    assert set(restored) == {party.did, late.did}


async def test_a_command_is_not_answered_by_what_another_put_in_its_place(
    parts: Addresses, databases: Databases
) -> None:
    # case F6: under our producer id and next sequence Kafka takes his record, and ours for a repetition.
    root, first, lost, last = signer(), signer(), signer(), signer()
    async with replica(parts, root, await databases.url("a")) as a:
        await a.host.execute(first.did, lambda _: registered(first, root))
        ours = a.follower.position(IDENTITY_TOPIC) - 1
        session, count = await session_of(parts.kafka_bootstrap, IDENTITY_TOPIC, 0, ours)
        following = replace(session, sequence=session.sequence + count)
        his = record_batch([(0, b"not an event")], session=following)
        await produce(parts.kafka_bootstrap, IDENTITY_TOPIC, 0, his)
        with pytest.raises(ProblemError) as told:
            await a.host.execute(lost.did, lambda _: registered(lost, root))
        await a.host.execute(last.did, lambda _: registered(last, root))
        states = await a.host.states([first.did, lost.did, last.did])

    assert (told.value.status, told.value.code) == (503, "outcome-unknown")
    assert set(states) == {first.did, last.did}


async def test_a_crash_between_database_and_memory_repeats_nothing(
    parts: Addresses, databases: Databases
) -> None:
    root, party = signer(), signer()
    async with replica(parts, root, await databases.url("a")) as a:
        await a.host.execute(party.did, lambda _: registered(party, root))
        positions = await a.store.positions()
    async with replica(parts, root, await databases.url("a")) as again:
        await again.follower.catch_up()
        loaded = await again.store.load("keys", party.did)

    assert loaded is not None
    assert loaded.version == 1
    assert positions[IDENTITY_TOPIC, 0] > 0


async def test_a_replica_waits_for_a_database_that_refuses_a_batch(
    parts: Addresses, databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, party = signer(), signer()
    original, failures = FoldStore.set_positions, iter([True, False])

    async def fails_once(self: FoldStore, *args: Any, **marks: Any) -> None:
        if next(failures, False):
            raise OSError("disk full")
        await original(self, *args, **marks)

    monkeypatch.setattr(FoldStore, "set_positions", fails_once)
    async with replica(parts, root, await databases.url("a")) as a:
        await a.host.execute(party.did, lambda _: registered(party, root))
        loaded = await a.store.load("keys", party.did)

    assert loaded is not None
    assert loaded.version == 1


@pytest.mark.parametrize(
    "change", ["last_digest = :none", "last_offset = last_offset + 1000000, last_digest = :none"]
)
async def test_a_state_that_was_folded_from_other_topics_is_refused(
    parts: Addresses, databases: Databases, change: str
) -> None:
    root, party = signer(), signer()
    async with replica(parts, root, await databases.url("a")) as a:
        await a.host.execute(party.did, lambda _: registered(party, root))
    async with replica(parts, root, await databases.url("a")) as again:
        state = await again.host.state(party.did)
        async with again.store.engine.begin() as connection:
            await connection.execute(text(f"update fold_positions set {change}"), {"none": b"\0"})

    assert state.ids == (party.verification_method,)
    with pytest.raises(OtherTopicsError, match="restore-topics"):
        async with replica(parts, root, await databases.url("a")):
            pass


async def test_an_open_transaction_neither_hides_a_command_nor_holds_it_up(
    parts: Addresses, databases: Databases
) -> None:
    # cases SEC4, K2
    root, party = signer(), signer()
    foreign = ForeignProducer(
        {"bootstrap.servers": parts.kafka_bootstrap, "transactional.id": f"forgotten-{party.did}"}
    )
    async with replica(parts, root, await databases.url("a")) as a:
        foreign.init_transactions(30)
        foreign.begin_transaction()
        foreign.produce(IDENTITY_TOPIC, b"pending", b"k", 0)
        assert foreign.flush(30) == 0
        try:
            await a.host.execute(party.did, lambda _: registered(party, root))
            state = await a.host.state(party.did)
            ring = await a.identity.catch_up()
            await a.follower.check()
        finally:
            foreign.abort_transaction(30)
        after = await a.host.state(party.did)

    assert state == after == HeldKeys(ids=(party.verification_method,))
    assert party.verification_method in ring.keys


async def test_what_comes_in_a_transaction_takes_no_effect_even_if_it_is_committed(
    parts: Addresses, databases: Databases
) -> None:
    # case SEC4
    root, party = signer(), signer()
    value = encode_event(
        registered(party, root),
        id=party.did,
        source=root.did,
        subject=party.did,
        time=datetime.now(UTC),
        expected_version=0,
    )
    headers: list[tuple[str, str | bytes | None]] = [("salus-signature", sign_values([value], root)[0])]
    foreign = ForeignProducer(
        {"bootstrap.servers": parts.kafka_bootstrap, "transactional.id": f"root-{party.did}"}
    )
    async with replica(parts, root, await databases.url("a")) as a:
        foreign.init_transactions(30)
        foreign.begin_transaction()
        foreign.produce(IDENTITY_TOPIC, value, party.did.encode(), 0, headers=headers)
        foreign.commit_transaction(30)
        inside = await a.host.state(party.did)
        ring = await a.identity.catch_up()
        assert party.verification_method not in ring.keys
        foreign = ForeignProducer({"bootstrap.servers": parts.kafka_bootstrap})
        foreign.produce(IDENTITY_TOPIC, value, party.did.encode(), 0, headers=headers)
        assert foreign.flush(30) == 0
        outside = await a.host.state(party.did)

    assert inside == HeldKeys()
    assert outside == HeldKeys(ids=(party.verification_method,)), (
        "the same bytes count where no transaction is"
    )


async def test_a_database_that_went_back_is_folded_again(parts: Addresses, databases: Databases) -> None:
    # A standby that lagged takes over, or a backup is put back, while the service runs.
    root, party = signer(), signer()
    holder = LocalSigner.from_seed(os.urandom(32), f"{party.did}#second")
    async with replica(parts, root, await databases.url("a")) as a:
        await a.host.execute(party.did, lambda _: registered(party, root))
        await a.store.engine.dispose()
        await databases.save("a")
        await a.host.execute(party.did, lambda _: added(party, holder))
        before = await a.host.state(party.did)
        await a.store.engine.dispose()
        await databases.put_back("a")

        with pytest.raises(StateBehindError):
            await a.host.state(party.did)

        async def is_as_before() -> bool:
            try:
                return await a.host.state(party.did) == before
            except StateBehindError:
                return False

        assert await until(is_as_before, deadline_s=60)
