"""The publisher goes on by itself after any outage: nothing lost, nothing reordered, each event told of.

Case: deploy.md, blocker 3. The ledger takes the first record of each id, so those are what is counted.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from aiokafka import errors as kafka
from aiokafka.producer.transaction_manager import PidAndEpoch
from tests.effort import LONG

from salus.client import DeliveryError, Handle, Publisher
from salus.devkit.addresses import Addresses
from salus.devkit.kafka_server import KafkaServer
from salus.devkit.narration import PlainNarrator
from salus.devkit.processes import Place, is_alive
from salus.events.contexts.clinical import DocumentRegistered
from salus.events.did import LocalSigner
from salus.messaging import NotSentError, Position, Reader, RecoveringProducer, Topic, ensure_topics
from salus.messaging import producer as producer_module

TOPIC = "salus.clinical.events"
PARTITIONS = 3
SIGNER = LocalSigner.from_seed(b"memb" * 8)
PATIENTS = [f"urn:uuid:{uuid.uuid4()}" for _ in range(12)]
LONG_RUN = pytest.mark.skipif(not LONG, reason="the long run: `make laws`")
# Enough that requests are always under way, and few enough for the broker of a loaded machine.
PAUSE_S = 0.002


@pytest.fixture(scope="module")
async def server(session_folder: Path) -> AsyncIterator[KafkaServer]:
    """A broker of these tests' own, to be stopped and killed: to start one takes as long as a test."""
    folder = session_folder / f"recovery-{uuid.uuid4().hex[:8]}"
    server = KafkaServer(Place(folder, folder / "logs", detached=False), PlainNarrator())
    await server.start()
    await ensure_topics(server.bootstrap, [Topic(TOPIC, PARTITIONS)])
    yield server
    await server.stop()


@pytest.fixture
async def broker(server: KafkaServer) -> AsyncIterator[KafkaServer]:
    """The broker, which runs; also if the test before failed while it did not."""
    if server.process is None or not is_alive(server.process):
        await server.stop()
        await server.start()
    yield server
    if server.process is not None and is_alive(server.process):
        signal_to(server, signal.SIGCONT)


def signal_to(broker: KafkaServer, which: signal.Signals) -> None:
    assert broker.process is not None
    os.kill(broker.process.pid, which)


@dataclass
class Load:
    """Publishes all the time, and remembers what it was told of every event."""

    publisher: Publisher
    # What stands before them is of earlier tests.
    starts: dict[tuple[str, int], int]
    published: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    handles: dict[str, Handle] = field(default_factory=dict)
    delivered: dict[str, Position] = field(default_factory=dict)
    unknown: set[str] = field(default_factory=set)
    not_sent: set[str] = field(default_factory=set)

    # Nothing of an earlier test is taken for its own, however late a broker that was frozen writes it.
    name: str = field(default_factory=lambda: uuid.uuid4().hex)
    numbers: Iterator[int] = field(default_factory=count)

    async def publish_one(self) -> Handle:
        # Taken at once: two tasks publish, and both may have to wait for room.
        number = next(self.numbers)
        patient = PATIENTS[number % len(PATIENTS)]
        data = DocumentRegistered(patient=patient, object=f"object-{number}", media_type="a/b")
        handle = await self.publisher.publish(data, subject=patient, id=f"{self.name}-{number}")
        self.handles[handle.id] = handle
        self.published[patient].append(handle.id)
        return handle

    async def run(self) -> None:
        while True:
            # It tells of earlier events, when many failed; each is asked about in the end.
            with suppress(DeliveryError):
                await self.publish_one()
            await asyncio.sleep(PAUSE_S)

    async def settle(self) -> None:
        """Wait until it is known of every event what became of it."""
        for name, handle in self.handles.items():
            try:
                self.delivered[name] = await handle.position()
            except DeliveryError as error:
                (told,) = error.undelivered
                (self.unknown if told.may_arrive else self.not_sent).add(name)


async def next_offsets(bootstrap: str) -> dict[tuple[str, int], int]:
    """Where the next event of each partition will stand."""
    async with Reader(bootstrap, starts={(TOPIC, partition): 0 for partition in range(PARTITIONS)}) as reader:
        return dict(await reader.end_offsets())


async def stored(bootstrap: str, starts: dict[tuple[str, int], int]) -> list[tuple[Position, str, str]]:
    """Where which event of whom stands, of those from these offsets on."""
    found: list[tuple[Position, str, str]] = []
    async with Reader(bootstrap, starts=starts) as reader:
        ends = await reader.end_offsets()
        while len(found) < sum(ends.values()) - sum(starts.values()):
            for record in await reader.poll(max_records=5000, timeout_ms=1000):
                envelope = json.loads(record.value or b"")
                found.append((record.at, envelope["subject"], envelope["id"]))
    return found


