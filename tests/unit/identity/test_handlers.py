"""The order of identity's effects, founding, and keys that belong to somebody else already."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from tests.asking import UNASKED, asked_by

from salus.client.auth import make_possession
from salus.contracts.contract import DECISIONS_MAX, ContractHost
from salus.contracts.queues import Queues
from salus.contracts.testing.faults import Fault
from salus.contracts.testing.memory import MemoryTopics
from salus.events.contexts import CATALOGUE
from salus.events.contexts.identity import KeyRevoked, PartyRegistered, PublicKey, RoleWithdrawn
from salus.events.did import LocalSigner, multibase_of
from salus.events.event_types import EventData, type_of
from salus.events.keyring import KeyRing
from salus.events.rights import Actor
from salus.identity.domain import AddKey, PartyState, Register, RevokeKey
from salus.identity.folded import PARTIES, FoldedParties
from salus.identity.handlers import execute, found_network, founding_commands, held_keys, is_lookalike
from salus.identity.ports import World
from salus.runtime.network import FoundingParty, Log, Network
from salus.runtime.problems import ProblemError
from salus.runtime.refusal import Refusal

NOW = datetime(2026, 11, 22, tzinfo=UTC)
OPERATOR = Actor(did="did:web:op.example", kind="person", roles=frozenset({"operator"}), request=UNASKED)


def noon() -> datetime:
    return NOW


def founder(seed: int, **facts: object) -> FoundingParty:
    signer = LocalSigner.from_seed(seed.to_bytes(32))
    key = PublicKey(signer.verification_method, multibase_of(signer.public_key), NOW)
    return FoundingParty(did=signer.did, key=key, **facts)  # type: ignore[arg-type]  # the tests choose the facts


def proofs(*seeds: int, did: str | None = None, member: str | None = None) -> dict[str, str]:
    found = {}
    for seed in seeds:
        plain = LocalSigner.from_seed(seed.to_bytes(32))
        method = plain.verification_method if did is None else f"{did}#{seed}"
        signer = LocalSigner.from_seed(seed.to_bytes(32), method)
        found[method] = make_possession(signer, member=member, network=NETWORK.origin, now=NOW)
    return found


NETWORK = Network(
    origin="test",
    root=founder(1, roles=("identity",)),
    services={"identity": founder(1), "consent": founder(2), "storage": founder(3)},
    log=Log("test/log", "-"),
    shards=(),
    founders=(founder(4, kind="person", roles=("operator",)),),
)


def ring_of_operator() -> KeyRing:
    ring = KeyRing(CATALOGUE, NETWORK.origin)
    ring.apply(PartyRegistered(OPERATOR.did, OPERATOR.kind, (), ("operator",), request=UNASKED))
    return ring


class Memory:
    """Identity's topic in memory with its fold, and a ring that hears what took effect."""

    def __init__(self, faults: Iterable[Fault | None] = (), ring: KeyRing | None = None) -> None:
        self.ring = ring_of_operator() if ring is None else ring
        self.topics = MemoryTopics([PARTIES], catalogue=CATALOGUE, faults=faults, heard=self._hear)
        self.queues = Queues()
        self.loaded = 0

    def _hear(self, event: EventData) -> None:
        self.ring.apply(event)
        self.ring.claims.update((type_of(event).claims or (lambda _: ()))(event))

    @property
    def log(self) -> list[EventData]:
        return self.topics.applied

    @property
    def folded(self) -> dict[str, PartyState]:
        return {did: PARTIES.decode(raw) for (_, did), raw in self.topics.states().items()}

    async def catch_up(self) -> KeyRing:
        return self.ring

    @property
    def world(self) -> World:
        """A replica of its own."""
        replica = self.topics.replica()
        host = CountedParties(PARTIES, follower=replica, store=replica, writer=replica.writer)
        host.memory = self
        return World(parties=host, listed=FoldedParties(replica, replica), ring=self, queues=self.queues)


class CountedParties(ContractHost[PartyState]):
    """Counts the parties that it loads for a list."""

    memory: Memory

    async def states(self, aggregates: Collection[str]) -> dict[str, PartyState]:
        self.memory.loaded += len(aggregates)
        return await super().states(aggregates)


