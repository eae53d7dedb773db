"""The publisher signs in batches, keeps the order, and tells what became of every event."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import Any, Self

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import TracerProvider
from tests.own_types import schema_of
from tests.unit.client.samples import NOON, SIGNER, TOPIC, MemoryBroker, document, patient

from salus.client import (
    DeliveryError,
    Handle,
    Publisher,
    PublisherClosedError,
    ReceiptUnavailableError,
    own_event_type,
)
from salus.client import publisher as module
from salus.events.envelope import encode_event
from salus.events.errors import Reason, RejectedError
from salus.events.signature import parse_signature
from salus.ledger.records import SIGNATURE_HEADER
from salus.ledger.signature_header import BATCH_SIZE_MAX


def publisher(broker: MemoryBroker, **changes: Any) -> Publisher:
    return Publisher("", SIGNER, sender=broker, **changes)


async def publish(target: Publisher, number: int = 0, **changes: Any) -> Handle:
    data = document(number, of=changes.pop("of", 1), size=changes.pop("size", 0))
    return await target.publish(data, subject=data.patient, id=f"event-{number}", **changes)


async def until(fact: Any) -> None:
    """Let other tasks run until the fact holds; the test's timeout is the deadline."""
    while not fact():  # noqa: ASYNC110  # the fact is the fake's, which knows no events
        await asyncio.sleep(0)


async def test_what_is_published_is_what_the_sequencer_accepts() -> None:
    broker = MemoryBroker()
    async with publisher(broker) as target:
        handle = await publish(target, time=NOON)
        position = await handle.position()
    judged = broker.stored[0].judged()

    assert (position.topic, position.offset) == (TOPIC, 0)
    assert judged.event.data == document()
    assert judged.event.envelope.source == SIGNER.did
    assert judged.event.envelope.time == NOON
    assert broker.stored[0].headers["content-type"] == b"application/cloudevents+json"
    assert broker.stored[0].value == handle.value


