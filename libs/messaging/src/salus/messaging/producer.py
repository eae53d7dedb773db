"""Sends records with acknowledgement by all in-sync replicas, in order, without duplicates."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from itertools import chain
from types import TracebackType
from typing import Self

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, KafkaTimeoutError
from aiokafka.partitioner import DefaultPartitioner

from salus.messaging.connecting import start, to_the_end
from salus.messaging.errors import BrokerAwayError, DeliveryError
from salus.messaging.record import MESSAGE_BYTES_MAX, Position

LINGER_MS = 2
REQUEST_TIMEOUT_MS = 30_000
CLOSE_S_MAX = 10.0
_PARTITIONER = DefaultPartitioner()


class Producer:
    """An idempotent producer; use it as an async context manager.

    Leaving the context flushes what is in flight. Callers may rely on: the awaitable of `enqueue` ends
    either with the record's position or with DeliveryError, never silently.
    """

    def __init__(self, bootstrap: str, *, client_id: str, linger_ms: int = LINGER_MS) -> None:
        """`linger_ms` is how long a record waits for others to be sent with; 0 is for what comes singly."""
        self._bootstrap = bootstrap
        self._client_id = client_id
        self._linger_ms = linger_ms
        self._producer: AIOKafkaProducer | None = None

    async def __aenter__(self) -> Self:
        """Connect; raises BrokerAwayError."""
        producer = AIOKafkaProducer(
            bootstrap_servers=self._bootstrap,
            client_id=self._client_id,
            acks="all",
            enable_idempotence=True,
            linger_ms=self._linger_ms,
            max_batch_size=1024 * 1024,
            max_request_size=MESSAGE_BYTES_MAX,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
        )
        try:
            await start(producer.start, producer.stop)
        except KafkaError as error:
            raise BrokerAwayError(f"no broker answers at {self._bootstrap}") from error
        self._producer = producer
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Flush and disconnect; what is not acknowledged within CLOSE_S_MAX ends with DeliveryError."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await to_the_end(_close(producer))

    def partition_of(self, topic: str, key: bytes) -> int | None:
        """Return the partition that `enqueue` sends records of this key to; None if that is not known yet.

        The way to choose it is Kafka's own, as of its Java client: murmur2.
        """
        known = self._producer and self._producer.client.cluster.partitions_for_topic(topic)
        return int(_PARTITIONER(key, sorted(known), None)) if known else None

    async def enqueue(  # noqa: PLR0913  # what a record is, and where and when it stands
        self,
        topic: str,
        *,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes]] = (),
        partition: int | None = None,
        timestamp_ms: int | None = None,
    ) -> Awaitable[Position]:
        """Wait for room in the buffer; return an awaitable of the acknowledged position.

        `timestamp_ms` counts only on a topic that takes the sender's time (`CreateTime`).

        Raises:
            DeliveryError: the record cannot be sent at all (unknown topic, larger than the broker takes).
        """
        if self._producer is None:
            raise DeliveryError("the producer is not open")
        try:
            sent = await self._producer.send(
                topic,
                key=key,
                value=value,
                headers=list(headers),
                partition=partition,
                timestamp_ms=timestamp_ms,
            )
        except KafkaError as error:
            raise DeliveryError(f"{topic}: {type(error).__name__}") from error
        return _position_of(topic, sent)

    async def send(
        self,
        topic: str,
        *,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> Position:
        """Enqueue and wait for the acknowledgement."""
        return await (await self.enqueue(topic, key=key, value=value, headers=headers))

    async def flush(self) -> None:
        """Wait until everything enqueued so far was acknowledged or failed."""
        if self._producer is not None:
            await self._producer.flush()


async def _close(producer: AIOKafkaProducer) -> None:
    stopping = asyncio.ensure_future(producer.stop())
    await asyncio.wait([stopping], timeout=CLOSE_S_MAX)
    if not stopping.done():
        await _give_up(producer, stopping)
    await stopping


async def _give_up(producer: AIOKafkaProducer, stopping: asyncio.Future[None]) -> None:
    """End a producer that still waits for a broker; what it has not delivered ends with DeliveryError.

    An idempotent producer tries for ever, in the background, and aiokafka has no public way to stop it.
    """
    producer._sender.sender_task.cancel()  # noqa: SLF001  # as the docstring says
    await asyncio.wait([stopping])
    accumulator = producer._message_accumulator  # noqa: SLF001  # as above
    queued = list(chain.from_iterable(accumulator._batches.values()))  # noqa: SLF001  # as above
    # A batch that was tried before leaves this set when it ends, and complains if it is not in it.
    accumulator._pending_batches.update(queued)  # noqa: SLF001  # as above
    accumulator.fail_all(KafkaTimeoutError())
    for batch in queued:
        # Nobody waits for it to be tried again; an error that nobody asks for is complained of.
        batch._drain_waiter.exception()  # noqa: SLF001  # as above


def _position_of(topic: str, sent: asyncio.Future[object]) -> Awaitable[Position]:
    async def wait() -> Position:
        try:
            metadata = await sent
        except KafkaError as error:
            raise DeliveryError(f"{topic}: {type(error).__name__}") from error
        return Position(topic, metadata.partition, metadata.offset)  # type: ignore[attr-defined]  # aiokafka has no types

    return asyncio.ensure_future(wait())