async def test_founding_registers_everybody_of_the_network_file_once() -> None:
    memory = Memory()
    first = await found_network(NETWORK, at=NOW, world=memory.world)
    second = await found_network(NETWORK, at=NOW, world=memory.world)
    roles = {did: party.roles for did, party in memory.folded.items()}

    assert (first, second) == (4, 0)
    assert roles[NETWORK.root.did] == ("identity",)
    assert roles[NETWORK.services["consent"].did] == ("consent",)
    assert roles[NETWORK.founders[0].did] == ("operator",)


async def test_the_root_is_the_first_to_be_registered() -> None:
    assert next(iter(founding_commands(NETWORK))) == NETWORK.root.did


@pytest.mark.parametrize("fault", [Fault.LOST, Fault.LATE, Fault.REPLACED])
async def test_founding_that_broke_off_is_finished_by_the_next_start(fault: Fault) -> None:
    memory = Memory(faults=[None, fault])
    with pytest.raises(ProblemError, match="outcome-unknown"):
        await found_network(NETWORK, at=NOW, world=memory.world)
    await found_network(NETWORK, at=NOW, world=memory.world)

    assert len(memory.folded) == len(memory.log) == 4


async def test_founding_lets_another_replica_be_first() -> None:
    memory = Memory(faults=2 * DECISIONS_MAX * [Fault.STALE])

    assert await found_network(NETWORK, at=NOW, world=memory.world) == 2


async def test_of_replicas_that_found_at_once_one_registers_each_party() -> None:
    memory = Memory()
    founded = await asyncio.gather(*(found_network(NETWORK, at=NOW, world=memory.world) for _ in range(3)))

    assert sum(founded) == len(memory.folded) == len(memory.log) == 4


async def test_a_command_whose_answer_was_lost_is_refused_as_done_when_repeated() -> None:
    party, memory = founder(9), Memory(faults=[Fault.LATE])
    command = Register(party.did, "member", (party.key,), proofs=proofs(9))

    async def run() -> None:
        await execute(command, did=party.did, actor=OPERATOR, now=noon, world=memory.world)

    with pytest.raises(ProblemError, match="outcome-unknown"):
        await run()
    with pytest.raises(Refusal, match="party-exists"):
        await run()

    assert len(memory.log) == 1


async def test_a_key_of_one_party_is_refused_to_another() -> None:
    memory, party = Memory(), founder(9)
    register = Register(party.did, "member", (party.key,), proofs=proofs(9))
    await execute(register, did=party.did, actor=OPERATOR, now=noon, world=memory.world)
    other = "did:web:other.example"
    stolen = PublicKey(f"{other}#9", party.key.multibase, NOW)
    own = PublicKey(f"{other}#10", founder(10).key.multibase, NOW)
    with pytest.raises(Refusal, match="key-in-use"):
        await execute(
            Register(other, "member", (stolen,)), did=other, actor=OPERATOR, now=noon, world=memory.world
        )
    joins = Register(other, "member", (own,), proofs=proofs(10, did=other))
    await execute(joins, did=other, actor=OPERATOR, now=noon, world=memory.world)
    with pytest.raises(Refusal, match="key-in-use"):
        await execute(AddKey(stolen), did=other, actor=OPERATOR, now=noon, world=memory.world)


@pytest.mark.parametrize(
    "agreed",
    [{}, proofs(10), proofs(9, did="did:web:thief.example"), proofs(9, member="did:web:thief.example")],
)
async def test_no_key_joins_unless_its_holder_agreed(agreed: dict[str, str]) -> None:
    memory, party = Memory(), founder(9)
    command = Register(party.did, "member", (party.key,), proofs=agreed)
    with pytest.raises(Refusal, match="key-not-proven"):
        await execute(command, did=party.did, actor=OPERATOR, now=noon, world=memory.world)
    joins = replace(command, proofs=proofs(9))
    await execute(joins, did=party.did, actor=OPERATOR, now=noon, world=memory.world)
    second = PublicKey(f"{party.did}#10", founder(10).key.multibase, NOW)
    with pytest.raises(Refusal, match="key-not-proven"):
        await execute(AddKey(second, agreed), did=party.did, actor=OPERATOR, now=noon, world=memory.world)
    good = proofs(10, did=party.did)
    await execute(AddKey(second, good), did=party.did, actor=OPERATOR, now=noon, world=memory.world)


