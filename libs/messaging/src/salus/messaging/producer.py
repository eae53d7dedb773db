"""Sends records with acknowledgement by all in-sync replicas, in order: one session."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from itertools import chain
from types import TracebackType
from typing import Any, Self

from aiokafka import AIOKafkaProducer
from aiokafka import errors as kafka
from aiokafka.errors import KafkaError, KafkaTimeoutError
from aiokafka.partitioner import DefaultPartitioner

from salus.messaging.brokers import Bootstrap, options, silence_of
from salus.messaging.connecting import start, to_the_end
from salus.messaging.errors import (
    BrokerAwayError,
    DeliveryError,
    NotAuthorizedError,
    NotSentError,
    RecordRefusedError,
    TimestampReplacedError,
)
from salus.messaging.record import MESSAGE_BYTES_MAX, Position

LINGER_MS = 2
REQUEST_TIMEOUT_MS = 30_000
CLOSE_S_MAX = 10.0
# How long requests that are under way may take once nothing more is sent, and then once they are cut off.
SETTLE_S_MAX = 2.0
# Who stamped a record, as the library tells of an acknowledgement.
_LOG_APPEND_TIME = 1
_PARTITIONER = DefaultPartitioner()
_REFUSALS = (
    kafka.InvalidTimestampError,
    kafka.InvalidTopicError,
    kafka.MessageSizeTooLargeError,
    kafka.PolicyViolationError,
    kafka.RecordListTooLargeError,
    kafka.RecordTooLargeError,
    kafka.UnsupportedForMessageFormatError,
)
_FORBIDDEN = (kafka.TopicAuthorizationFailedError, kafka.ClusterAuthorizationFailedError)


class Producer:
    """A producer; use it as an async context manager.

    Leaving the context flushes what is in flight. Callers may rely on: the awaitable of `enqueue` ends
    either with the record's position or with DeliveryError, never silently; and after the first record that
    was sent and not acknowledged nothing more is sent (`is_over`), so that nothing overtakes it.
    `RecoveringProducer` goes on with a new session.

    A record may be in the topic twice if an answer was lost; then the position is of the later one. An
    `idempotent` producer doubles none, but believes what anybody who may write to the topic makes the broker
    believe: who sends under its producer id and next sequence has its record dropped as a repetition, and
    acknowledged at the place of his own. So it is only for who reads back what stands at the position.
    """

    def __init__(
        self, bootstrap: Bootstrap, *, client_id: str, linger_ms: int = LINGER_MS, idempotent: bool = False
    ) -> None:
        """`linger_ms` is how long a record waits for others to be sent with; 0 is for what comes singly."""
        self._bootstrap = bootstrap
        self._client_id = client_id
        self._linger_ms = linger_ms
        self._idempotent = idempotent
        self._producer: AIOKafkaProducer | None = None
        self._ending: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Connect; raises BrokerAwayError."""
        producer = AIOKafkaProducer(
            **options(self._bootstrap),
            client_id=self._client_id,
            acks="all",
            enable_idempotence=self._idempotent,
            linger_ms=self._linger_ms,
            max_batch_size=1024 * 1024,
            max_request_size=MESSAGE_BYTES_MAX,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
        )
        try:
            await start(producer.start, producer.stop)
        except KafkaError as error:
            raise BrokerAwayError(silence_of(self._bootstrap)) from error
        self._producer = producer
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Flush and disconnect; what is not acknowledged within CLOSE_S_MAX ends with DeliveryError."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await to_the_end(self._close(producer))

    @property
    def is_over(self) -> bool:
        """Whether nothing more is sent, because something was not acknowledged."""
        return self._ending is not None or self._producer is None

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
    ) -> asyncio.Future[Position]:
        """Wait for room in the buffer; return an awaitable of the acknowledged position.

        `timestamp_ms` is for a topic that takes the sender's time (`CreateTime`): on another one the record
        is appended, and the answer is TimestampReplacedError.

        Raises:
            RecordRefusedError, NotAuthorizedError: the record cannot be sent at all.
            NotSentError: the topic is not known, there is no room, or the session is over.
        """
        producer = self._producer
        if producer is None or self._ending is not None:
            raise NotSentError("the producer is not open")
        try:
            if partition is not None and partition not in await producer.partitions_for(topic):
                raise NotSentError(f"{topic} has no partition {partition}")
            sent = await producer.send(
                topic,
                key=key,
                value=value,
                headers=list(headers),
                partition=partition,
                timestamp_ms=timestamp_ms,
            )
        except KafkaError as error:
            if producer._sender.sender_task.done():  # noqa: SLF001  # how a session that failed is told
                self._end(producer)
            raise _unsent(topic, error) from error
        answer: asyncio.Future[Position] = asyncio.get_running_loop().create_future()
        # On the library's own future: its sender must not have a turn before us.
        sent.add_done_callback(partial(self._answered, producer, topic, answer, timestamp_ms is not None))
        return answer

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

    def _answered(
        self,
        producer: AIOKafkaProducer,
        topic: str,
        answer: asyncio.Future[Position],
        is_dated: bool,  # noqa: FBT001  # bound by `partial`
        sent: asyncio.Future[Any],
    ) -> None:
        error = asyncio.CancelledError() if sent.cancelled() else sent.exception()
        metadata = None if error is not None else sent.result()
        if metadata is not None and metadata.offset >= 0:
            if not answer.done() and is_dated and metadata.timestamp_type == _LOG_APPEND_TIME:
                answer.set_exception(TimestampReplacedError(topic))
            elif not answer.done():
                answer.set_result(Position(topic, metadata.partition, metadata.offset))
            return
        self._end(producer)
        if not answer.done():
            # A broker that has forgotten where it put a batch acknowledges it without an offset.
            answer.set_exception(_undelivered(topic, error or kafka.DuplicateSequenceNumber()))

    def _end(self, producer: AIOKafkaProducer) -> None:
        """Send nothing more from this moment on."""
        if self._ending is None:
            producer._sender.sender_task.cancel()  # noqa: SLF001  # aiokafka has no public way
            self._ending = asyncio.create_task(_give_up(producer), name="salus-producer-ending")

    async def _close(self, producer: AIOKafkaProducer) -> None:
        try:
            if self._ending is None:
                flushing = asyncio.ensure_future(producer.flush())
                await asyncio.wait([flushing], timeout=CLOSE_S_MAX)
                if not flushing.done():
                    self._end(producer)
                await flushing
            if self._ending is not None:
                await self._ending
        finally:
            await producer.stop()


