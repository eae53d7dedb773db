"""Input records and identities from Kafka: both wait while the broker is away."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, Generic, TypeVar

from salus.events.keyring import KeyRing
from salus.ledger.records import Records
from salus.messaging import (
    NOTHING_RESTORED,
    Bootstrap,
    ColumnReader,
    MessagingError,
    MissingRecordsError,
    OutOfRangeError,
    PartitionReader,
    Reader,
    Record,
    RestoredRanges,
)
from salus.runtime.identity_view import IdentityView, open_identity_view
from salus.runtime.network import Network
from salus.sequencer.adapters.patience import Patience
from salus.sequencer.domain import Partition
from salus.sequencer.errors import LogRefusedError

PART = "kafka"
_T = TypeVar("_T")


async def _outlast(patience: Patience, attempt: Callable[[], Awaitable[_T]]) -> _T:
    """Wait out whatever may pass; a position that the broker does not have will not come back."""

    async def attempt_it() -> _T:
        try:
            return await attempt()
        except OutOfRangeError as error:
            raise LogRefusedError(str(error)) from error

    return await patience.outlast(PART, attempt_it, errors=(MessagingError,))


class KafkaReader(Generic[_T]):
    """A `LogReader` or `SingleLogReader` on Kafka."""

    def __init__(self, reader: PartitionReader[Any, _T], patience: Patience) -> None:
        self._reader = reader
        self._patience = patience

    @property
    def damaged(self) -> Mapping[Partition, int]:
        """Where a batch is damaged, by partition."""
        return self._reader.damaged

    @property
    def missing(self) -> Mapping[Partition, MissingRecordsError]:
        """Where records are gone, by partition."""
        return self._reader.missing

    async def poll(self, *, max_records: int, timeout_ms: int) -> list[_T]:
        """Return the next records, none if none came in time."""
        return await _outlast(
            self._patience, lambda: self._reader.poll(max_records=max_records, timeout_ms=timeout_ms)
        )

    async def positions(self) -> dict[Partition, int]:
        """Return the next offset to be read of each partition."""
        return {at: await self._reader.position(*at) for at in self._reader.partitions}

    @property
    def seen_ends(self) -> Mapping[Partition, int]:
        """Where each partition ended at least, as the broker said with its last answer."""
        return self._reader.seen_ends

    async def beginnings(self) -> dict[Partition, int]:
        """Return the first offset that the broker still has of each partition."""
        return await _outlast(self._patience, self._reader.beginning_offsets)

    async def ends(self) -> dict[Partition, int]:
        """Return the offset after the last record of each partition."""
        return await _outlast(self._patience, self._reader.end_offsets)


class KafkaLog:
    """The `Log` of a shard on Kafka."""

    def __init__(
        self, bootstrap: Bootstrap, patience: Patience, *, restored: RestoredRanges = NOTHING_RESTORED
    ) -> None:
        self._bootstrap = bootstrap
        self._patience = patience
        self.restored = restored

    def open(self, starts: Mapping[Partition, int]) -> AbstractAsyncContextManager[KafkaReader[Records]]:
        """Open the partitions at these offsets, to seal what comes or to judge what others sealed."""
        return self._opened(lambda: ColumnReader(self._bootstrap, starts=starts, restored=self.restored))

    def open_one_by_one(
        self, starts: Mapping[Partition, int]
    ) -> AbstractAsyncContextManager[KafkaReader[Record]]:
        """Open the partitions at these offsets, to look at a few records."""
        return self._opened(lambda: Reader(self._bootstrap, starts=starts, restored=self.restored))

    @asynccontextmanager
    async def _opened(self, reader: Callable[[], PartitionReader[Any, _T]]) -> AsyncIterator[KafkaReader[_T]]:
        async with AsyncExitStack() as resources:

            async def connect() -> PartitionReader[Any, _T]:
                return await resources.enter_async_context(reader())

            yield KafkaReader(await _outlast(self._patience, connect), self._patience)


OpenView = Callable[[], AbstractAsyncContextManager[IdentityView]]
Seen = Callable[[KeyRing], None]


class KafkaIdentities:
    """The `Identities` of the network, folded in memory from the beginning of the identity topic."""

    def __init__(self, view: IdentityView, open_view: OpenView, patience: Patience, seen: Seen) -> None:
        self._view = view
        self._open_view = open_view
        self._patience = patience
        self._seen = seen

    async def catch_up(self) -> KeyRing:
        """Return the ring as of everything that is in the topic now."""
        ring = await _outlast(self._patience, self._view.catch_up)
        self._seen(ring)
        return ring

    @asynccontextmanager
    async def past(self) -> AsyncIterator[KafkaPastIdentities]:
        """Look back; the topic is read anew for positions before its end."""
        async with AsyncExitStack() as resources:
            yield KafkaPastIdentities(self._view, self._open_view, resources, self._patience)


class KafkaPastIdentities:
    """The `PastIdentities` of the network: a second fold, which is begun when it is needed."""

    def __init__(
        self, now: IdentityView, open_view: OpenView, resources: AsyncExitStack, patience: Patience
    ) -> None:
        self._now = now
        self._open_view = open_view
        self._resources = resources
        self._patience = patience
        self._view: IdentityView | None = None

    async def at(self, position: int) -> KeyRing:
        """Return the ring as of every record before an offset."""
        if self._now.ring.position == position:
            return self._now.ring
        view = self._view
        if view is None or view.ring.position > position:
            await self._resources.aclose()
            view = self._view = await _outlast(self._patience, self._connect)
        await _outlast(self._patience, partial(view.read_to, position))
        return view.ring

    async def _connect(self) -> IdentityView:
        return await self._resources.enter_async_context(self._open_view())


@asynccontextmanager
async def open_identities(
    bootstrap: Bootstrap, network: Network, patience: Patience, *, seen: Seen
) -> AsyncIterator[KafkaIdentities]:
    """Open the identity topic at its beginning; `seen` has each ring that was folded up to the end."""
    async with AsyncExitStack() as resources:

        def open_view() -> AbstractAsyncContextManager[IdentityView]:
            return open_identity_view(bootstrap, network)

        async def connect() -> IdentityView:
            return await resources.enter_async_context(open_view())

        yield KafkaIdentities(await _outlast(patience, connect), open_view, patience, seen)
