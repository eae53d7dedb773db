"""Reads partitions from explicit positions, in order; what was done with a record is the caller's to know."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Mapping
from itertools import chain
from time import monotonic
from types import TracebackType
from typing import ClassVar, Generic, Self, TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError

from salus.ledger.records import Records
from salus.messaging import receiving, tolerant, unpacking
from salus.messaging.backlog import Backlog, Partition, Run
from salus.messaging.brokers import Bootstrap, options, silence_of
from salus.messaging.connecting import start, to_the_end
from salus.messaging.errors import (
    BrokerAwayError,
    CorruptBatchError,
    MessagingError,
    MissingRecordsError,
    OutOfRangeError,
    PartitionMismatchError,
    RefusedByBrokerError,
)
from salus.messaging.record import NOTHING_RESTORED, Position, Record, RestoredRanges
from salus.messaging.unpacking import As, Corrupt, Mark, Missing, Rows, joined

tolerant.install()
unpacking.install()
receiving.install()

# How much one answer brings, shared out among the partitions that have something; a batch that is larger, of
# 32 MiB at most, comes whole and alone. The library reads one answer of each broker ahead, and as much waits
# here; in a flood others are asked for as well, up to WAITING_BYTES_MAX.
AHEAD_BYTES_MAX = 6 * 1024 * 1024
PARTITION_AHEAD_BYTES_MIN = 128 * 1024
# Records are handed out when they come; this is how long the broker holds a question that has no answer yet.
FETCH_WAIT_MS_MAX = 500
# While records wait to be handed out the library asks for no others. By itself it would after 0.1 s, for the
# other partitions alone, and for the first again only when that was answered: idle ones would hold them up.
FETCH_AROUND_S_MIN = 3600
# The client library itself would go on asking for 40 s, and whoever called us would wait as long.
ANSWER_S_MAX = 10
# Its own 100 ms fill the log with hundreds of lines a second while the broker is away.
RETRY_MS = 500

# So soon it is known that a topic has more partitions.
METADATA_AGE_MS_MAX = 5_000
# A damaged batch may be damage on its way, or be mended by another replica.
DAMAGED_RETRY_S = 5.0

_log = logging.getLogger(__name__)
_R = TypeVar("_R", bound=Run)
_T = TypeVar("_T")


class PartitionReader(ABC, Generic[_R, _T]):
    """A consumer without a group, assigned to the given partitions; use it as an async context manager.

    Callers may rely on: within a partition records come in offset order, each once, from the start that
    was given; offsets may skip (markers, batches that cannot be read, what is `missing`). Records of
    transactions come as soon as they are there, open, committed or aborted, with a flaw that says so: nothing
    in a topic hides what comes after it. So do records that their senders dated, without a time, but for what
    was `restored`. A partition with a damaged batch is not read on, the others are.
    """

    _form: ClassVar[As]

    def __init__(
        self,
        bootstrap: Bootstrap,
        *,
        starts: Mapping[Partition, int],
        restored: RestoredRanges = NOTHING_RESTORED,
    ) -> None:
        self._bootstrap = bootstrap
        self._restored = restored
        self._starts = {TopicPartition(*at): offset for at, offset in starts.items()}
        self._consumer: AIOKafkaConsumer | None = None
        self._asking: AIOKafkaConsumer | None = None
        # What the library handed out, and which partitions it is not asked for until some of that is taken.
        self._waiting: Backlog[_R] = Backlog()
        self._held: set[TopicPartition] = set()
        # Where a damaged batch is, and when it is looked at again.
        self._damaged: dict[Partition, int] = {}
        self._paused: dict[Partition, float] = {}
        self._seen_ends: dict[Partition, int] = {}
        self._missing: dict[Partition, MissingRecordsError] = {}
        # Where records came from lately, to share out what is read ahead; at first anything may come.
        self._lately = deque(self._starts, maxlen=2 * max(1, len(self._starts)))

    async def __aenter__(self) -> Self:
        """Connect and seek; raises BrokerAwayError."""
        try:
            self._consumer = await self._connect()
            # A broker answers one request of a connection after the other, so a question about offsets would
            # wait for the fetch that waits for records: questions have a connection of their own.
            self._asking = await self._connect()
        except BaseException:
            # Also when cancelled between the two: a consumer that nobody closes goes on asking for ever.
            await self._disconnect()
            raise
        self._consumer._fetcher._prefetch_backoff = FETCH_AROUND_S_MIN  # noqa: SLF001  # it has no setting for it
        self._consumer.assign(list(self._starts))
        for at, offset in self._starts.items():
            self._consumer.seek(at, offset)
        # Of topics that it was not told of, the library learns one after the other, half a second each. What
        # is assigned it is told of; but nothing is to be fetched over the connection that asks.
        self._asking._client.set_topics({at.topic for at in self._starts})  # noqa: SLF001  # it has no other way
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnect."""
        await self._disconnect()

    async def poll(self, *, max_records: int, timeout_ms: int) -> list[_T]:
        """Return up to `max_records` records, waiting up to `timeout_ms` for the first.

        Raises:
            BrokerAwayError: the broker does not answer.
            OutOfRangeError: a position is outside what the broker has.
            RefusedByBrokerError: the broker refuses.
        """
        if not self._waiting or (self._waiting.is_flood and self._waiting.has_room):
            self._resume_paused()
            try:
                # In a flood the others are asked for while it waits: nobody stands behind all of it.
                partitions = await self._open.getmany(timeout_ms=0 if self._waiting else timeout_ms)
            except KafkaError as error:
                raise _translated(error) from error
            self._see_ends()
            for at, found in partitions.items():
                self._waiting.add(self._joined(self._undamaged(at, found)))
            self._share_out(partitions)
        taken = self._waiting.take(max_records)
        self._hold()
        return self._handed_out(taken)

    async def end_offsets(self) -> dict[Partition, int]:
        """Return, for each partition, the offset that the next record would get: the high watermark.

        Raises:
            BrokerAwayError: the broker does not answer.
            PartitionMismatchError: the topics do not have all these partitions.
        """
        return await self._offsets("end_offsets")

    async def beginning_offsets(self) -> dict[Partition, int]:
        """Return, for each partition, the first offset that the broker still has."""
        return await self._offsets("beginning_offsets")

    async def position(self, topic: str, partition: int) -> int:
        """Return the next offset to be read; it is past markers that no record stands for."""
        waiting = self._waiting.first((topic, partition))
        if waiting is not None:
            return waiting
        return int(await self._open.position(TopicPartition(topic, partition)))

    @property
    def damaged(self) -> Mapping[Partition, int]:
        """Where reading stopped at a batch that is not what its checksum says; it goes on trying."""
        return self._damaged

    @property
    def missing(self) -> Mapping[Partition, MissingRecordsError]:
        """Where records are gone, the first of each partition: nothing explains that nothing came of them."""
        return self._missing

    @property
    def seen_ends(self) -> Mapping[Partition, int]:
        """Where each partition ended at least, as the broker said by itself with what `poll` got from it."""
        return self._seen_ends

    def require_whole_topics(self) -> None:
        """Raise unless what is read is all partitions of their topics, and all of them can be read.

        A partition that was added is known METADATA_AGE_MS_MAX later at most.

        Raises:
            PartitionMismatchError: a topic has others.
            CorruptBatchError: one is not read on.
            MissingRecordsError: records of one are gone.
        """
        unread = sorted(
            (topic, number)
            for topic in {at.topic for at in self._starts}
            for number in self._known(topic)
            if TopicPartition(topic, number) not in self._starts
        )
        if unread:
            raise PartitionMismatchError(unread=unread)
        for at, offset in self._damaged.items():
            raise CorruptBatchError(*at, offset)
        for error in self._missing.values():
            raise error

    def require_whole(self, ends: Mapping[Partition, int]) -> None:
        """Raise MissingRecordsError if of what was handed out, up to these positions, records are gone."""
        for at, error in self._missing.items():
            if ends.get(at, 0) > error.first:
                raise error

    @property
    def partitions(self) -> list[Partition]:
        """The partitions that this reader was given."""
        return [(at.topic, at.partition) for at in self._starts]

    def seek(self, at: Position) -> None:
        """Read on from `at`; what was missing after it may be there again."""
        place = at.topic, at.partition
        self._open.seek(TopicPartition(*place), at.offset)
        self._waiting.drop(place)
        if place in self._missing and at.offset <= self._missing[place].first:
            del self._missing[place]

    def _undamaged(self, at: TopicPartition, found: list[_R | Missing | Corrupt]) -> list[_R]:
        """Return what can be read; after damage its partition pauses, so that the others go on."""
        place = at.topic, at.partition
        for run in found:
            if isinstance(run, Corrupt):
                if place not in self._damaged:
                    _log.error("%s", CorruptBatchError(*place, run.offset))
                self._damaged[place] = run.offset
                self._paused[place] = monotonic() + DAMAGED_RETRY_S
                self._open.pause(at)
            elif isinstance(run, Missing):
                error = MissingRecordsError(*place, run.first, run.end)
                _log.error("%s", error)
                self._missing.setdefault(place, error)
            else:
                self._damaged.pop(place, None)
        return [run for run in found if not isinstance(run, Corrupt | Missing)]

    def _see_ends(self) -> None:
        """Keep the highest: a new leader may know of less for a moment, and has it all the same."""
        for at in self._starts:
            end = self._open.highwater(at)
            if end is not None:
                place = at.topic, at.partition
                self._seen_ends[place] = max(end, self._seen_ends.get(place, 0))

    def _resume_paused(self) -> None:
        for place in [place for place, until_s in self._paused.items() if until_s <= monotonic()]:
            del self._paused[place]
            self._open.resume(TopicPartition(*place))

    def _hold(self) -> None:
        """In a flood, let the library ask for those alone of which nothing waits."""
        waiting = self._waiting.places if self._waiting.is_flood else ()
        held = {TopicPartition(*place) for place in waiting if place not in self._paused}
        for at in held - self._held:
            self._open.pause(at)
        for at in self._held - held:
            if (at.topic, at.partition) not in self._paused:
                self._open.resume(at)
        self._held = held

    def _lacks(self, at: TopicPartition) -> bool:
        known = self._known(at.topic)
        return bool(known) and at.partition not in known

    def _known(self, topic: str) -> set[int]:
        """Return the partitions that a topic had when the broker was last asked."""
        return self._opened(self._asking)._client.cluster.partitions_for_topic(topic) or set()  # noqa: SLF001  # no other way

    def _share_out(self, came: Iterable[TopicPartition]) -> None:
        """Let few busy partitions bring much at once: each answer costs as much as hundreds of records."""
        self._lately.extend(came)
        # The library asks for the same of all partitions, always.
        self._open._fetcher._max_partition_fetch_bytes = _share(len(set(self._lately)))  # noqa: SLF001

    @staticmethod
    @abstractmethod
    def _joined(runs: list[_R]) -> list[_R]:
        """Return the records of one answer in fewer runs, if that helps."""

    @staticmethod
    @abstractmethod
    def _handed_out(runs: list[_R]) -> list[_T]:
        """Return what `poll` does."""

    async def _offsets(self, method: str) -> dict[Partition, int]:
        try:
            async with asyncio.timeout(ANSWER_S_MAX):
                offsets = await getattr(self._opened(self._asking), method)(list(self._starts))
        except KafkaError as error:
            raise _translated(error) from error
        except TimeoutError:
            # The library waits for partitions to come that the topic does not have.
            missing = [(at.topic, at.partition) for at in self._starts if self._lacks(at)]
            if missing:
                raise PartitionMismatchError(unread=(), missing=sorted(missing)) from None
            raise BrokerAwayError(f"no broker answered within {ANSWER_S_MAX} s") from None
        return {(at.topic, at.partition): offset for at, offset in offsets.items()}

    async def _connect(self) -> AIOKafkaConsumer:
        consumer = AIOKafkaConsumer(
            **options(self._bootstrap),
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="none",
            # Up to the high watermark: an open transaction must not hide what others wrote after it.
            isolation_level="read_uncommitted",
            fetch_max_bytes=AHEAD_BYTES_MAX,
            max_partition_fetch_bytes=_share(len(self._starts)),
            fetch_max_wait_ms=FETCH_WAIT_MS_MAX,
            retry_backoff_ms=RETRY_MS,
            metadata_max_age_ms=METADATA_AGE_MS_MAX,
            check_crcs=True,
            value_deserializer=Mark(self._form, self._restored),
        )
        try:
            await start(consumer.start, consumer.stop)
        except KafkaError as error:
            raise BrokerAwayError(silence_of(self._bootstrap)) from error
        return consumer

    async def _disconnect(self) -> None:
        consumers = [consumer for consumer in (self._consumer, self._asking) if consumer is not None]
        self._consumer = self._asking = None
        await to_the_end(_stopped(consumers))

    @property
    def _open(self) -> AIOKafkaConsumer:
        return self._opened(self._consumer)

    @staticmethod
    def _opened(consumer: AIOKafkaConsumer | None) -> AIOKafkaConsumer:
        if consumer is None:
            raise MessagingError("the reader is not open")
        return consumer


