"""From a verified block to entries: every leaf, accepted or rejected, becomes exactly one, in order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from salus.audit.domain.describe import (
    Named,
    describe,
    describe_damaged,
    describe_rejected,
    describe_unknown,
)
from salus.audit.domain.directory import Directory, Needs
from salus.audit.domain.effects import needs_of
from salus.audit.domain.entry import ROW_COLUMNS, VERDICT_WRONG, Place, TrailEntry
from salus.audit.domain.identity_history import IDENTITY_TOPIC
from salus.events.catalogue import Catalogue
from salus.events.contexts.consent import ConsentRevoked
from salus.events.effect import depends_on_history
from salus.events.envelope import Event, decode_event
from salus.events.errors import Reason, RejectedError
from salus.events.identity_position import PositionFault
from salus.events.keyring import KeyRing
from salus.events.sealed_rows import SealedRow, judged_again, refuted
from salus.ledger.block import (
    ACCEPTED,
    REJECTED_PREFIX,
    Header,
    check_succession,
    open_header,
    parse_block_origin,
)
from salus.ledger.check_blocks import Row, block_place, check_block, check_body
from salus.ledger.errors import BlockError
from salus.ledger.key_periods import Keys
from salus.ledger.merkle import leaf_hash
from salus.ledger.records import timestamp_at

_NEWER = frozenset({Reason.UNKNOWN_TYPE, Reason.SCHEMA_VIOLATION})


class BlockRefusedError(Exception):
    """A block does not verify, so it is not indexed; `code` is stable, `detail` names the place."""

    def __init__(self, *, shard: int, height: int, code: str, detail: str) -> None:
        super().__init__(f"shard {shard} block {height}: {code}: {detail}")
        self.shard = shard
        self.height = height
        self.code = code
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Block:
    """A block whose header's signature and succession hold; `note` are the header's bytes."""

    shard: int
    header: Header
    note: bytes


@dataclass(frozen=True, slots=True)
class JudgedRows:
    """The rows of a block, all of which are leaves of its header.

    `wrong` has, by index, the verdict on each that is not what it is sealed as, and `fault` is why the block
    cannot have been judged by the identity position that it names.
    """

    rows: Sequence[Row]
    wrong: Mapping[int, str] = field(default_factory=dict)
    fault: PositionFault | None = None


def verify_header(note: bytes, *, shard: int, height: int, verifier: Keys, previous: bytes | None) -> Block:
    """Return the block of a header note that may stand after `previous`, the note before it.

    Raises:
        BlockRefusedError: the signature, the form or the succession is wrong.
    """
    try:
        header = open_header(note, verifier)
        before = None if previous is None else (open_header(previous, verifier), previous)
        check_succession(before, header)
    except BlockError as error:
        raise BlockRefusedError(shard=shard, height=height, code=error.code, detail=str(error)) from None
    if header.height != height:
        raise BlockRefusedError(shard=shard, height=height, code="height", detail=f"it is {header.height}")
    return Block(shard, header, note)


def verify_body(block: Block, body: bytes) -> None:
    """Raise BlockRefusedError unless the body's bytes are those that the header commits to."""
    header = block.header
    for finding in check_body(header, body, place=block_place(block.shard, header.height)):
        raise _refused(block, finding.code, finding.detail)


def entries_of(block: Block, judged: JudgedRows, directory: Directory) -> list[TrailEntry]:
    """Return one entry a leaf of verified rows, folding who is who into `directory` on the way.

    What is not what it is sealed as states nothing, and nothing follows from it.

    Raises:
        BlockRefusedError: another event stands in the place of an identity event.
    """
    fault = judged.fault
    is_ahead = fault is not None and fault.code == "identity-ahead"
    # Of a position that the topic did not have, nobody can say who belonged to whom.
    directory.judged_at = 0 if is_ahead else block.header.identity[2]
    header_hash = leaf_hash(block.note).hex()
    entries = [
        _entry(row, _place(block, index, row, header_hash), judged.wrong.get(index), directory)
        for index, row in enumerate(judged.rows)
    ]
    directory.runs = directory.served.runs(block.shard, block.header)
    return entries if fault is None else [entry.in_damaged_block(fault.code) for entry in entries]


def judge_rows(rows: Sequence[Row], ring: KeyRing, unread_ms: int | None) -> dict[int, str]:
    """Return the verdict on each row that is not what it is sealed as, by its place among the rows.

    The header's signature is the shard's alone: who has its key could let anybody say anything. Rows of a
    type or schema that this service does not know are told as unknown, if their signature is good.
    `unread_ms` is when the first identity event was appended that the sequencer had not read: brokers' clocks
    differ, so of rows after it, what is right by what was known until then is right.
    """
    sealed = [_sealed_row(row) for row in rows]
    found = refuted(sealed, judged_again(sealed, ring=ring))
    wrong = {at: verdict for at, verdict in found.items() if not _may_be_newer(rows[at], verdict, ring)}
    if unread_ms is None:
        return wrong
    places = [place for place in wrong if sealed[place].timestamp_ms > unread_ms]
    past = [sealed[place]._replace(timestamp_ms=unread_ms) for place in places]
    still = refuted(past, judged_again(past, ring=ring))
    right = {place for number, place in enumerate(places) if number not in still}
    return {place: verdict for place, verdict in wrong.items() if place not in right}