async def _give_up(producer: AIOKafkaProducer) -> None:
    """Wait for what is on its way, cut it off after SETTLE_S_MAX; what is left ends with an error.

    It goes on trying in the background, an idempotent producer for ever, and aiokafka has no public way to
    stop it.
    """
    sending = producer._sender.sender_task  # noqa: SLF001  # as the docstring says
    await asyncio.wait([sending], timeout=SETTLE_S_MAX)
    if not sending.done():
        # Requests without a connection are put back into the queue, where they stay.
        for connection in producer.client._conns.values():  # noqa: SLF001  # as above
            connection.close()
        await asyncio.wait([sending], timeout=SETTLE_S_MAX)
        sending.cancel()
        await asyncio.wait([sending])
    accumulator = producer._message_accumulator  # noqa: SLF001  # as above
    queued = list(chain.from_iterable(accumulator._batches.values()))  # noqa: SLF001  # as above
    # A batch that was tried before leaves this set when it ends, and complains if it is not in it.
    accumulator._pending_batches.update(queued)  # noqa: SLF001  # as above
    accumulator.fail_all(KafkaTimeoutError())
    for batch in queued:
        # Nobody waits for it to be tried again; an error that nobody asks for is complained of.
        batch._drain_waiter.exception()  # noqa: SLF001  # as above


def _unsent(topic: str, error: KafkaError) -> DeliveryError:
    if isinstance(error, _REFUSALS + _FORBIDDEN):
        return _undelivered(topic, error)
    return NotSentError(f"{topic}: {type(error).__name__}")


def _undelivered(topic: str, error: BaseException) -> DeliveryError:
    kind = DeliveryError
    if isinstance(error, _REFUSALS):
        kind = RecordRefusedError
    elif isinstance(error, _FORBIDDEN):
        kind = NotAuthorizedError
    told = kind(f"{topic}: {type(error).__name__}")
    told.__cause__ = error
    return told
