"""Kafka: block announcements wake us, checkpoints are announced; the log does not depend on either."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import structlog

from salus.anchoring.ports import StatedAt
from salus.archive.receipts import RecordPosition
from salus.archive.report import Finding
from salus.client import EventName
from salus.events.contexts import CATALOGUE
from salus.events.contexts.ledger import BlockSealed, CheckpointPublished
from salus.events.contexts.network import DamageFound
from salus.events.effect import Outcome
from salus.events.envelope import decode_event
from salus.events.errors import RejectedError
from salus.events.event_types import type_of
from salus.events.signature import Signer
from salus.ledger.merkle import leaf_hash
from salus.messaging import Bootstrap, MessagingError, Position, Reader, Record
from salus.runtime.own_key import AnnouncingKey
from salus.runtime.publishing import ServicePublisher, open_publisher
from salus.runtime.supervisor import failed, succeeded

POLL_MS = 1000
RECORDS_MAX = 1000
PAUSE_S = 1.0
# The catalogue's limits for texts: a detail may quote what a library said of a damaged file.
TEXT_MAX = 256
_PLAIN = re.compile(r"[\x00-\x1f\x7f-\x9f]")

TRACE_HEADER = "traceparent"
Heard = Callable[[BlockSealed, bytes | None], None]
OutcomeOf = Callable[[EventName, StatedAt], Awaitable[Outcome]]

_log = structlog.get_logger()


class KafkaAnnouncements:
    """Announces checkpoints; connects at the first one and again after a failure.

    While the service's own key does not sign, nothing is published: the ledger would refuse it.
    """

    def __init__(self, bootstrap: Bootstrap, signer: Signer, key: AnnouncingKey, *, origin: str) -> None:
        self._bootstrap = bootstrap
        self._signer = signer
        self._key = key
        self._origin = origin
        self._resources = AsyncExitStack()
        self._publisher: ServicePublisher | None = None

    async def announce(self, *, size: int, checkpoint: str) -> None:
        """Publish the event; raises MessagingError, as OwnKeyError, or ClientError."""
        await self._key.check()
        data = CheckpointPublished(size=size, checkpoint=checkpoint)
        await (await self._open()).publish(data, subject=self._origin)

    async def _open(self) -> ServicePublisher:
        if self._publisher is None:
            self._publisher = await self._resources.enter_async_context(
                open_publisher(self._bootstrap, self._signer)
            )
        return self._publisher

    async def close(self) -> None:
        """Disconnect."""
        await self._resources.aclose()
        self._publisher = None


class KafkaAlarms(KafkaAnnouncements):
    """Tells of damage as well, and what became of that; `outcome` looks into the ledger."""

    def __init__(
        self, bootstrap: Bootstrap, signer: Signer, key: AnnouncingKey, *, origin: str, outcome: OutcomeOf
    ) -> None:
        super().__init__(bootstrap, signer, key, origin=origin)
        self._outcome = outcome
        self._source = signer.verification_method.partition("#")[0]

    async def raise_alarm(self, finding: Finding, *, event_id: str) -> StatedAt:
        """Publish the event; raises MessagingError, as OwnKeyError, ClientError or RejectedError."""
        self._key.require()
        data = DamageFound(
            code=finding.code,
            bucket=finding.bucket,
            key=finding.key[:TEXT_MAX],
            detail=_PLAIN.sub("?", finding.detail)[:TEXT_MAX],
            shard=finding.shard,
            height=finding.height,
            row=finding.row,
        )
        publisher = await self._open()
        stated = await publisher.publish(data, subject=self._origin, event_id=event_id)
        at = stated.position
        return StatedAt(RecordPosition(at.topic, at.partition, at.offset), leaf_hash(stated.value))

    async def outcome(self, event_id: str, stated: StatedAt) -> Outcome:
        """Return what became of an alarm."""
        return await self._outcome(EventName(self._source, event_id), stated)


async def listen(bootstrap: Bootstrap, *, heard: Heard) -> None:
    """Call `heard(block, traceparent)` for each announced block until cancelled.

    The announcements are not verified: what they say is only a reason to look into the archive, at once or
    half a second later. So a record that is no announcement is passed over, and what was missed while Kafka
    was away is not read.
    """
    topic = type_of(BlockSealed).topic
    while True:
        try:
            async with Reader(bootstrap, starts={(topic, 0): 0}) as reader:
                for (_, partition), offset in (await reader.end_offsets()).items():
                    reader.seek(Position(topic, partition, offset))
                while True:
                    for record in await reader.poll(max_records=RECORDS_MAX, timeout_ms=POLL_MS):
                        _tell(record, heard)
                    succeeded()
        except MessagingError as error:
            failed(error)
            _log.warning("announcements cannot be read", error=str(error))
            await asyncio.sleep(PAUSE_S)


def _tell(record: Record, heard: Heard) -> None:
    try:
        data = decode_event(record.value or b"", CATALOGUE).data
    except RejectedError:
        return
    if isinstance(data, BlockSealed):
        heard(data, record.header(TRACE_HEADER))
