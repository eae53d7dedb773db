"""From a verified block to entries: every leaf, accepted or rejected, becomes exactly one, in order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from salus.audit.domain.describe import Named, describe, describe_rejected, describe_unknown
from salus.audit.domain.directory import Directory, Needs
from salus.audit.domain.effects import needs_of
from salus.audit.domain.entry import Place, TrailEntry
from salus.audit.domain.identity_history import IDENTITY_TOPIC, stamped
from salus.events.catalogue import Catalogue
from salus.events.contexts.consent import ConsentRevoked
from salus.events.effect import depends_on_history
from salus.events.envelope import Event, decode_event
from salus.events.errors import SIGNATURE_REASONS, RejectedError
from salus.events.judging import accepted_record, judge_batch
from salus.events.keyring import KeyRing
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
from salus.ledger.records import records_of, timestamp_at


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


def entries_of(block: Block, rows: Iterable[Row], directory: Directory) -> list[TrailEntry]:
    """Return one entry a leaf of verified rows, folding who is who into `directory` on the way.

    Raises:
        BlockRefusedError: another event stands in the place of an identity event.
    """
    directory.judged_at = block.header.identity[2]
    header_hash = leaf_hash(block.note).hex()
    entries = [_entry(block, index, row, header_hash, directory) for index, row in enumerate(rows)]
    directory.runs = directory.served.runs(block.shard, block.header)
    return entries


def values_of(rows: Iterable[Row], partition: tuple[str, int]) -> dict[int, bytes]:
    """Return the accepted events of the identity partition in a block, by offset, as `stamped` keeps them."""
    return {
        row.offset: stamped(row.value, timestamp_at(row.timestamp))
        for row in rows
        if (row.topic, row.partition) == partition and row.status == ACCEPTED and row.value is not None
    }


def require_judged(block: Block, rows: Iterable[Row], ring: KeyRing) -> None:
    """Raise BlockRefusedError unless every row that is sealed as accepted is, by who signed it and asked.

    The header's signature is the shard's alone: who has its key could let anybody say anything. Rows of a
    type or schema that this service does not know are told as unknown, if their signature is good.
    """
    accepted = [row for row in rows if row.status == ACCEPTED]
    records = [
        accepted_record(
            topic=row.topic,
            partition=row.partition,
            offset=row.offset,
            timestamp_ms=timestamp_at(row.timestamp),
            subject=row.subject,
            value=row.value,
            signature=row.signature,
        )
        for row in accepted
    ]
    for index, error in judge_batch(records_of(records), ring=ring).refused.items():
        row = accepted[index]
        if error.reason in SIGNATURE_REASONS or _is_known(row, ring.types.known):
            detail = f"{row.topic} {row.partition} {row.offset} is sealed as accepted; judged again: {error}"
            raise _refused(block, "verdict-wrong", detail)


def _is_known(row: Row, catalogue: Catalogue) -> bool:
    try:
        decode_event(row.value or b"", catalogue)
    except RejectedError:
        return False
    return True


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


def _entry(block: Block, index: int, row: Row, header_hash: str, directory: Directory) -> TrailEntry:
    digest = row.digest if row.value is None else leaf_hash(row.value)
    place = Place(
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
    if row.status != ACCEPTED or row.value is None:
        return describe_rejected(place, row.status.removeprefix(REJECTED_PREFIX), row.signature, directory)
    try:
        event = decode_event(row.value, directory.identity.catalogue)
    except RejectedError:
        # The sequencer accepted it, so its type or schema is newer than this service.
        return describe_unknown(_named(block, row), place, directory)
    effect = directory.fold(event, place)
    if effect is None:
        detail = f"{row.topic} {row.partition} {row.offset} is another shard's, and another event there"
        raise _refused(block, "coverage-overlap", detail)
    directory.served.take(event, effect, place)
    return describe(event, effect, place, directory)


def _named(block: Block, row: Row) -> Named:
    """Return an accepted row's attributes from its columns, which the body's hash covers."""
    if row.id is None or row.source is None or row.type is None or row.subject is None or row.time is None:
        raise _refused(block, "row-columns", f"row {row.topic} {row.partition} {row.offset} lacks a column")
    return Named(row.id, row.source, row.type, row.subject, row.time)
