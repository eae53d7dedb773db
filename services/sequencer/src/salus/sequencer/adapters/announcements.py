"""Announces blocks and rejections as signed events on their topics, at least once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from salus.client import Publisher
from salus.client.errors import DeliveryError
from salus.events.contexts.ledger import BlockSealed, RecordRejected, RecordsRejected, RejectedGroup
from salus.events.event_types import EventData
from salus.events.signature import Signer
from salus.messaging import Bootstrap, MessagingError
from salus.sequencer.adapters.log import PART
from salus.sequencer.adapters.patience import Patience
from salus.sequencer.domain import Rejection
from salus.sequencer.ports import Announcement
from salus.sequencer.rejections import split

GROUPS_MAX = 500
"""As many as one event may have."""
_DETAIL_CHARS_MAX = 256


class KafkaAnnouncements:
    """Publishes with the sequencer's own DID key.

    An event's id follows from what it is about, which is the same each time that a block is announced (see
    `rejections`), so consumers know a repetition when they see it.
    """

    def __init__(self, publisher: Publisher, origin: str, patience: Patience) -> None:
        self._publisher = publisher
        self._origin = origin
        self._patience = patience

    async def announce(self, block: Announcement) -> None:
        """Return once the rejections and then the block itself are acknowledged."""
        single, groups = split(block.rejections)
        await asyncio.gather(*(self._reject(block, rejection) for rejection in single))
        for first in range(0, len(groups), GROUPS_MAX):
            await self._count(block, groups[first : first + GROUPS_MAX], first)
        sealed = BlockSealed(
            shard=block.shard,
            height=block.height,
            header=block.header_key,
            body=block.body_key,
            leaves=block.leaves,
            accepted=block.accepted,
        )
        await self._publish(sealed, block, id_=f"{self._origin}/block/{block.height}")

    async def _reject(self, block: Announcement, rejection: Rejection) -> None:
        data = RecordRejected(
            topic=rejection.topic,
            partition=rejection.partition,
            offset=rejection.offset,
            reason=rejection.reason,
            detail=rejection.detail[:_DETAIL_CHARS_MAX],
            digest=rejection.digest.hex(),
            shard=block.shard,
            height=block.height,
            key=rejection.attribution.key,
            source=rejection.attribution.source,
            id=rejection.attribution.id,
        )
        place = f"{rejection.topic}/{rejection.partition}/{rejection.offset}"
        await self._publish(data, block, id_=f"{self._origin}/{place}")

    async def _count(self, block: Announcement, groups: Sequence[RejectedGroup], first: int) -> None:
        data = RecordsRejected(shard=block.shard, height=block.height, groups=tuple(groups))
        await self._publish(data, block, id_=f"{self._origin}/block/{block.height}/rejected/{first}")

    async def _publish(self, data: EventData, block: Announcement, *, id_: str) -> None:
        async def attempt() -> None:
            handle = await self._publisher.publish(data, subject=self._origin, time=block.time, id=id_)
            await handle.position()

        await self._patience.outlast(PART, attempt, errors=(DeliveryError, MessagingError))


@asynccontextmanager
async def open_announcements(
    bootstrap: Bootstrap, signer: Signer, origin: str, patience: Patience
) -> AsyncIterator[KafkaAnnouncements]:
    """Connect the publisher, waiting while the broker is away."""
    async with AsyncExitStack() as resources:

        async def connect() -> Publisher:
            publisher = Publisher(bootstrap, signer, linger_ms=0, client_id="salus-sequencer")
            return await resources.enter_async_context(publisher)

        publisher = await patience.outlast(PART, connect, errors=(MessagingError,))
        yield KafkaAnnouncements(publisher, origin, patience)