def _sealed_row(row: Row) -> SealedRow:
    return SealedRow(
        row.topic,
        row.partition,
        row.offset,
        timestamp_at(row.timestamp),
        row.status,
        row.subject,
        row.value,
        row.digest,
        row.signature,
    )


def _may_be_newer(row: Row, verdict: str, ring: KeyRing) -> bool:
    """Tell whether the sequencer may know a type or a schema that this service does not."""
    if row.status != ACCEPTED or verdict.removeprefix(REJECTED_PREFIX) not in _NEWER:
        return False
    try:
        decode_event(row.value or b"", ring.types.known)
    except RejectedError:
        return True
    return False


def givers_of(header: Header, shards: Mapping[int, Keys]) -> Iterator[tuple[int | None, int, str]]:
    """Yield each block that a block took partitions from: shard (None if unknown), height and origin."""
    places = {keys.name: shard for shard, keys in shards.items()}
    for other in dict.fromkeys(each.other for each in header.handovers if each.way == "took"):
        origin, height = parse_block_origin(other)
        yield places.get(origin), height, other


def verified_rows(block: Block, rows: Iterable[Sequence[Any]]) -> list[Row]:
    """Return the rows of a body, all of which are leaves of the header.

    Raises:
        BlockRefusedError: a row does not hash to its leaf, or the leaves do not give the header's root.
    """
    kept = [Row(*row) for row in rows]
    for finding in check_block(block.header, kept, place=block_place(block.shard, block.header.height)):
        raise _refused(block, finding.code, finding.detail)
    return kept


def needs_in(rows: Iterable[Row], catalogue: Catalogue) -> Needs:
    """Return what of the directory the entries of these rows depend on."""
    deciding = list(_deciding(rows, catalogue))
    subjects, names = needs_of(deciding)
    # A patient may have had any number of consents: what a grant says is all in it.
    ends = (event.data for _, event in deciding if isinstance(event.data, ConsentRevoked))
    consents = frozenset((data.patient, data.consent) for data in ends)
    return Needs(consents, frozenset(subjects), frozenset(names))


def _deciding(rows: Iterable[Row], catalogue: Catalogue) -> Iterator[tuple[str, Event]]:
    """Yield the events whose effect depends on what was before, each with its topic."""
    for row in rows:
        entry = catalogue.type_named(row.type or "") if row.status == ACCEPTED else None
        if row.value is None or entry is None or not depends_on_history(entry):
            continue
        if entry.topic == IDENTITY_TOPIC:
            # Of these, the history of that topic tells.
            continue
        try:
            yield row.topic, decode_event(row.value, catalogue)
        except RejectedError:
            # The entry says so.
            continue


def _refused(block: Block, code: str, detail: str) -> BlockRefusedError:
    return BlockRefusedError(shard=block.shard, height=block.header.height, code=code, detail=detail)


def _place(block: Block, index: int, row: Row, header_hash: str) -> Place:
    digest = row.digest if row.value is None else leaf_hash(row.value)
    return Place(
        topic=row.topic,
        partition=row.partition,
        offset=row.offset,
        shard=block.shard,
        height=block.header.height,
        index=index,
        leaf_hash=row.leaf_hash.hex(),
        digest=(digest or b"").hex(),
        header_hash=header_hash,
        sealed_at=block.header.time,
        appended_at=row.timestamp,
    )


def _entry(row: Row, place: Place, verdict: str | None, directory: Directory) -> TrailEntry:
    if verdict is not None:
        return describe_damaged(place, row.status, verdict, VERDICT_WRONG)
    if row.status != ACCEPTED or row.value is None:
        return describe_rejected(place, row.status.removeprefix(REJECTED_PREFIX), row.signature, directory)
    try:
        event = decode_event(row.value, directory.identity.catalogue)
    except RejectedError:
        # The sequencer accepted it, so its type or schema is newer than this service.
        named = _named(row)
        if named is None:
            return describe_damaged(place, row.status, "its columns do not name it", ROW_COLUMNS)
        return describe_unknown(named, place, row.signature, directory)
    effect = directory.fold(event, place)
    if effect is None:
        raise BlockRefusedError(
            shard=place.shard,
            height=place.height,
            code="coverage-overlap",
            detail=f"{row.topic} {row.partition} {row.offset} is another shard's, and another event there",
        )
    directory.served.take(event, effect, place)
    return describe(event, effect, place, row.signature, directory)


def _named(row: Row) -> Named | None:
    """Return an accepted row's attributes from its columns, which the body's hash covers."""
    if row.id is None or row.source is None or row.type is None or row.subject is None or row.time is None:
        return None
    return Named(row.id, row.source, row.type, row.subject, row.time)
