"""The output topics, and the announcements that tell when to look for a block."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from salus.audit.adapters.signatures import OwnSignatures
from salus.audit.ports import Message, OutOfReachError
from salus.ledger.records import SIGNATURE_HEADER
from salus.messaging import Bootstrap, MessagingError, Position, Reader, RecoveringProducer, partitions_of
from salus.runtime.supervisor import failed, succeeded

CLIENT_ID = "salus-audit"
POLL_RECORDS_MAX = 1000
POLL_MS = 1000
RETRY_S = 1.0
# A message that is not acknowledged by then is published again later, with the same uid.
DELIVERY_S = 30.0

_log = structlog.get_logger()


class KafkaOutputs:
    """Publishes with a producer that recovers by itself; it is opened anew after a longer outage."""

    def __init__(
        self, bootstrap: Bootstrap, signatures: OwnSignatures, require_key: Callable[[], Awaitable[None]]
    ) -> None:
        """Publish only while `require_key` raises nothing: who reads believes what audit's key signs."""
        self._bootstrap = bootstrap
        self._signatures = signatures
        self._require_key = require_key
        self._producer: RecoveringProducer | None = None

    async def publish(self, messages: Sequence[Message]) -> None:
        """Return when all messages were acknowledged."""
        await self._require_key()
        try:
            producer = await self._open()
            async with asyncio.timeout(DELIVERY_S):
                await self._publish(producer, messages)
        except (MessagingError, TimeoutError) as error:
            trouble = self._producer.trouble if self._producer is not None else None
            await self.close()
            raise OutOfReachError(f"kafka: {trouble or error or 'no answer'}") from error

    def sign(self, statement: bytes) -> bytes:
        """Return audit's signature of a statement of its own."""
        return self._signatures.of([statement])[0]

    def is_own(self, statement: bytes, signature: bytes) -> bool:
        """Tell whether audit signed the statement."""
        return self._signatures.are_on(statement, signature)

    async def _publish(self, producer: RecoveringProducer, messages: Sequence[Message]) -> None:
        signatures = await asyncio.to_thread(self._signatures.of, [message.value for message in messages])
        sent = [
            await producer.enqueue(
                message.topic,
                key=message.key.encode(),
                value=message.value,
                headers=(
                    ("content-type", message.content_type.encode()),
                    ("salus-uid", message.uid.encode()),
                    (SIGNATURE_HEADER, signature),
                ),
            )
            for message, signature in zip(messages, signatures, strict=True)
        ]
        await asyncio.gather(*sent)

    async def close(self) -> None:
        """Let go of the broker."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.__aexit__(None, None, None)

    async def _open(self) -> RecoveringProducer:
        if self._producer is None:
            producer = RecoveringProducer(self._bootstrap, client_id=CLIENT_ID)
            await producer.__aenter__()
            self._producer = producer
        return self._producer


async def watch_for_ever(bootstrap: Bootstrap, seen: Callable[[], None], *, topic: str) -> None:
    """Call `seen` whenever a block is announced, until cancelled; the archive, not the topic, is truth.

    A topic that got more partitions is opened anew.
    """
    while True:
        try:
            await _watch(bootstrap, seen, topic)
        except MessagingError as error:
            failed(error)
            _log.warning("announcements wait", error=str(error))
            await asyncio.sleep(RETRY_S)


async def _watch(bootstrap: Bootstrap, seen: Callable[[], None], topic: str) -> None:
    partitions = (await partitions_of(bootstrap, [topic])).get(topic, [])
    if not partitions:
        raise MessagingError(f"there is no topic {topic}")
    starts = {(topic, partition): 0 for partition in partitions}
    async with Reader(bootstrap, starts=starts) as reader:
        for (name, partition), end in (await reader.end_offsets()).items():
            reader.seek(Position(name, partition, end))
        while True:
            if await reader.poll(max_records=POLL_RECORDS_MAX, timeout_ms=POLL_MS):
                seen()
            reader.require_whole_topics()
            succeeded()
