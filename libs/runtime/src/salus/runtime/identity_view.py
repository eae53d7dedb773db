"""The key ring that a service keeps by following the identity topic from its beginning, in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import structlog

from salus.events.effect import WithoutEffect
from salus.events.errors import RejectedError
from salus.events.judging import judge
from salus.events.keyring import KeyRing
from salus.ledger.records import SIGNATURE_HEADER
from salus.messaging import Reader, Record
from salus.runtime.network import Network

IDENTITY_TOPIC = "salus.identity.events"
POLL_RECORDS_MAX = 1000
# 9999-12-31T00:00:00Z, the last day that `datetime` knows.
TIMESTAMP_MS_MAX = 253_402_214_400_000

_log = structlog.get_logger()


def apply_identity_record(ring: KeyRing, record: Record) -> None:
    """Fold one identity record into the ring; a record that is not acceptable changes nothing."""
    try:
        judged = judge(
            topic=record.topic,
            key=record.key,
            value=record.value,
            signature=record.header(SIGNATURE_HEADER),
            ring=ring,
            at=time_of(record),
            flaw=record.flaw,
        )
    except RejectedError as error:
        _log.warning("identity record ignored", offset=record.offset, reason=str(error.reason))
    else:
        effect = ring.fold(judged.event, offset=record.offset)
        if isinstance(effect, WithoutEffect) and (objection := ring.unentitled.get(record.offset)):
            _log.warning("identity record without right", offset=record.offset, reason=objection.code)
    ring.position = record.offset + 1


def time_of(record: Record) -> datetime:
    """Return when the broker appended the record; a time beyond the calendar's is the calendar's end.

    Where a topic lacks LogAppendTime the time is the sender's, and no number of his may stop a fold.
    """
    return datetime.fromtimestamp(min(max(record.timestamp_ms, 0), TIMESTAMP_MS_MAX) / 1000, UTC)


class IdentityView:
    """Follows the identity topic on demand; callers may rely on `catch_up` having seen all that was there."""

    def __init__(self, reader: Reader, network: Network) -> None:
        self.ring = network.new_ring()
        self._reader = reader
        self._lock = asyncio.Lock()

    async def catch_up(self) -> KeyRing:
        """Fold the topic up to its present end and return the ring.

        Raises:
            PermanentError: there is something in the topic that cannot be read, or that nobody reads.
            MessagingError: the broker is away.
        """
        async with self._lock:
            ends = await self._reader.end_offsets()
            for (topic, partition), end in ends.items():
                while await self._reader.position(topic, partition) < end:
                    self._reader.require_whole_topics()
                    for record in await self._reader.poll(max_records=POLL_RECORDS_MAX, timeout_ms=100):
                        apply_identity_record(self.ring, record)
                self.ring.position = max(self.ring.position, end)
            self._reader.require_whole_topics()
            return self.ring


@asynccontextmanager
async def open_identity_view(bootstrap: str, network: Network) -> AsyncIterator[IdentityView]:
    """Open a view at the start of the topic; it knows nothing but the root until `catch_up`."""
    starts = dict.fromkeys(network.topic_partitions(IDENTITY_TOPIC), 0)
    async with Reader(bootstrap, starts=starts) as reader:
        yield IdentityView(reader, network)
