"""How a service states a fact: signed with its own key, acknowledged by Kafka before it goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import NamedTuple

from salus.client import Publisher
from salus.client.identifiers import random_uuid
from salus.events.event_types import EventData
from salus.events.signature import Signer
from salus.messaging import Bootstrap, Position, RecoveringProducer


class Stated(NamedTuple):
    """A fact that Kafka has acknowledged: its exact bytes, and where they stand by what Kafka says."""

    position: Position
    value: bytes


class ServicePublisher:
    """Publishes events of the service that owns the signer's key."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher

    async def publish(
        self, data: EventData, *, subject: str, expected_version: int | None = None, event_id: str = ""
    ) -> Stated:
        """Sign, send, and return what was stated once Kafka has acknowledged it.

        `event_id` is given for what may be stated twice, so that the ledger takes it once; else it is random.

        Raises:
            DeliveryError: it was not acknowledged; it may or may not be in the topic.
        """
        handle = await self._publisher.publish(
            data,
            subject=subject,
            time=datetime.now(UTC),
            id=event_id or str(random_uuid()),
            expected_version=expected_version,
        )
        return Stated(await handle.position(), handle.value)


@asynccontextmanager
async def open_publisher(
    bootstrap: Bootstrap, signer: Signer, *, idempotent: bool = False
) -> AsyncIterator[ServicePublisher]:
    """Connect to Kafka and yield the publisher; leaving it flushes.

    `idempotent` is for who reads back what stands at the position, as `FactWriter` does, and would take a
    record that is there twice for a change that somebody else made first.
    """
    async with AsyncExitStack() as resources:
        sender = RecoveringProducer(bootstrap, client_id="salus-service", linger_ms=0, idempotent=idempotent)
        await resources.enter_async_context(sender)
        publisher = Publisher(bootstrap, signer, linger_ms=0, sender=sender)
        yield ServicePublisher(await resources.enter_async_context(publisher))
