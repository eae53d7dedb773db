"""Fills topics with what the ledger has of them, so that every record stands at its old offset again."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Mapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from salus.archive.replay import RESTORED_HEADER, ReplayError, SealedBlock, SealedRecord, is_filler
from salus.ledger.block import NO_DIGEST
from salus.ledger.merkle import leaf_hash
from salus.ledger.records import SIGNATURE_HEADER, timestamp_of
from salus.messaging import Bootstrap, Position, Producer, Reader, Record, RestoredRanges

# The client library refuses a record that has neither key nor value.
FILLER_KEY = b"salus-restored"
UNACKNOWLEDGED_MAX = 1000
# The time of a leaf whose record no broker dated.
UNDATED_MS = 0
POLL_RECORDS_MAX = 500
POLL_MS = 1000

Partition = tuple[str, int]


class OtherRecordError(Exception):
    """A topic holds something else than the ledger, so it is not a topic that was lost."""

    def __init__(self, at: Position) -> None:
        super().__init__(
            f"{at.topic} {at.partition} has another record at offset {at.offset} than the ledger"
        )
        self.at = at


class Comparison:
    """Compares what topics have with the records of sealed blocks; nothing is appended.

    Use it as an async context manager and give it the blocks in the order of `salus.archive.replay`.
    """

    def __init__(
        self, bootstrap: Bootstrap, *, begins: Mapping[Partition, int], ends: Mapping[Partition, int]
    ) -> None:
        self._bootstrap = bootstrap
        self._begins = begins
        self._ends = ends
        self._resources = AsyncExitStack()
        self._readers: dict[Partition, _Existing] = {}
        self._dated: dict[Partition, list[tuple[int, int]]] = {}
        self.is_short = False

    @property
    def dated(self) -> RestoredRanges:
        """Where the records of a topic have the ledger's time, whoever dated them."""
        return self._dated

    async def __aenter__(self) -> Self:
        """Connect; raises BrokerAwayError."""
        try:
            for at, end in self._ends.items():
                if end > self._begins[at]:
                    # Each time is compared with the ledger's, so whoever dated the record may have.
                    whole = {at: [(0, end)]}
                    reader = Reader(self._bootstrap, starts={at: self._begins[at]}, restored=whole)
                    await self._resources.enter_async_context(reader)
                    self._readers[at] = _Existing(reader, at)
        except BaseException:
            await self._resources.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnect."""
        await self._resources.aclose()

    async def take(self, block: SealedBlock) -> None:
        """Compare what the block has; `is_short` tells whether a topic ended before any block so far.

        Raises:
            OtherRecordError: a topic holds something else.
            ReplayError: the block is of a partition that this was not given.
            MessagingError: the broker does not give a record.
        """
        for record in block.records():
            at = _place(record, self._ends)
            if record.offset >= self._ends[at]:
                self.is_short = True
            elif record.offset >= self._begins[at]:
                found = await self._readers[at].record(record.offset)
                if not is_same(found, record):
                    raise OtherRecordError(Position(*at, record.offset))
                if found is None or record.timestamp_ms != UNDATED_MS or is_filler(found):
                    self._see_dated(at, record.offset)

    def _see_dated(self, at: Partition, offset: int) -> None:
        ranges = self._dated.setdefault(at, [])
        if ranges and ranges[-1][1] == offset:
            ranges[-1] = ranges[-1][0], offset + 1
        else:
            ranges.append((offset, offset + 1))


class Refill:
    """Appends the records of sealed blocks that their topics do not have yet.

    Use it as an async context manager and give it the blocks in the order of `salus.archive.replay`. Callers
    may rely on: nothing is appended at another offset than the ledger says without OtherRecordError.
    A crash leaves a part of it, on which the next call goes on.
    """

    def __init__(self, bootstrap: Bootstrap, *, ends: Mapping[Partition, int]) -> None:
        self._ends = ends
        # A record that is there twice would move all that follow; each position is compared.
        self._producer = Producer(bootstrap, client_id="salus-restore", idempotent=True)
        self._unacknowledged: deque[tuple[Position, Awaitable[Position]]] = deque()

    async def __aenter__(self) -> Self:
        """Connect; raises BrokerAwayError."""
        await self._producer.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnect."""
        await self._producer.__aexit__(kind, error, trace)
        # After an error nobody else asks what became of these.
        await asyncio.gather(*(answer for _, answer in self._unacknowledged), return_exceptions=True)

    async def take(self, block: SealedBlock) -> None:
        """Append what the block has beyond the ends.

        Raises:
            OtherRecordError: somebody else appends to a topic now.
            ReplayError: the block is of a partition that this was not given.
            MessagingError: the broker does not take a record.
        """
        for record in block.records():
            if record.offset >= self._ends[_place(record, self._ends)]:
                await self._append(record)

    async def finish(self) -> None:
        """Return when everything is acknowledged; raises as `take`."""
        await self._settle(0)

    async def _append(self, record: SealedRecord) -> None:
        at = record.topic, record.partition
        headers = (
            (SIGNATURE_HEADER, record.signature)
            if record.value is not None and record.signature is not None
            else (RESTORED_HEADER, (record.status or "no-record").encode())
        )
        acknowledged = await self._producer.enqueue(
            record.topic,
            key=FILLER_KEY if record.subject is None else record.subject.encode(),
            value=record.value,
            headers=[headers],
            partition=record.partition,
            timestamp_ms=record.timestamp_ms,
        )
        self._unacknowledged.append((Position(*at, record.offset), acknowledged))
        await self._settle(UNACKNOWLEDGED_MAX)

    async def _settle(self, left_max: int) -> None:
        while len(self._unacknowledged) > left_max:
            wanted, acknowledged = self._unacknowledged.popleft()
            if await acknowledged != wanted:
                raise OtherRecordError(wanted)


def _place(record: SealedRecord, known: Mapping[Partition, int]) -> Partition:
    at = record.topic, record.partition
    if at not in known:
        raise ReplayError(f"network.json has no shard for {record.topic} {record.partition}")
    return at


def is_same(found: Record | None, sealed: SealedRecord) -> bool:
    """Tell whether what a topic has at an offset is what the ledger says, or stands for it.

    With the same timestamp, too, if the leaf has one: folds judge by the topic's, and the ledger by its own.
    """
    filler = found is not None and is_filler(found)
    if sealed.digest is None:
        return found is None or filler
    if found is None:
        return False
    is_undated = sealed.value is None and sealed.timestamp_ms == UNDATED_MS
    if not is_undated and timestamp_of(found.timestamp_ms) != sealed.timestamp_ms:
        return False
    if sealed.value is None:
        digest = NO_DIGEST if found.value is None else leaf_hash(found.value)
        return filler or digest == sealed.digest
    return found.value == sealed.value and found.header(SIGNATURE_HEADER) == sealed.signature


class _Existing:
    """The records that a partition has already, asked for by ascending offset."""

    def __init__(self, reader: Reader, at: Partition) -> None:
        self._reader = reader
        self._at = at
        self._read: deque[Record] = deque()

    async def record(self, offset: int) -> Record | None:
        """Return the record at an offset below the end; None if there is none (a marker)."""
        while True:
            while self._read and self._read[0].offset < offset:
                self._read.popleft()
            if self._read:
                return self._read.popleft() if self._read[0].offset == offset else None
            if await self._reader.position(*self._at) > offset:
                return None
            self._read.extend(await self._reader.poll(max_records=POLL_RECORDS_MAX, timeout_ms=POLL_MS))