@pytest.mark.parametrize(("lingers", "request_lingers"), [(0, 0), (1, 1), (5, 2)])
async def test_who_does_not_linger_for_a_signature_does_not_linger_for_a_request(
    lingers: float, request_lingers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    class NoProducer(MemoryBroker):
        def __init__(self, _: str, *, client_id: str, linger_ms: int) -> None:  # noqa: ARG002  # as the real one
            super().__init__()
            asked.append(linger_ms)

        async def __aenter__(self) -> Self:
            return self

        async def __aexit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(module, "RecoveringProducer", NoProducer)
    async with Publisher("", SIGNER, linger_ms=lingers):
        pass

    assert asked == [request_lingers]


async def test_an_event_without_id_and_time_gets_a_time_ordered_id_and_now() -> None:
    broker = MemoryBroker()
    async with publisher(broker) as target:
        handles = [await target.publish(document(i), subject=patient()) for i in range(2)]

    assert [uuid.UUID(handle.id).version for handle in handles] == [7, 7]
    assert len({handle.id for handle in handles}) == 2


async def test_values_that_come_together_share_one_signature() -> None:
    broker = MemoryBroker()
    async with publisher(broker, batch_max=8, linger_ms=10_000) as target:
        handles = [await publish(target, i) for i in range(8)]
        await handles[-1].position()
    signatures = [parse_signature(sent.headers[SIGNATURE_HEADER]) for sent in broker.stored]

    assert {s.signature for s in signatures} == {signatures[0].signature}
    assert [(s.index, s.size) for s in signatures] == [(i, 8) for i in range(8)]


async def test_a_lonely_value_does_not_wait_for_ever() -> None:
    broker = MemoryBroker()
    async with publisher(broker, linger_ms=1) as target:
        await (await publish(target)).position()

    assert parse_signature(broker.stored[0].headers[SIGNATURE_HEADER]).size == 1


@pytest.mark.parametrize("linger_ms", [0, 5])
@given(
    subjects=st.lists(st.integers(1, 3), min_size=1, max_size=80),
    batch_max=st.integers(1, 20),
    partitions=st.sampled_from([None, 1, 2, 8]),
)
def test_every_subjects_events_are_sent_in_the_order_of_publishing(
    linger_ms: int, subjects: list[int], batch_max: int, partitions: int | None
) -> None:
    broker = MemoryBroker(partitions=partitions)

    async def story() -> None:
        async with publisher(broker, batch_max=batch_max, linger_ms=linger_ms) as target:
            for number, subject in enumerate(subjects):
                await publish(target, number, of=subject)

    asyncio.run(story())
    sent: dict[bytes | None, list[str]] = {}
    for one in broker.stored:
        one.judged()
        sent.setdefault(one.key, []).append(json.loads(one.value or b"")["id"])
    published: dict[bytes | None, list[str]] = {}
    for number, subject in enumerate(subjects):
        published.setdefault(patient(subject).encode(), []).append(f"event-{number}")

    assert sent == published


async def test_of_many_events_those_of_a_partition_share_their_signatures() -> None:
    broker = MemoryBroker(partitions=2)
    async with publisher(broker, batch_max=4) as target:
        for number in range(30):
            await publish(target, number, of=number % 2 + 1)
    batches: dict[bytes, list[int | None]] = {}
    for sent in broker.stored:
        signature = parse_signature(sent.headers[SIGNATURE_HEADER]).signature
        batches.setdefault(signature, []).append(sent.partition)
    mixed = [places for places in batches.values() if len(set(places)) > 1]

    # 15 events each: three whole batches, and three events that share two more.
    assert sorted(map(len, batches.values())) == [2, 4, 4, 4, 4, 4, 4, 4]
    assert len(mixed) == 1


async def test_a_batch_that_comes_alone_asks_for_no_partitions() -> None:
    broker = MemoryBroker(partitions=2)
    async with publisher(broker, batch_max=4) as target:
        for number in range(4):
            await publish(target, number, of=number % 2 + 1)
        await target.flush()

    assert [sent.partition for sent in broker.stored] == [None] * 4


async def test_the_trace_of_the_caller_travels_with_the_event() -> None:
    broker = MemoryBroker()
    with TracerProvider().get_tracer("test").start_as_current_span("work") as span:
        async with publisher(broker) as target:
            await publish(target)
    trace = f"{span.get_span_context().trace_id:032x}"

    assert trace in broker.stored[0].headers["traceparent"].decode()


@pytest.mark.parametrize("fault", ["lost", "late", "refused"])
async def test_a_fault_is_told_by_the_handle_and_by_nothing_else_then(fault: str) -> None:
    broker = MemoryBroker()
    getattr(broker, fault).add(1)
    async with publisher(broker) as target:
        handles = [await publish(target, i) for i in range(3)]
        await handles[0].position()
        await handles[2].position()
        with pytest.raises(DeliveryError, match="event-1") as caught:
            await handles[1].position()

    assert [(u.id, u.may_arrive) for u in caught.value.undelivered] == [("event-1", fault != "refused")]
    assert len(broker.stored) == (3 if fault == "late" else 2)


async def test_leaving_names_what_failed_and_nobody_asked_about() -> None:
    broker = MemoryBroker(lost={0, 2})

    async def story() -> None:
        async with publisher(broker) as target:
            for i in range(3):
                await publish(target, i)

    with pytest.raises(DeliveryError) as caught:
        await story()

    assert [u.id for u in caught.value.undelivered] == ["event-0", "event-2"]


async def test_an_error_of_the_caller_is_not_hidden_by_ours() -> None:
    broker = MemoryBroker(lost={0})

    async def story() -> None:
        async with publisher(broker) as target:
            await publish(target)
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine") as caught:
        await story()

    assert "event-0" in caught.value.__notes__[0]


async def test_flush_sends_at_once_and_names_failures_once() -> None:
    broker = MemoryBroker(lost={0})
    async with publisher(broker, linger_ms=10_000) as target:
        await publish(target, 0)
        await publish(target, 1)
        with pytest.raises(DeliveryError, match="event-0"):
            await target.flush()
        await target.flush()

    assert len(broker.stored) == 1


async def test_a_signer_that_fails_fails_its_batch_and_no_other() -> None:
    class Moody:
        verification_method = SIGNER.verification_method
        algorithm = SIGNER.algorithm
        calls = 0

        def sign(self, message: bytes) -> bytes:
            self.calls += 1
            if self.calls == 1:
                raise ConnectionError("the KMS is away")
            return SIGNER.sign(message)

    broker = MemoryBroker()
    async with Publisher("", Moody(), sender=broker) as target:
        first = await publish(target, 0)
        with pytest.raises(DeliveryError, match="signing: ConnectionError"):
            await first.position()
        await (await publish(target, 1)).position()

    assert len(broker.stored) == 1


@pytest.mark.parametrize(
    "changes", [{"subject": patient(2)}, {"id": "a\nb"}, {"expected_version": -1}, {"id": "x" * 300}]
)
async def test_a_bad_event_is_refused_before_anything_is_sent(changes: dict[str, Any]) -> None:
    broker = MemoryBroker()
    async with publisher(broker) as target:
        with pytest.raises(RejectedError):
            await target.publish(document(), **({"subject": patient()} | changes))

    assert broker.asked == 0


async def test_encoded_bytes_are_sent_as_they_are() -> None:
    broker = MemoryBroker()
    async with publisher(broker) as target:
        spaced = json.dumps(json.loads((await publish(target)).value), indent=1).encode()
        await (await target.publish_encoded(spaced)).position()
        with pytest.raises(RejectedError) as caught:
            await target.publish_encoded(spaced.replace(b"did:key", b"did:web"))
        with pytest.raises(RejectedError, match="malformed-json"):
            await target.publish_encoded(spaced[:-1])

    assert caught.value.reason is Reason.WRONG_SOURCE
    assert broker.stored[1].value == spaced
    broker.stored[1].judged()


async def test_a_slow_network_slows_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IN_FLIGHT_EVENTS_MAX", 3)
    broker = MemoryBroker(silent=True)
    async with publisher(broker, linger_ms=0) as target:
        for i in range(3):
            await publish(target, i)
        fourth = asyncio.ensure_future(publish(target, 3))
        await until(lambda: broker.asked == 3)
        assert not fourth.done()
        broker.answer_all()
        await fourth
        await until(lambda: broker.asked == 4)
        broker.answer_all()

    assert broker.asked == 4


async def test_one_event_larger_than_all_room_goes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IN_FLIGHT_BYTES_MAX", 10)
    broker = MemoryBroker()
    async with publisher(broker, linger_ms=0) as target:
        for i in range(5):
            await publish(target, i)

    assert len(broker.stored) == 5


async def test_a_caller_who_gives_up_waiting_has_published_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IN_FLIGHT_EVENTS_MAX", 1)
    broker = MemoryBroker(silent=True)
    async with publisher(broker, linger_ms=0) as target:
        await publish(target, 0)
        second = asyncio.ensure_future(publish(target, 1))
        await until(lambda: broker.asked == 1)
        second.cancel()
        await asyncio.wait([second])
        broker.answer_all()
        third = await publish(target, 2)
        await until(lambda: broker.asked == 2)
        broker.answer_all()
        await third.position()

    assert [json.loads(sent.value or b"")["id"] for sent in broker.stored] == ["event-0", "event-2"]


async def test_an_event_without_an_answer_is_reported_in_time() -> None:
    broker = MemoryBroker(silent=True)
    async with publisher(broker, delivery_s=0.05) as target:
        handle = await publish(target)
        with pytest.raises(DeliveryError, match=r"event-0 .* no answer within 0.05 s"):
            await handle.position()
        broker.answer_all()

        with pytest.raises(DeliveryError):
            await handle.position()


async def test_a_network_that_never_answers_is_reported_in_the_end() -> None:
    async def story() -> None:
        async with publisher(MemoryBroker(silent=True), delivery_s=0.05) as target:
            await publish(target)

    with pytest.raises(DeliveryError, match="no answer"):
        await story()


async def test_an_event_that_was_reported_is_not_sent_later() -> None:
    class Stuck(MemoryBroker):
        async def enqueue(self, *args: Any, **facts: Any) -> Any:
            entered.set()
            await free.wait()
            return await super().enqueue(*args, **facts)

    entered, free = asyncio.Event(), asyncio.Event()
    broker = Stuck()
    async with publisher(broker, linger_ms=0, batch_max=1) as target:
        stuck, behind = [await publish(target, i) for i in range(2)]
        await entered.wait()
        for handle in (stuck, behind):
            handle.deadline = 0.0
        for handle in (stuck, behind):
            with pytest.raises(DeliveryError):
                await handle.position()
        free.set()
        await (await publish(target, 2)).position()

    assert [json.loads(sent.value or b"")["id"] for sent in broker.stored] == ["event-0", "event-2"]


async def test_cancelling_tells_every_waiting_handle() -> None:
    broker = MemoryBroker(silent=True)
    handles: list[Handle] = []

    async def story() -> None:
        async with publisher(broker) as target:
            handles.extend([await publish(target, i) for i in range(2)])
            await asyncio.Event().wait()

    task = asyncio.ensure_future(story())
    await until(lambda: broker.asked == 2)
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()  # who is still waiting for answers is cancelled too
    with pytest.raises(asyncio.CancelledError):
        await task

    for handle in handles:
        with pytest.raises(DeliveryError):
            await handle.position()


async def test_who_waits_for_a_position_may_give_up_without_harm() -> None:
    broker = MemoryBroker(silent=True)
    async with publisher(broker) as target:
        handle = await publish(target)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await handle.position()
        await until(lambda: broker.asked == 1)
        broker.answer_all()

        assert (await handle.position()).offset == 0


async def test_a_defect_in_sending_is_reported_and_stops_the_publisher() -> None:
    class Broken(MemoryBroker):
        async def enqueue(self, *_: Any, **__: Any) -> Any:
            raise ZeroDivisionError

    async with publisher(Broken()) as target:
        handle = await publish(target, 0)
        with pytest.raises(DeliveryError, match="ZeroDivisionError"):
            await handle.position()
        with pytest.raises(PublisherClosedError):
            await publish(target, 1)


async def test_failures_that_nobody_asks_about_are_told_by_publish(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "UNREPORTED_MAX", 2)
    broker = MemoryBroker(lost={0, 1})
    async with publisher(broker, linger_ms=0) as target:
        handles = [await publish(target, i) for i in range(2)]
        for handle in handles:
            await handle.wait()
        with pytest.raises(DeliveryError, match="event-1"):
            await publish(target, 2)
        await (await publish(target, 3)).position()


async def test_a_publisher_that_is_not_open_takes_nothing() -> None:
    target = publisher(MemoryBroker())
    with pytest.raises(PublisherClosedError):
        await publish(target)
    async with target:
        await publish(target)
    with pytest.raises(PublisherClosedError):
        await publish(target)


@pytest.mark.parametrize("batch_max", [0, BATCH_SIZE_MAX + 1])
def test_a_batch_has_bounds(batch_max: int) -> None:
    with pytest.raises(ValueError, match="batch_max"):
        publisher(MemoryBroker(), batch_max=batch_max)


async def test_without_a_place_to_ask_there_is_no_receipt() -> None:
    async with publisher(MemoryBroker()) as target:
        handle = await publish(target)
        with pytest.raises(ReceiptUnavailableError, match="receipts_url"):
            await handle.receipt()


async def test_a_type_of_ones_own_is_published_by_who_has_its_schema_and_by_nobody_else() -> None:
    schema = schema_of(SIGNER.did)
    entry = own_event_type(json.dumps(schema).encode(), member=SIGNER.did)
    data = entry.data(patient=patient(1), ward="A.1")
    broker = MemoryBroker()
    value = encode_event(data, id="1", source=SIGNER.did, subject=patient(1), time=NOON)
    async with publisher(broker, types=[entry]) as target:
        await target.publish(data, subject=patient(1))
        await target.publish_encoded(value)
        with pytest.raises(RejectedError, match=r"\$.ward: not as pattern"):
            await target.publish(entry.data(patient=patient(1), ward="a"), subject=patient(1))
    async with publisher(broker) as target:
        with pytest.raises(RejectedError, match="unknown-type"):
            await target.publish_encoded(value)

    assert [record.topic for record in broker.stored] == [entry.topic] * 2
    assert broker.stored[1].value == value
    with pytest.raises(ValueError, match=r"x-salus.type: it is example.other.<fact>"):
        own_event_type(json.dumps(schema).encode(), member="did:web:other.example")
