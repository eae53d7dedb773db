"""A host on real Kafka whose events meet real faults: others write first, rights end, answers are lost."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from tests.asking import UNASKED, truly_asked
from tests.databases import Databases
from tests.founding import next_millisecond
from tests.integration.contracts.hosts import Replica, member, operator, running_replica
from tests.integration.raw_kafka import produce, record_batch, session_of
from tests.parties import Parties, founded

from salus.client import Publisher
from salus.client.ports import Sender
from salus.contracts.contract import ContractHost
from salus.contracts.testing.faults import CrashError, Fault, Schedule
from salus.contracts.testing.host_promises import HeldKeys, HostBench
from salus.events.contexts.identity import KeyAdded, KeyRevoked, RoleWithdrawn
from salus.events.did import LocalSigner
from salus.events.event_types import EventData
from salus.messaging import DeliveryError, Position, RecoveringProducer, Topic, ensure_topics
from salus.runtime.identity_view import IDENTITY_TOPIC
from salus.runtime.network import FoundingParty
from salus.runtime.publishing import ServicePublisher, Stated, open_publisher

PARTIES_MAX = 4


class UnreliableSender:
    """Sends to Kafka, unless what is sent is to be lost or late; nobody hears which of the two it is."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self.fault: Fault | None = None
        self._late: list[dict[str, Any]] = []

    @property
    def trouble(self) -> str | None:
        return self._sender.trouble

    def partition_of(self, topic: str, key: bytes) -> int | None:
        return self._sender.partition_of(topic, key)

    async def enqueue(
        self,
        topic: str,
        *,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes]] = (),
        partition: int | None = None,
    ) -> Awaitable[Position]:
        fault, self.fault = self.fault, None
        if fault is None:
            return await self._sender.enqueue(
                topic, key=key, value=value, headers=headers, partition=partition
            )
        if fault is Fault.LATE:
            self._late.append(
                {"topic": topic, "key": key, "value": value, "headers": headers, "partition": partition}
            )
        raise DeliveryError("Kafka does not answer")

    async def arrive(self) -> None:
        late, self._late = self._late, []
        for record in late:
            await (await self._sender.enqueue(**record))


class FaultyPublisher(ServicePublisher):
    """Publishes for one replica, after what the bench does to each event."""

    def __init__(self, publisher: Publisher, sender: UnreliableSender, bench: KafkaBench) -> None:
        super().__init__(publisher)
        self.sender = sender
        self._bench = bench

    async def publish(
        self, data: EventData, *, subject: str, expected_version: int | None = None, event_id: str = ""
    ) -> Stated:
        await self._bench.arrive()
        fault = self._bench.faults.take()
        if fault is Fault.CRASH_BEFORE:
            raise CrashError(fault)
        if fault in {Fault.LOST, Fault.LATE}:
            self.sender.fault = fault
        elif fault is Fault.REPLACED:
            await self._replace()
        elif fault is not None:
            assert isinstance(data, KeyAdded)
            await self._bench.precede(fault, data, expected_version=expected_version)
        stated = await super().publish(
            data, subject=subject, expected_version=expected_version, event_id=event_id
        )
        if fault is Fault.CRASH_AFTER:
            raise CrashError(fault)
        return stated

    async def _replace(self) -> None:
        # Under our producer id and next sequence Kafka takes his record, and ours for a repetition.
        spare = founded(self._bench.spare(), root=self._bench.root.did)
        ours = (await super().publish(spare, subject=spare.did, expected_version=0)).position
        session, count = await session_of(self._bench.bootstrap, IDENTITY_TOPIC, 0, ours.offset)
        his = record_batch(
            [(0, b"not an event")], session=replace(session, sequence=session.sequence + count)
        )
        await produce(self._bench.bootstrap, IDENTITY_TOPIC, 0, his)