async def test_a_new_network_file_brings_an_operator_where_none_can_sign() -> None:
    # Case SEC8: the way out if the operators lost their keys; the members agree on a network.json.
    memory = Memory()
    await found_network(NETWORK, at=NOW, world=memory.world)
    fresh = founder(11, kind="person", roles=("operator",))
    agreed = msgspec.structs.replace(NETWORK, founders=(*NETWORK.founders, fresh))
    await found_network(agreed, at=NOW, world=memory.world)

    assert memory.folded[fresh.did].roles == ("operator",)
    assert {operator.did for operator in memory.ring.operators(at=NOW)} == {
        OPERATOR.did,
        NETWORK.founders[0].did,
        fresh.did,
    }


async def test_a_person_joins_the_member_that_is_registered() -> None:
    memory, member, person = Memory(), founder(9), founder(10)
    agreed = proofs(10, member=member.did)
    command = Register(person.did, "person", (person.key,), member=member.did, proofs=agreed)
    with pytest.raises(Refusal, match="unknown-member"):
        await execute(command, did=person.did, actor=OPERATOR, now=noon, world=memory.world)
    joins = Register(member.did, "member", (member.key,), proofs=proofs(9))
    await execute(joins, did=member.did, actor=OPERATOR, now=noon, world=memory.world)
    await execute(command, did=person.did, actor=OPERATOR, now=noon, world=memory.world)

    assert memory.folded[person.did].member == member.did


async def test_a_command_that_waited_is_decided_by_who_the_caller_is_then() -> None:
    # Its key was revoked, or its role taken, while it waited: one refusal, and no event without effect.
    key = LocalSigner.from_seed((21).to_bytes(32))
    losses: list[EventData] = [
        KeyRevoked(key.did, key.verification_method, "rotated", request=UNASKED),
        RoleWithdrawn(key.did, "operator", request=UNASKED),
    ]
    for loss, code in zip(losses, ("key-revoked", "not-permitted"), strict=True):
        memory, party = Memory(), founder(9)
        held = PublicKey(key.verification_method, multibase_of(key.public_key), NOW)
        memory.ring.apply(PartyRegistered(key.did, "person", (held,), ("operator",), request=UNASKED))
        asked = asked_by(key, "identity", "POST", "/parties", at=NOW, body={})
        actor = Actor(key.did, "person", frozenset({"operator"}), asked)
        command = Register(party.did, "member", (party.key,), proofs=proofs(9))

        async def run(memory: Memory = memory, actor: Actor = actor, command: Register = command) -> None:
            await execute(command, did=command.did, actor=actor, now=noon, world=memory.world)

        async with memory.queues.of("command", party.did):
            waiting = asyncio.create_task(run())
            for _ in range(20):
                await asyncio.sleep(0)
            memory.ring.apply(loss, at=NOW - timedelta(milliseconds=1))
        with pytest.raises(Refusal, match=code):
            await waiting
        assert memory.log == []


async def test_who_may_not_waits_for_nothing_and_a_revocation_for_no_queue() -> None:
    # Strangers' commands on somebody's DID kept the revocation of a stolen key waiting.
    memory, party = Memory(), founder(9)
    await execute(
        Register(party.did, "member", (party.key,), proofs=proofs(9)),
        did=party.did,
        actor=OPERATOR,
        now=noon,
        world=memory.world,
    )
    stranger = founder(30)
    memory.ring.apply(PartyRegistered(stranger.did, "person", (stranger.key,), request=UNASKED))
    nobody = Actor(stranger.did, "person", frozenset(), UNASKED)
    added = AddKey(PublicKey(f"{party.did}#10", founder(10).key.multibase, NOW))
    async with memory.queues.of("command", party.did):
        with pytest.raises(Refusal, match="not-permitted"):
            await execute(added, did=party.did, actor=nobody, now=noon, world=memory.world)
        revoked = await execute(
            RevokeKey(party.key.id, "compromised"),
            did=party.did,
            actor=OPERATOR,
            now=noon,
            world=memory.world,
        )

    assert isinstance(revoked, KeyRevoked)


async def test_a_party_that_the_ring_has_and_the_state_not_yet_keeps_its_own_keys() -> None:
    # Another replica was first: that is a conflict, or done, and no key of somebody else's.
    memory, party = Memory(), founder(9)
    command = Register(party.did, "member", (party.key,), proofs=proofs(9))
    await execute(command, did=party.did, actor=OPERATOR, now=noon, world=memory.world)
    stolen = msgspec.structs.replace(party.key, id="did:web:other.example#1")

    assert held_keys(command, party.did, memory.ring) == set()
    assert held_keys(AddKey(stolen), "did:web:other.example", memory.ring) == {party.key.multibase}
    assert not is_lookalike(party.did, memory.ring)
