"""The sequencer's law: what the next block is, given records, a position and the state before it.

Values in, values out: no clock, no store, no log. The same records and state give the same block.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Protocol

from salus.archive.body import BodyColumns, Joined
from salus.archive.leaves import leaf_hashes_of
from salus.events.errors import Reason, RejectedError
from salus.events.judging import Judgement, judge_batch
from salus.events.keyring import KeyRing
from salus.events.signature import parse_signature
from salus.ledger.block import (
    ACCEPTED,
    NO_DIGEST,
    NO_PREVIOUS,
    REJECTED_PREFIX,
    Handover,
    Header,
    Range,
    whole_milliseconds,
)
from salus.ledger.merkle import leaf_hash, root_of
from salus.sequencer.duplicates import DuplicateWindow, fingerprints
from salus.sequencer.errors import ReplayedOffsetError

MILLISECOND = timedelta(milliseconds=1)

Partition = tuple[str, int]


class SourceRecord(Protocol):
    """A record of an input topic, as the log gave it."""

    @property
    def topic(self) -> str: ...  # noqa: D102  # plain data
    @property
    def partition(self) -> int: ...  # noqa: D102
    @property
    def offset(self) -> int: ...  # noqa: D102
    @property
    def key(self) -> bytes | None: ...  # noqa: D102
    @property
    def value(self) -> bytes | None: ...  # noqa: D102
    def header(self, name: str) -> bytes | None:
        """Return the last header of that name."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Records to seal, in the log's order within each partition.

    `reached` is the next offset to read of each partition: past the batch's last record, and past
    transaction markers that no record stands for.
    """

    records: Sequence[SourceRecord]
    reached: Mapping[Partition, int]


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where the next block begins: its height, each partition's next offset, and the times before it."""

    height: int
    next: Mapping[Partition, int]
    time: datetime | None
    identity: int

    @classmethod
    def after(cls, header: Header | None) -> Cursor:
        """Return the cursor after a header: what its shard goes on covering."""
        if header is None:
            return cls(height=0, next={}, time=None, identity=0)
        return cls(
            height=header.height + 1,
            next=header.next_offsets,
            time=header.time,
            identity=header.identity[2],
        )


@dataclass(frozen=True, slots=True)
class Tip:
    """The last committed block of the chain: its header and the exact bytes of its note."""

    header: Header
    note: bytes


@dataclass(frozen=True, slots=True)
class Rejection:
    """One record that became a rejected leaf; `detail` quotes nothing of its value."""

    topic: str
    partition: int
    offset: int
    reason: str
    detail: str
    digest: bytes


@dataclass(frozen=True, slots=True)
class Draft:
    """A block that is decided but not written: all of its header but the body's hash and the predecessor."""

    height: int
    time: datetime
    root: bytes
    leaves: int
    accepted: int
    identity: int
    ranges: tuple[Range, ...]
    rejections: tuple[Rejection, ...]
    handovers: tuple[Handover, ...] = ()

    def cursor(self) -> Cursor:
        """Return where the block after this one begins."""
        given = {(h.topic, h.partition) for h in self.handovers if h.way == "gave"}
        following = {at: r.next for r in self.ranges if (at := (r.topic, r.partition)) not in given}
        return Cursor(height=self.height + 1, next=following, time=self.time, identity=self.identity)

    def header(  # the facts that only the writer knows
        self,
        *,
        origin: str,
        identity_partition: Partition,
        previous: bytes | None,
        body_bytes: int,
        body_sha256: bytes,
    ) -> Header:
        """Return the block's header; `previous` is the note before it, None at height 0."""
        return Header(
            origin=origin,
            height=self.height,
            leaves=self.leaves,
            root=self.root,
            previous=NO_PREVIOUS if previous is None else leaf_hash(previous),
            time=self.time,
            accepted=self.accepted,
            body_bytes=body_bytes,
            body_sha256=body_sha256,
            identity=(*identity_partition, self.identity),
            ranges=self.ranges,
            handovers=self.handovers,
        )


def block_time(now: datetime, *, ring: KeyRing, cursor: Cursor) -> datetime:
    """Return `now`, but never before the previous block's time nor before what the ring knows."""
    # Rounding must not put the block before a revocation that the ring knows.
    time = max(whole_milliseconds(now), whole_milliseconds(ring.time) + MILLISECOND)
    return time if cursor.time is None else max(time, cursor.time)


