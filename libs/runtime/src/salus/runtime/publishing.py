"""How a service states a fact: signed with its own key, acknowledged by Kafka before it goes on."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from salus.client import Publisher
from salus.events.catalogue import EventData
from salus.events.signature import Signer
from salus.messaging import Position


class ServicePublisher:
    """Publishes events of the service that owns the signer's key."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher

    async def publish(
        self, data: EventData, *, subject: str, expected_version: int | None = None, event_id: str = ""
    ) -> Position:
        """Sign, send, and return the position once Kafka has acknowledged it.

        `event_id` is given for what may be stated twice, so that the ledger takes it once; else it is random.

        Raises:
            DeliveryError: it was not acknowledged; it may or may not be in the topic.
        """
        handle = await self._publisher.publish(
            data,
            subject=subject,
            time=datetime.now(UTC),
            id=event_id or str(uuid.uuid4()),
            expected_version=expected_version,
        )
        return await handle.position()


@asynccontextmanager
async def open_publisher(bootstrap: str, signer: Signer) -> AsyncIterator[ServicePublisher]:
    """Connect to Kafka and yield the publisher; leaving it flushes."""
    async with Publisher(bootstrap, signer, linger_ms=0) as publisher:
        yield ServicePublisher(publisher)