class Reader(PartitionReader[Rows, Record]):
    """Reads records one by one, with all their headers."""

    _form = As.ROWS

    @staticmethod
    def _joined(runs: list[Rows]) -> list[Rows]:
        return runs

    @staticmethod
    def _handed_out(runs: list[Rows]) -> list[Record]:
        return [*chain.from_iterable(run.records for run in runs)]


class ColumnReader(PartitionReader[Records, Records]):
    """Reads records as columns: for those who read many, and of the headers only what `Records` have.

    What it returns shares the bytes of the broker's answers, which stay as long as any of it is kept.
    """

    _form = As.COLUMNS

    @staticmethod
    def _joined(runs: list[Records]) -> list[Records]:
        return joined(runs)

    @staticmethod
    def _handed_out(runs: list[Records]) -> list[Records]:
        return runs


def _share(partitions: int) -> int:
    return max(AHEAD_BYTES_MAX // max(1, partitions), PARTITION_AHEAD_BYTES_MIN)


async def _stopped(consumers: list[AIOKafkaConsumer]) -> None:
    """Stop all of them; raises what one of them raised, unless it was cancelled by the library itself."""
    ended = await asyncio.gather(*(consumer.stop() for consumer in consumers), return_exceptions=True)
    # Whose stop did not come to its end has its connections left.
    left = [consumer for consumer, end in zip(consumers, ended, strict=True) if end is not None]
    for consumer in left:
        await consumer._client.close()  # noqa: SLF001  # it has no public way
    for end in ended:
        if isinstance(end, Exception):
            raise end


def _translated(error: KafkaError) -> MessagingError:
    if isinstance(error, OffsetOutOfRangeError | NoOffsetForPartitionError):
        return OutOfRangeError(type(error).__name__)
    kind = BrokerAwayError if getattr(error, "retriable", False) else RefusedByBrokerError
    return kind(type(error).__name__)
