"""Publishes signed events: gathers, signs a batch once, sends in order, and tells what became of each."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial
from itertools import takewhile
from types import TracebackType
from typing import Any, Self

from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from salus.client.batching import Gatherer, batches_of
from salus.client.errors import DeliveryError, PublisherClosedError, Undelivered
from salus.client.handle import Handle
from salus.client.identifiers import new_id
from salus.client.ports import Sender
from salus.client.receipts import EventName, Receipt, ReceiptSource, StoredEvent
from salus.client.room import Room
from salus.events.contexts import CATALOGUE
from salus.events.envelope import CONTENT_TYPE, decode_event, encode_event
from salus.events.errors import Reason, RejectedError
from salus.events.event_types import EventData, EventType, type_of
from salus.events.signature import Signer, sign_values
from salus.ledger.policy import Policy
from salus.ledger.records import SIGNATURE_HEADER
from salus.ledger.signature_header import BATCH_SIZE_MAX
from salus.messaging import (
    LINGER_MS,
    Bootstrap,
    MessagingError,
    NotSentError,
    Position,
    RecordRefusedError,
    RecoveringProducer,
)

IN_FLIGHT_EVENTS_MAX = 10_000
IN_FLIGHT_BYTES_MAX = 64 * 1024 * 1024
# Failures that nobody has asked about; one more and `publish` itself reports them.
UNREPORTED_MAX = 1_000
# How long an event may wait for its confirmation before it is reported; Kafka itself would try for ever.
DELIVERY_S = 30.0
# How exactly that is kept.
SWEEP_S = 0.5
_TRACE_CONTEXT = TraceContextTextMapPropagator()


class Publisher:
    """Publishes a party's events to the network; use it as an async context manager.

    Callers may rely on: events of one subject are stored in the order of the `publish` calls; `publish`
    waits when IN_FLIGHT_EVENTS_MAX or IN_FLIGHT_BYTES_MAX are under way; and every event that was taken is
    either confirmed or reported, by its handle, by `flush`, or by leaving the context. After any outage it
    goes on by itself: what was sent and not confirmed is sent again in its order, as the same event.

    `linger_ms` is how long the first event of a batch waits for others to share its signature. An event that
    is not confirmed `delivery_s` seconds after it was taken is reported; it may still arrive.
    `receipts_url` is where receipts are asked for, and `policy` what they are verified against. `types` are
    members' own event types (`salus.client.own_types`), for `publish_encoded`, which knows the release's.
    """

    def __init__(  # noqa: PLR0913  # the integrator's choices, each with its default
        self,
        bootstrap: Bootstrap,
        signer: Signer,
        *,
        receipts_url: str | None = None,
        policy: Policy | None = None,
        batch_max: int = 64,
        linger_ms: float = 5,
        delivery_s: float = DELIVERY_S,
        client_id: str = "salus-client",
        sender: Sender | None = None,
        types: Iterable[EventType] = (),
    ) -> None:
        if not 1 <= batch_max <= BATCH_SIZE_MAX:
            raise ValueError(f"batch_max is 1 to {BATCH_SIZE_MAX}, not {batch_max}")
        self._bootstrap = bootstrap
        self._client_id = client_id
        # Who does not linger for a signature does not linger for a request either.
        self._request_linger_ms = min(int(linger_ms), LINGER_MS)
        self._signer = signer
        self._source = signer.verification_method.partition("#")[0]
        self._receipts = ReceiptSource(receipts_url, policy)
        self._delivery_s = delivery_s
        self._sender = sender
        self._catalogue = CATALOGUE.with_types(types)
        self._room = Room(events_max=IN_FLIGHT_EVENTS_MAX, bytes_max=IN_FLIGHT_BYTES_MAX)
        self._batch_max = batch_max
        self._gatherer: Gatherer[Handle] = Gatherer(batch_max=batch_max, linger_s=linger_ms / 1000)
        self._in_flight: dict[Handle, None] = {}
        self._failed: list[Handle] = []
        self._resources = AsyncExitStack()
        self._sending: asyncio.Task[None] | None = None
        self._sweeping: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Connect; raises `salus.messaging.BrokerAwayError`."""
        if self._sender is None:
            producer = RecoveringProducer(
                self._bootstrap, client_id=self._client_id, linger_ms=self._request_linger_ms
            )
            self._sender = await self._resources.enter_async_context(producer)
        await self._resources.enter_async_context(self._receipts)
        self._sending = asyncio.create_task(self._send_batches(self._sender), name="salus-publisher")
        self._sending.add_done_callback(self._sending_ended)
        self._sweeping = asyncio.create_task(self._sweep(), name="salus-publisher-deadlines")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Send what was taken, disconnect, and report what was not delivered.

        An error on its way out is not hidden: the undelivered ids are added to it as a note.

        Raises:
            DeliveryError: some events failed and nobody had been told.
        """
        try:
            await self._drain()
        finally:
            self._abandon("the publisher was closed before the network answered")
            await self._disconnect()
        unreported = self._take_unreported()
        if unreported and error is None:
            raise DeliveryError(unreported)
        if unreported and error is not None:
            error.add_note(str(DeliveryError(unreported)))

    async def publish(
        self,
        data: EventData,
        *,
        subject: str,
        time: datetime | None = None,
        id: str | None = None,  # noqa: A002  # the CloudEvents attribute's name
        expected_version: int | None = None,
    ) -> Handle:
        """Take an event, and return the handle by which its delivery and receipt can be awaited.

        `time` is when it happened at the source (now, unless given); `id` is unique within the source. To
        publish the same again with the same `id` is a repetition, also where `time` is now both times:
        `Handle.receipt` gives the receipt of the first attempt.
        The event is validated first, so the network never sees one that it would refuse for its form.

        Raises:
            RejectedError: the event is not as its schema says, or too large; nothing was sent.
            PublisherClosedError: the publisher is not open.
            DeliveryError: more than UNREPORTED_MAX earlier events failed and nobody has asked.
        """
        happened = time or datetime.now(UTC)
        name = id or new_id(happened)
        value_at = partial(
            _value_at,
            data,
            id=name,
            source=self._source,
            subject=subject,
            expected_version=expected_version,
        )
        handle = await self._take(
            id=name, topic=type_of(data).topic, subject=subject, value=value_at(happened)
        )
        if time is None:
            handle.value_at = value_at
        return handle

    async def publish_encoded(self, value: bytes) -> Handle:
        """Take an event that is already encoded; exactly these bytes are signed and sent.

        Raises:
            RejectedError: as of `publish`, and WRONG_SOURCE if it names another party as its source.
            PublisherClosedError, DeliveryError: as of `publish`.
        """
        event = decode_event(value, self._catalogue)
        if event.envelope.source != self._source:
            raise RejectedError(Reason.WRONG_SOURCE, "source is not the DID that signs")
        return await self._take(
            id=event.envelope.id, topic=event.type.topic, subject=event.envelope.subject, value=value
        )

    async def flush(self) -> None:
        """Send what was taken so far without lingering, and wait until the network has answered.

        Raises:
            DeliveryError: some events failed and nobody had been told.
        """
        self._gatherer.hurry()
        for handle in list(self._in_flight):
            await handle.wait()
        unreported = self._take_unreported()
        if unreported:
            raise DeliveryError(unreported)

    async def _take(self, *, id: str, topic: str, subject: str, value: bytes) -> Handle:  # noqa: A002  # as above
        self._require_open()
        if len(self._failed) >= UNREPORTED_MAX:
            unreported = self._take_unreported()
            if unreported:
                raise DeliveryError(unreported)
        await self._room.take(len(value))
        handle = Handle(
            id=id,
            topic=topic,
            key=subject.encode(),
            value=value,
            headers=_headers(),
            deadline=asyncio.get_running_loop().time() + self._delivery_s,
            ask=self._receipt_of,
        )
        self._in_flight[handle] = None
        try:
            self._require_open()
        except PublisherClosedError:
            self._settle(handle, self._undelivered(handle, "closed"), report=False)
            raise
        self._gatherer.put(handle)
        return handle

    async def _receipt_of(self, handle: Handle, timeout_s: float) -> Receipt:
        position = await handle.position()
        stored = StoredEvent(EventName(self._source, handle.id), position, handle.value, handle.value_at)
        return await self._receipts.fetch(stored, timeout_s=timeout_s)

    async def _send_batches(self, sender: Sender) -> None:
        # One task sends everything, so the order within a partition is the order of publishing.
        while taken := await self._gatherer.take():
            if len(taken) > self._batch_max:
                for handle in taken:
                    handle.partition = sender.partition_of(handle.topic, handle.key)
            for batch in batches_of(taken, _lane_of, batch_max=self._batch_max):
                await self._send_batch(sender, batch)

    async def _send_batch(self, sender: Sender, batch: list[Handle]) -> None:
        try:
            # In a thread, for the key may be in a KMS on the other side of a network.
            signatures = await asyncio.to_thread(sign_values, [h.value for h in batch], self._signer)
        except Exception as error:  # noqa: BLE001  # whatever the caller's signer raises is the caller's to hear
            for handle in batch:
                self._settle(handle, self._undelivered(handle, f"signing: {type(error).__name__}"))
            return
        for handle, signature in zip(batch, signatures, strict=True):
            if not handle.settled:
                await self._send(sender, handle, signature)

    async def _send(self, sender: Sender, handle: Handle, signature: bytes) -> None:
        headers = ((SIGNATURE_HEADER, signature), *handle.headers)
        handle.sent = True
        try:
            answer = await sender.enqueue(
                handle.topic, key=handle.key, value=handle.value, headers=headers, partition=handle.partition
            )
        except MessagingError as error:
            self._failed_to_arrive(handle, error)
        else:
            asyncio.ensure_future(answer).add_done_callback(partial(self._answered, handle))

    def _answered(self, handle: Handle, answer: asyncio.Future[Position]) -> None:
        if answer.cancelled():
            self._settle(handle, self._undelivered(handle, "cancelled"))
        elif (error := answer.exception()) is not None:
            self._failed_to_arrive(handle, error)
        else:
            self._settle(handle, answer.result())

    def _failed_to_arrive(self, handle: Handle, error: BaseException) -> None:
        if isinstance(error, NotSentError | RecordRefusedError):
            handle.sent = False
        self._settle(handle, self._undelivered(handle, str(error)))

    def _settle(self, handle: Handle, outcome: Position | Undelivered, *, report: bool = True) -> None:
        if handle.settled:
            return
        handle.settle(outcome)
        del self._in_flight[handle]
        self._room.give_back(len(handle.value))
        if report and handle.undelivered is not None:
            self._failed.append(handle)

    def _sending_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self._abandon(f"the publisher stopped: {type(task.exception()).__name__}")

    def _abandon(self, why: str) -> None:
        for handle in list(self._in_flight):
            self._settle(handle, self._undelivered(handle, why))

    async def _sweep(self) -> None:
        # Oldest first, so the first that has time left ends the look.
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(min(SWEEP_S, self._delivery_s))
            late = takewhile(lambda handle: handle.deadline <= loop.time(), list(self._in_flight))
            trouble = self._sender.trouble if self._sender is not None else None
            why = f"no answer within {self._delivery_s} s{f', {trouble}' if trouble else ''}"
            for handle in late:
                self._settle(handle, self._undelivered(handle, why))

    async def _drain(self) -> None:
        self._gatherer.close()
        for handle in list(self._in_flight):
            await handle.wait()

    async def _disconnect(self) -> None:
        for task in (self._sending, self._sweeping):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
        await self._resources.aclose()

    def _require_open(self) -> None:
        if self._sending is None or self._sending.done() or self._gatherer.closed:
            raise PublisherClosedError("the publisher is not open")

    def _undelivered(self, handle: Handle, why: str) -> Undelivered:
        return Undelivered(id=handle.id, topic=handle.topic, why=why, may_arrive=handle.sent)

    def _take_unreported(self) -> list[Undelivered]:
        failed, self._failed = self._failed, []
        told = [handle.undelivered for handle in failed if handle.unreported]
        for handle in failed:
            handle.mark_reported()
        return [undelivered for undelivered in told if undelivered is not None]


def _value_at(data: EventData, time: datetime, **attributes: Any) -> bytes:
    return encode_event(data, time=time, **attributes)


def _lane_of(handle: Handle) -> tuple[str, int | None]:
    return handle.topic, handle.partition


def _headers() -> tuple[tuple[str, bytes], ...]:
    carrier: dict[str, str] = {}
    _TRACE_CONTEXT.inject(carrier)
    trace = carrier.get("traceparent")
    content = ("content-type", CONTENT_TYPE.encode())
    return (content, ("traceparent", trace.encode())) if trace else (content,)