class KafkaBench(HostBench):
    """Replicas on real Kafka, each with a database of its own, and somebody else who writes on the topic."""

    def __init__(self, bootstrap: str, databases: Databases, stack: AsyncExitStack) -> None:
        self.bootstrap = bootstrap
        self.faults = Schedule()
        self.parties = Parties()
        self.root = LocalSigner.from_seed(b"r" * 32)
        self._databases = databases
        self._stack = stack
        self._opened = 0
        self._senders: list[UnreliableSender] = []
        self._by_operator = False
        self._operator_is_gone = False

    async def open(self) -> None:
        """Found a network and register its operators."""
        self.root = self.parties.made()
        self._operators = [self.parties.made() for _ in range(2)]
        self._members = [self.parties.made() for _ in range(2 * PARTIES_MAX)]
        self._unregistered = list(self._members)
        await ensure_topics(self.bootstrap, [Topic(IDENTITY_TOPIC, 1)])
        self._other = await self._stack.enter_async_context(open_publisher(self.bootstrap, self.root))
        for each in self._operators:
            await self._state(founded(each, root=self.root.did, kind="person", roles=("operator",)), each.did)

    @property
    def founders(self) -> list[FoundingParty]:
        return [*map(operator, self._operators), *map(member, self._members)]

    async def replica(self) -> ContractHost[HeldKeys]:
        return (await self._replica()).host

    async def refolded(self, parties: Collection[str]) -> dict[str, HeldKeys]:
        return await (await self.replica()).states(parties)

    async def party(self) -> str:
        party = self.spare()
        await self._state(founded(party, root=self.root.did), party.did)
        return party.did

    def spare(self) -> LocalSigner:
        """Return a member that is not registered yet."""
        return self._unregistered.pop()

    def event(self, party: str, name: str) -> KeyAdded:
        if not self._by_operator:
            return self.parties.key_added(party, name)
        asker, second = (each.did for each in self._operators)
        return self.parties.key_added(party, name, asker=asker, second=second)

    def meet(self, fault: Fault, *, times: int = 1) -> None:
        self._by_operator = fault is Fault.NOT_ENTITLED
        self.faults.add(fault, times=times)

    async def arrive(self) -> None:
        for sender in self._senders:
            await sender.arrive()

    async def end(self) -> int:
        replica = await self._replica()
        await replica.follower.catch_up()
        return replica.follower.position(IDENTITY_TOPIC)

    async def precede(self, fault: Fault, data: KeyAdded, *, expected_version: int | None) -> None:
        """Let others state, before an event, what makes the fault come true."""
        match fault:
            case Fault.STALE:
                name = f"other{len(self.parties.seeds)}"
                await self._state(self.parties.key_added(data.did, name), data.did, expected_version)
            case Fault.NAME_TAKEN:
                other = await self.party()
                same = self.parties.key_added(other, "same", seed=self.parties.seeds[data.key.id])
                await self._state(same, other, 1)
            case Fault.NOT_ENTITLED if not self._operator_is_gone:
                self._operator_is_gone = True
                await self._withdraw_operator()
            case Fault.REFUSED:
                await self._revoke_root()

    async def _withdraw_operator(self) -> None:
        lost, other = self._operators
        withdrawn = RoleWithdrawn(lost.did, "operator", request=UNASKED)
        await self._state(truly_asked(withdrawn, other, at=datetime.now(UTC), second=lost), lost.did, 1)

    async def _revoke_root(self) -> None:
        root = self.root.did
        await self._state(self.parties.key_added(root, "second"), root, 0)
        data = KeyRevoked(root, self.root.verification_method, "rotated", request=UNASKED)
        await self._state(truly_asked(data, self.root, at=datetime.now(UTC)), root, 1)

    async def _state(self, data: EventData, subject: str, expected_version: int | None = 0) -> None:
        await self._other.publish(data, subject=subject, expected_version=expected_version)
        await next_millisecond()

    async def _replica(self) -> Replica:
        self._opened += 1
        url = await self._databases.url(f"replica{self._opened}")
        running = running_replica(
            self.bootstrap, self.root, url, self.founders, publishing=self._publishing()
        )
        return await self._stack.enter_async_context(running)

    @asynccontextmanager
    async def _publishing(self) -> AsyncIterator[FaultyPublisher]:
        producer = RecoveringProducer(self.bootstrap, client_id="replica", linger_ms=0, idempotent=True)
        async with producer as real:
            sender = UnreliableSender(real)
            self._senders.append(sender)
            async with Publisher(self.bootstrap, self.root, linger_ms=0, sender=sender) as publisher:
                yield FaultyPublisher(publisher, sender, self)


@asynccontextmanager
async def opened_bench(bootstrap: str, databases: Databases) -> AsyncIterator[KafkaBench]:
    """Open a bench; what it has opened is closed after."""
    async with AsyncExitStack() as stack:
        bench = KafkaBench(bootstrap, databases, stack)
        await bench.open()
        yield bench