async def check(load: Load, bootstrap: str) -> None:
    """Assert what the publisher promises."""
    records = [one for one in await stored(bootstrap, load.starts) if one[2].startswith(load.name)]
    at = {position: name for position, _, name in records}
    first: defaultdict[str, list[str]] = defaultdict(list)
    seen: set[str] = set()
    for _, patient, name in records:
        if name not in seen:
            seen.add(name)
            first[patient].append(name)

    # Whoever was told of a position finds the event there, and of what was not sent there is nothing.
    assert {name: at.get(position) for name, position in load.delivered.items()} == {
        name: name for name in load.delivered
    }
    assert not load.not_sent & seen
    assert seen <= set(load.handles)
    # Every event was told of, once.
    assert len(load.delivered) + len(load.unknown) + len(load.not_sent) == len(load.handles)
    for patient, names in load.published.items():
        assert first[patient] == [name for name in names if name in seen]


Outage = Callable[[KafkaServer, float], Awaitable[None]]


async def frozen(broker: KafkaServer, outage_s: float) -> None:
    signal_to(broker, signal.SIGSTOP)
    await asyncio.sleep(outage_s)
    signal_to(broker, signal.SIGCONT)


async def killed(broker: KafkaServer, outage_s: float) -> None:
    signal_to(broker, signal.SIGKILL)
    await asyncio.sleep(outage_s)
    await broker.stop()
    await broker.start()


async def restarted(broker: KafkaServer, outage_s: float) -> None:
    await broker.stop(grace_s=30)
    await asyncio.sleep(outage_s)
    await broker.start()


async def through(
    broker: KafkaServer, outage: Outage, outage_s: float, *, delivery_s: float, idempotent: bool = False
) -> Load:
    """Publish before, during and after an outage; the same publisher delivers in the end."""
    starts = await next_offsets(broker.bootstrap)
    async with (
        RecoveringProducer(broker.bootstrap, client_id="test", idempotent=idempotent) as sender,
        Publisher(broker.bootstrap, SIGNER, delivery_s=delivery_s, sender=sender) as publisher,
    ):
        load = Load(publisher, starts)
        running = asyncio.create_task(load.run())
        while len(load.handles) < 300:
            await (await load.publish_one()).position()
        await outage(broker, outage_s)
        # Ready again is who delivers.
        async with asyncio.timeout(90):
            while not await delivers(load):
                pass
        running.cancel()
        await asyncio.wait([running])
        last = [await load.publish_one() for _ in range(len(PATIENTS))]
        await load.settle()
        assert {handle.id for handle in last} <= load.delivered.keys()
    return load


async def delivers(load: Load) -> bool:
    try:
        await (await load.publish_one()).position()
    except DeliveryError:
        return False
    return True


@pytest.mark.parametrize("outage", [frozen, killed, restarted])
@pytest.mark.parametrize(("outage_s", "idempotent"), [(1, False), (5, False), (5, True)])
async def test_a_short_outage_costs_time_and_no_event(
    broker: KafkaServer, outage: Outage, outage_s: float, *, idempotent: bool
) -> None:
    load = await through(broker, outage, outage_s, delivery_s=60, idempotent=idempotent)
    await check(load, broker.bootstrap)

    assert len(load.delivered) == len(load.handles)