def draft_block(
    batch: Batch, *, cursor: Cursor, ring: KeyRing, window: DuplicateWindow, now: datetime
) -> tuple[Draft, BodyColumns]:
    """Judge every record and return the block and its body; the window then holds its accepted pairs too.

    The block's time is that of `block_time`; every signature is judged at that time.

    Raises:
        ReplayedOffsetError: records are sealed already or out of order.
    """
    time = block_time(now, ring=ring, cursor=cursor)
    records = sorted(batch.records, key=_partition_of)
    ranges = _ranges(records, cursor, batch.reached)
    columns, rejections = _columns(records, judge_batch(records, ring=ring, at=time), window)
    draft = Draft(
        height=cursor.height,
        time=time,
        root=root_of(columns.leaf_hash),
        leaves=len(records),
        accepted=len(records) - len(rejections),
        identity=max(ring.position, cursor.identity),
        ranges=ranges,
        rejections=tuple(rejections),
    )
    return draft, columns


def _partition_of(record: SourceRecord) -> Partition:
    return record.topic, record.partition


def _ranges(
    records: Sequence[SourceRecord], cursor: Cursor, reached: Mapping[Partition, int]
) -> tuple[Range, ...]:
    """Return one range for every partition of the shard, each beginning where the last block ended."""
    following = {at: max(first, reached.get(at, 0)) for at, first in cursor.next.items()}
    for at, group in groupby(records, key=_partition_of):
        expected = cursor.next[at]
        for record in group:
            if record.offset < expected:
                topic, partition = at
                raise ReplayedOffsetError(
                    topic=topic, partition=partition, expected=expected, got=record.offset
                )
            expected = record.offset + 1
        following[at] = max(following[at], expected)
    return tuple(Range(*at, first, following[at]) for at, first in sorted(cursor.next.items()))


def _columns(
    records: Sequence[SourceRecord], judgement: Judgement, window: DuplicateWindow
) -> tuple[BodyColumns, list[Rejection]]:
    """Return the body's columns and the rejections among them, in leaf order.

    Column by column, for a comprehension costs a third of a call for every row.
    """
    refused = _with_duplicates(judgement, window)
    found = judgement.attributes
    columns = BodyColumns(
        topic=[r.topic for r in records],
        partition=[r.partition for r in records],
        offset=[r.offset for r in records],
        status=[ACCEPTED] * len(records),
        id=[*found.id],
        source=[*found.source],
        type=[None if entry is None else entry.name for entry in found.type],
        subject=[*found.subject],
        time=[*found.time],
        digest=[None] * len(records),
        signature=judgement.signatures,
    )
    if refused:
        columns.value = [None if row in refused else r.value for row, r in enumerate(records)]
    else:
        columns.joined_values = Joined(judgement.values, judgement.places)
    rejections = []
    digests = judgement.digests
    for row, error in refused.items():
        rejection = _rejection(records[row], error)
        rejections.append(rejection)
        columns.status[row] = REJECTED_PREFIX + rejection.reason
        for column in (columns.id, columns.source, columns.type, columns.subject, columns.time):
            column[row] = None
        columns.digest[row] = digests[row] = rejection.digest
        columns.signature[row] = _well_formed(columns.signature[row])
    columns.leaf_hash = leaf_hashes_of(columns, digests)
    return columns, rejections


def _with_duplicates(judgement: Judgement, window: DuplicateWindow) -> dict[int, RejectedError]:
    """Return who is refused, by row, in the rows' order: also whose source and id were accepted before."""
    duplicate = RejectedError(Reason.DUPLICATE, "source and id were accepted before")
    refused, found = judgement.refused, judgement.attributes
    pairs = fingerprints(zip(found.source, found.id, strict=True))
    accepted = [row for row in range(len(pairs)) if row not in refused]
    admitted = window.admit([pairs[row] for row in accepted])
    refused |= {row: duplicate for row, fresh in zip(accepted, admitted, strict=True) if not fresh}
    window.end_block()
    return dict(sorted(refused.items()))


def _rejection(record: SourceRecord, error: RejectedError) -> Rejection:
    """Return what is said of a rejected record; of its value the digest is all that is kept."""
    digest = NO_DIGEST if record.value is None else leaf_hash(record.value)
    return Rejection(record.topic, record.partition, record.offset, error.reason.value, error.detail, digest)


def _well_formed(signature: bytes | None) -> bytes | None:
    """Return the header if it is a signature; anything else might hold what must not be archived."""
    if signature is None:
        return None
    try:
        parse_signature(signature)
    except RejectedError:
        return None
    return signature
