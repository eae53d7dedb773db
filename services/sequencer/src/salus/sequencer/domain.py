"""The sequencer's law: what the next block is, given records, a position and the state before it.

Values in, values out: no clock, no store, no log. The same records and state give the same block.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import gt, lt

import pyarrow as pa

from salus.archive.assembling import Refused, assemble
from salus.archive.duplicates import FINGERPRINT_BYTES, DuplicateWindow, fingerprints
from salus.events.attribution import NOT_ATTRIBUTED, Attribution, attribution_of
from salus.events.canonical import Attribute
from salus.events.errors import Reason, RejectedError
from salus.events.judging import Judgement, judge_batch
from salus.events.keyring import KeyRing
from salus.events.signature import parse_signature
from salus.ledger.block import (
    NO_DIGEST,
    NO_PREVIOUS,
    REJECTED_PREFIX,
    Handover,
    Header,
    Range,
    whole_milliseconds,
)
from salus.ledger.merkle import leaf_hash, root_of_joined
from salus.ledger.records import Records, Row, cells_of, rows_at
from salus.sequencer.errors import (
    BeyondEndError,
    IdentityLostError,
    PackageMissingError,
    ReplayedOffsetError,
)

Partition = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Batch:
    """Records to seal, in the log's order within each partition.

    `reached` is the next offset to read of each partition: past the batch's last record, and past
    transaction markers that no record stands for.
    """

    records: Sequence[Records]
    reached: Mapping[Partition, int]

    @property
    def ends(self) -> dict[Partition, int]:
        """The offset after the last that it covers of each partition, a record or a marker."""
        ends = dict(self.reached)
        for part in self.records:
            at = part.topic, part.partition
            ends[at] = max(part.offsets[-1] + 1, ends.get(at, 0))
        return ends


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
    attribution: Attribution = NOT_ATTRIBUTED


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


def block_time(now: datetime, *, cursor: Cursor) -> datetime:
    """Return `now`, but never before the previous block's time."""
    time = whole_milliseconds(now)
    return time if cursor.time is None else max(time, cursor.time)


def identity_position(ring: KeyRing, cursor: Cursor) -> int:
    """Return the identity position that the next header names: how far the topic was read, and no further.

    Raises:
        IdentityLostError: an earlier block was judged by more.
    """
    if ring.position < cursor.identity:
        raise IdentityLostError(named=cursor.identity, end=ring.position)
    return ring.position


def draft_block(  # noqa: PLR0913  # all that a block follows from
    batch: Batch,
    *,
    ends: Mapping[Partition, int],
    cursor: Cursor,
    ring: KeyRing,
    window: DuplicateWindow,
    now: datetime,
) -> tuple[Draft, pa.Table]:
    """Judge every record and return the block and its body; the window then holds its accepted pairs too.

    The block's time is that of `block_time`; every record is judged by when the broker appended it, so `ring`
    must have all that was appended to the identity topic before. `ends` is where the log
    said that its partitions end, by itself and not by what the records say of themselves.

    Raises:
        ReplayedOffsetError: records are sealed already or out of order.
        BeyondEndError: the batch reaches beyond the end of the log.
        IdentityLostError: as `identity_position`.
        PackageMissingError: nobody can tell here which event types hold.
    """
    if ring.lacking:
        raise PackageMissingError(ring.lacking)
    time = block_time(now, cursor=cursor)
    parts = sorted(batch.records, key=_partition_of)
    ranges = _ranges(parts, cursor, batch.ends)
    _require_before_end(ranges, ends)
    judgement = judge_batch(parts, ring=ring)
    timestamps = array("q", b"".join(part.timestamps for part in parts))
    refused = _with_duplicates(judgement, window, timestamps)
    rejections = {row: _rejection(record, refused[row]) for row, record in rows_at(parts, refused)}
    table, leaf_hashes = assemble(
        parts, judgement, {row: _kept(judgement, row, rejection) for row, rejection in rejections.items()}
    )
    draft = Draft(
        height=cursor.height,
        time=time,
        root=root_of_joined(leaf_hashes),
        leaves=table.num_rows,
        accepted=table.num_rows - len(rejections),
        identity=identity_position(ring, cursor),
        ranges=ranges,
        rejections=tuple(rejections.values()),
    )
    return draft, table