@pytest.mark.parametrize("outage", [frozen, killed, restarted])
async def test_an_outage_longer_than_every_deadline_ends_with_a_publisher_that_delivers(
    broker: KafkaServer, outage: Outage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library drops a batch that is older than its deadline while no leader is known, and with it a
    sequence number: without a new session the broker refuses everything that follows."""
    monkeypatch.setattr(producer_module, "REQUEST_TIMEOUT_MS", 3000)
    load = await through(broker, outage, 8, delivery_s=3)
    await check(load, broker.bootstrap)

    assert load.unknown | load.not_sent
    assert len(load.delivered) > 300


@LONG_RUN
@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("outage", [frozen, killed])
@pytest.mark.parametrize("outage_s", [40, 90, 300])
async def test_a_long_outage_ends_with_a_publisher_that_delivers(
    broker: KafkaServer, outage: Outage, outage_s: float
) -> None:
    load = await through(broker, outage, outage_s, delivery_s=30)
    await check(load, broker.bootstrap)

    assert load.unknown | load.not_sent


def lose_a_sequence_number(manager: Any) -> None:
    for at in list(manager._sequence_numbers):
        manager.increment_sequence_number(at, 5)


def fall_behind_in_epochs(manager: Any) -> None:
    """As if the broker had seen a later epoch of this producer."""
    manager._pid_and_epoch = PidAndEpoch(manager.producer_id, manager.producer_epoch + 5)
    manager._sequence_numbers.clear()


@pytest.mark.parametrize(
    ("sabotage", "error"),
    [
        (lose_a_sequence_number, kafka.OutOfOrderSequenceNumber),
        (fall_behind_in_epochs, kafka.ProducerFenced),
    ],
)
async def test_what_no_retry_can_mend_begins_a_new_session(
    parts: Addresses, sabotage: Callable[[Any], None], error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real broker answers so because the producer's own numbers are turned."""
    topic = f"recovery-{uuid.uuid4().hex}"
    await ensure_topics(parts.kafka_bootstrap, [Topic(topic, 2)])
    answered: set[type[BaseException]] = set()
    tell = producer_module._undelivered

    def remembering(topic: str, error: BaseException) -> Any:
        answered.add(type(error))
        return tell(topic, error)

    monkeypatch.setattr(producer_module, "_undelivered", remembering)
    async with RecoveringProducer(parts.kafka_bootstrap, client_id="test", idempotent=True) as producer:
        answers: list[asyncio.Future[Position]] = []
        for number in range(3000):
            if number in (1000, 2000):
                # So that some are under way, and some are not taken yet.
                await answers[number - 300]
                library: Any = producer._session._producer  # type: ignore[union-attr]  # open by now
                manager = library._txn_manager
                sabotage(manager)
                if sabotage is fall_behind_in_epochs:
                    await asyncio.gather(
                        *[await producer.enqueue(topic, key=b"probe", value=b"", partition=p) for p in (0, 1)]
                    )
                    manager._pid_and_epoch = PidAndEpoch(manager.producer_id, manager.producer_epoch - 1)
            key = b"key-%d" % (number % 7)
            answers.append(await producer.enqueue(topic, key=key, value=b"%d" % number))
        positions = await asyncio.gather(*answers)
        sessions = producer.sessions
    found = await values(parts, topic, 2)

    assert error in answered
    assert sessions == 3
    assert [found[position] for position in positions] == [b"%d" % number for number in range(3000)]
    for first in range(7):
        offsets = [position.offset for position in positions[first::7]]
        assert offsets == sorted(offsets)


async def values(parts: Addresses, topic: str, partitions: int) -> dict[Position, bytes]:
    """What stands where in a topic."""
    found: dict[Position, bytes] = {}
    starts = {(topic, partition): 0 for partition in range(partitions)}
    async with Reader(parts.kafka_bootstrap, starts=starts) as reader:
        ends = sum((await reader.end_offsets()).values())
        while len(found) < ends:
            for record in await reader.poll(max_records=5000, timeout_ms=1000):
                found[record.at] = record.value or b""
    return found


async def test_answers_that_are_lost_double_records_and_mislead_nobody(parts: Addresses) -> None:
    # case F6: no sequence number tells the broker that a request is a repetition.
    topic = f"recovery-{uuid.uuid4().hex}"
    await ensure_topics(parts.kafka_bootstrap, [Topic(topic, 1)])
    sent = [b"%d" % number for number in range(500)]
    async with RecoveringProducer(parts.kafka_bootstrap, client_id="test") as producer:
        client: Any = producer._session._producer.client  # type: ignore[union-attr]  # open by now
        send, requests = client.send, count()

        async def losing(node: int, request: Any, **named: Any) -> Any:
            answer = await send(node, request, **named)
            if type(request).__name__.startswith("ProduceRequest") and next(requests) % 2 == 0:
                raise kafka.RequestTimedOutError
            return answer

        client.send = losing
        answers: list[asyncio.Future[Position]] = []
        for number, value in enumerate(sent):
            answers.append(await producer.enqueue(topic, key=b"k", value=value))
            if number % 50 == 49:
                # So that there are many requests.
                await answers[-1]
        positions = await asyncio.gather(*answers)
        sessions = producer.sessions
    found = await values(parts, topic, 1)

    assert sessions == 1, "the session itself sends again"
    assert len(found) > len(sent)
    assert [found[position] for position in positions] == sent
    assert list(dict.fromkeys(found[at] for at in sorted(found, key=lambda at: at.offset))) == sent


async def test_what_comes_after_a_dropped_batch_does_not_overtake_it(
    parts: Addresses, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker that does not know the producer id (yet, or any more) takes any sequence number."""
    monkeypatch.setattr(producer_module, "REQUEST_TIMEOUT_MS", 1000)
    topic = f"recovery-{uuid.uuid4().hex}"
    await ensure_topics(parts.kafka_bootstrap, [Topic(topic, 1)])
    async with RecoveringProducer(parts.kafka_bootstrap, client_id="test") as producer:
        library: Any = producer._session._producer  # type: ignore[union-attr]  # open by now
        await library.partitions_for(topic)
        cluster, dropped = library.client.cluster, asyncio.Event()
        leader = cluster.leader_for_partition
        # The library drops the first batch, as no leader is known for longer than the request timeout.
        cluster.leader_for_partition = lambda at: leader(at) if dropped.is_set() else -1
        tell = producer_module._undelivered

        def remembering(topic: str, error: BaseException) -> Any:
            dropped.set()
            return tell(topic, error)

        monkeypatch.setattr(producer_module, "_undelivered", remembering)
        # Each has a batch of its own, so that the second waits behind the first.
        values = [b"%d" % number + bytes(700_000) for number in range(4)]

        async def enqueued(value: bytes) -> asyncio.Future[Any]:
            while True:
                try:
                    return await producer.enqueue(topic, key=b"k", value=value)
                except NotSentError:
                    # No room as long as nothing goes out, and the library waits for room as long as it keeps
                    # a batch: which of the two ends first is chance. Nothing was sent, so it is asked again.
                    continue

        answers = [await enqueued(value) for value in values]
        positions = await asyncio.gather(*answers)

    assert dropped.is_set()
    assert [position.offset for position in positions] == [0, 1, 2, 3]
