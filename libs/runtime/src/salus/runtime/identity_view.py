"""The key ring that a service keeps by following the identity topic from its beginning, in memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import structlog

from salus.events.effect import Applied, Effect, Refused
from salus.events.errors import RejectedError
from salus.events.judging import judge
from salus.events.keyring import KeyRing
from salus.ledger.records import SIGNATURE_HEADER, Flaw, appended_at
from salus.messaging import Bootstrap, MessagingError, PermanentError, Position, Reader, Record
from salus.runtime.network import Network
from salus.runtime.refusal_tally import RefusalTally
from salus.runtime.shared_call import SharedCall
from salus.runtime.unread_records import UnreadRecordError, require_key_gone, unread

IDENTITY_TOPIC = "salus.identity.events"
POLL_RECORDS_MAX = 1000
OUTCOMES_MAX = 10_000

_log = structlog.get_logger()


def apply_identity_record(ring: KeyRing, record: Record) -> Effect | Refused:
    """Fold one identity record into the ring and return what became of it."""
    appended = appended_at(record.timestamp_ms)
    try:
        judged = judge(
            topic=record.topic,
            key=record.key,
            value=record.value,
            signature=record.header(SIGNATURE_HEADER),
            ring=ring,
            at=appended,
            flaw=record.flaw,
        )
    except RejectedError as error:
        ring.position = record.offset + 1
        return Refused(str(error.reason))
    effect = ring.fold(judged.event, offset=record.offset, appended=appended)
    if (objection := ring.unentitled.get(record.offset)) is not None:
        _log.warning("identity record without right", offset=record.offset, reason=objection.code)
    ring.position = record.offset + 1
    return effect


class UnstatedRestorationError(PermanentError):
    """The topic begins with records that their sender dated, and network.json does not speak of them."""

    def __init__(self) -> None:
        super().__init__(
            f"{IDENTITY_TOPIC} begins with records that their sender dated. If Kafka was lost and its topics "
            "were filled again, take the network.json that `salus ledger restore-topics` wrote to"
        )


class NotFoldedYetError(MessagingError):
    """The view has not come as far as the record whose outcome is asked for; it will."""

    def __init__(self, offset: int, *, position: int) -> None:
        super().__init__(f"{IDENTITY_TOPIC} {offset} is not folded yet, but everything before {position} is")
        self.offset = offset
        self.position = position


class IdentityView:
    """Follows the identity topic on demand; callers may rely on `catch_up` having seen all that was there."""

    def __init__(self, reader: Reader, network: Network) -> None:
        self.ring = network.new_ring()
        self.restored = network.restored_ranges()
        """What network.json says of all topics, not of identity's alone."""
        self._outcomes: OrderedDict[int, Effect | Refused] = OrderedDict()
        # One for each key of identity. A thief's may be revoked behind it, so the ring goes on.
        self._unread: dict[str, UnreadRecordError] = {}
        self._refused = RefusalTally()
        self._reader = reader
        self._catch_up = SharedCall(self._read_to_the_end)

    async def catch_up(self) -> KeyRing:
        """Fold the topic up to its present end and return the ring.

        Raises:
            PermanentError: there is something in the topic that cannot be read, or that nobody reads.
            MessagingError: the broker is away.
        """
        return await self._catch_up()

    async def _read_to_the_end(self) -> KeyRing:
        for (topic, partition), end in (await self._reader.end_offsets()).items():
            await self._read_to(topic, partition, end, below=None)
        self._reader.require_whole_topics()
        return self.ring

    async def read_to(self, position: int) -> KeyRing:
        """Fold what is before an offset that the topic has, nothing after it, and return the ring.

        Raises:
            PermanentError, MessagingError: as `catch_up`.
        """
        for topic, partition in self._reader.partitions:
            await self._read_to(topic, partition, position, below=position)
            self._reader.seek(Position(topic, partition, self.ring.position))
        return self.ring

    async def _read_to(self, topic: str, partition: int, end: int, *, below: int | None) -> None:
        try:
            while await self._reader.position(topic, partition) < end:
                self._reader.require_whole_topics()
                records = await self._reader.poll(max_records=POLL_RECORDS_MAX, timeout_ms=100)
                try:
                    self._take(record for record in records if below is None or record.offset < below)
                except BaseException:
                    # What was polled with it is not passed over: a revocation may be among it.
                    self._reader.seek(Position(topic, partition, self.ring.position))
                    raise
        finally:
            self._refused.tell()
        self.ring.position = max(self.ring.position, end)

    def require_read(self) -> None:
        """Raise UnreadRecordError if identity, of another version, wrote what the ring lacks; for /readyz."""
        for error in self._unread.values():
            require_key_gone(error, ring=self.ring)

    def _take(self, records: Iterable[Record]) -> None:
        for record in records:
            if record.offset == 0 and record.flaw is Flaw.CREATE_TIME:
                # Passed over, nobody would be known whom identity registered before Kafka was lost.
                raise UnstatedRestorationError
            outcome = apply_identity_record(self.ring, record)
            self._outcomes[record.offset] = outcome
            if isinstance(outcome, Refused):
                self._refused.add(record.topic, record.partition, record.offset, outcome.reason)
                error = unread(record, outcome.reason, ring=self.ring, at=appended_at(record.timestamp_ms))
                if error is not None:
                    self._unread.setdefault(error.method, error)
            if len(self._outcomes) > OUTCOMES_MAX:
                self._outcomes.popitem(last=False)

    def outcome(self, offset: int) -> Effect | Refused:
        """Return what became of a record that was folded; of an old one only whether it had an effect.

        Raises:
            NotFoldedYetError: nobody knows yet. To call it refused would leave its effect out for ever.
        """
        if offset >= self.ring.position:
            raise NotFoldedYetError(offset, position=self.ring.position)
        if (outcome := self._outcomes.get(offset)) is not None:
            return outcome
        return Applied(0) if self.ring.took_effect(offset) else Refused("folded-long-ago")


@asynccontextmanager
async def open_identity_view(bootstrap: Bootstrap, network: Network) -> AsyncIterator[IdentityView]:
    """Open a view at the start of the topic; it knows nothing but the root until `catch_up`."""
    starts = dict.fromkeys(network.topic_partitions(IDENTITY_TOPIC), 0)
    async with Reader(bootstrap, starts=starts, restored=network.restored_ranges()) as reader:
        yield IdentityView(reader, network)