def _partition_of(part: Records) -> Partition:
    return part.topic, part.partition


def _ranges(parts: Sequence[Records], cursor: Cursor, ends: Mapping[Partition, int]) -> tuple[Range, ...]:
    """Return one range for every partition of the shard, each beginning where the last block ended."""
    following = dict(cursor.next)
    for part in parts:
        at = part.topic, part.partition
        _require_new(part, following[at])
        following[at] = part.offsets[-1] + 1
    return tuple(Range(*at, first, max(first, ends.get(at, 0))) for at, first in sorted(cursor.next.items()))


def _require_before_end(ranges: Sequence[Range], ends: Mapping[Partition, int]) -> None:
    """Raise unless the log has all that the ranges cover: a header can never be taken back."""
    for covered in ranges:
        end = ends.get((covered.topic, covered.partition), 0)
        if covered.next > max(covered.first, end):
            raise BeyondEndError(
                topic=covered.topic, partition=covered.partition, reached=covered.next, end=end
            )


def _require_new(part: Records, expected: int) -> None:
    offsets = part.offsets
    if offsets[0] >= expected and all(map(lt, offsets, offsets[1:])):
        return
    for offset in offsets:
        if offset < expected:
            raise ReplayedOffsetError(
                topic=part.topic, partition=part.partition, expected=expected, got=offset
            )
        expected = offset + 1


def _with_duplicates(
    judgement: Judgement, window: DuplicateWindow, timestamps: array[int]
) -> dict[int, RejectedError]:
    """Return who is refused, by row, in the rows' order: also whose source and id were accepted before.

    Of two in the block the one that the broker appended first was before, whichever partition it stands in.
    """
    duplicate = RejectedError(Reason.DUPLICATE, "source and id were accepted before")
    refused, prints = judgement.refused, _prints(judgement)
    rows: Sequence[int] = range(len(judgement.values))
    is_mixed = any(map(gt, timestamps, timestamps[1:]))
    if refused or is_mixed:
        rows = [row for row in rows if row not in refused]
        if is_mixed:
            # Rows are in the order of their places, which decides between equal times.
            rows.sort(key=timestamps.__getitem__)
        size = FINGERPRINT_BYTES
        prints = b"".join([prints[size * row : size * (row + 1)] for row in rows])
    fresh = window.admit(prints)
    if 0 in fresh:
        refused |= {row: duplicate for row, is_fresh in zip(rows, fresh, strict=True) if not is_fresh}
    window.end_block()
    return dict(sorted(refused.items()))


def _prints(judgement: Judgement) -> bytes:
    """Return what stands for the source and id of each row that is not refused; of the others, anything."""
    columns = []
    for attribute in (Attribute.SOURCE, Attribute.ID):
        cells = judgement.attributes.texts(attribute)
        if judgement.accepted:
            texts = [*cells]
            for row, event in judgement.accepted.items():
                texts[row] = getattr(event.envelope, attribute.name.lower()).encode()
            cells = cells_of(texts)
        columns.append(cells)
    return fingerprints(*columns)


def _rejection(record: Row, error: RejectedError) -> Rejection:
    """Return what is said of a rejected record; of its value the digest is all that is kept."""
    if record.unkept is not None:
        digest = record.unkept.digest
    else:
        digest = NO_DIGEST if record.value is None else leaf_hash(record.value)
    attribution = attribution_of(value=record.value, signature=record.signature, reason=error.reason)
    place = record.topic, record.partition, record.offset
    return Rejection(*place, error.reason.value, error.detail, digest, attribution)


def _kept(judgement: Judgement, row: int, rejection: Rejection) -> Refused:
    signature = _well_formed(judgement.signatures[row])
    return Refused(REJECTED_PREFIX + rejection.reason, rejection.digest, signature)


def _well_formed(signature: bytes | None) -> bytes | None:
    """Return the header if it is a signature; anything else might hold what must not be archived."""
    if signature is None:
        return None
    try:
        parse_signature(signature)
    except RejectedError:
        return None
    return signature
