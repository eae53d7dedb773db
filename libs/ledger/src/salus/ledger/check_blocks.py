"""Checks blocks and chains of blocks against what their headers say, and names what is wrong.

Pure: whoever calls fetches the bytes. Whether the judgements (accepted, rejected) were right is not
checked here: that takes the identity state, see `salus.events.judging`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any, NamedTuple

from salus.ledger.block import (
    ACCEPTED,
    Header,
    LeafRow,
    check_succession,
    leaf_hashes,
    open_header,
    parse_header,
)
from salus.ledger.errors import BlockError, LedgerError
from salus.ledger.findings import Finding
from salus.ledger.json_reader import JsonError, read_json
from salus.ledger.key_periods import Keys
from salus.ledger.leaf_grammar import is_status
from salus.ledger.merkle import HASH_SIZE, hashes_of, root_of
from salus.ledger.note import split_note
from salus.ledger.records import TIMESTAMP_MS_MAX, timestamp_at
from salus.ledger.times import read_time


class Row(NamedTuple):
    """One row of a body, its columns in the order of the Parquet schema."""

    topic: str
    partition: int
    offset: int
    timestamp: datetime
    status: str
    id: str | None
    source: str | None
    type: str | None
    subject: str | None
    time: datetime | None
    leaf_hash: bytes
    digest: bytes | None
    signature: bytes | None
    value: bytes | None


def block_place(shard: int, height: int) -> str:
    """Return how findings name a block."""
    return f"shard {shard} block {height}"


def row_place(place: str, index: int, row: Row) -> str:
    """Return how findings name a row: its block, its index and its position on the topic."""
    return f"{place} row {index} ({row.topic} {row.partition} {row.offset})"


def check_body(header: Header, data: bytes, *, place: str) -> list[Finding]:
    """Return what is wrong with a body's bytes as a whole."""
    if len(data) != header.body_bytes:
        return [Finding("body-hash", place, f"{len(data)} bytes instead of {header.body_bytes}")]
    if sha256(data).digest() != header.body_sha256:
        return [Finding("body-hash", place, "the SHA-256 is not the one in the header")]
    return []


def check_block(header: Header, rows: Iterable[Sequence[Any]], *, place: str) -> list[Finding]:
    """Return what is wrong with a block's rows, each a `Row` or a sequence of its columns.

    Everything the header commits to is recomputed from the values up. A row whose value, signature or
    status was changed is named by its index and position.
    """
    plain = list(rows)
    if is_sound(header, plain):
        return []
    kept = [Row(*row) for row in plain]
    findings = [*_check_counts(header, kept, place), *_check_rows(header, kept, place)]
    computed = leaf_hashes(_leaf_rows(kept))
    stored = [row.leaf_hash for row in kept]
    wrong = [index for index, (one, other) in enumerate(zip(computed, stored, strict=True)) if one != other]
    if root_of(computed) == header.root:
        detail = "the stored leaf hash is not the hash of the record, which is intact"
        findings += [Finding("leaf-hash-wrong", row_place(place, i, kept[i]), detail) for i in wrong]
        return findings
    detail = "the record does not hash to its leaf hash"
    findings += [Finding("row-wrong", row_place(place, i, kept[i]), detail) for i in wrong]
    if root_of(stored) != header.root:
        findings.append(Finding("block-root", place, "neither records nor stored leaf hashes give the root"))
    return findings


def is_sound(header: Header, rows: Iterable[Sequence[Any]]) -> bool:
    """Tell whether `check_block` finds nothing: the same checks, and nothing is named."""
    bounds = {(r.topic, r.partition): (r.first, r.next) for r in header.ranges}
    place, before, following = ("", -1), -1, 0
    leaves: list[Row] = []
    for raw in rows:
        row = Row._make(raw)
        if row.partition != place[1] or row.topic != place[0]:
            if row[:2] <= place or row[:2] not in bounds:
                return False
            place = row[:2]
            before, following = bounds[place]
            before -= 1
        if not before < row.offset < following or _malformation(row) is not None:
            return False
        before = row.offset
        leaves.append(row)
    accepted = sum(row.status == ACCEPTED for row in leaves)
    hashes = leaf_hashes(_leaf_rows(leaves))
    counted = (len(hashes), accepted) == (header.leaves, header.accepted)
    return counted and hashes == [row.leaf_hash for row in leaves] and root_of(hashes) == header.root


def check_columns(rows: Iterable[Sequence[Any]], *, place: str) -> list[Finding]:
    """Return the accepted rows whose id, source, type, subject or time is not what their value says.

    Leaf hashes do not cover these columns, only the body's hash does; queries rely on them.
    """
    findings = []
    for index, raw in enumerate(rows):
        row = Row(*raw)
        if row.status != ACCEPTED or row.value is None:
            continue
        if wrong := _wrong_columns(row):
            findings.append(
                Finding("row-columns", row_place(place, index, row), f"wrong: {', '.join(wrong)}")
            )
    return findings


class ChainChecker:
    """Checks one shard's header notes, fed in order of height."""

    def __init__(self, shard: int, keys: Keys) -> None:
        self.shard = shard
        self.height = 0
        self._keys = keys
        self._previous: tuple[Header, bytes] | None = None
        self._previous_is_known = True

    def add(self, note: bytes | None) -> tuple[Header | None, list[Finding]]:
        """Check the header object of the next height (None: it is missing).

        Returns the header as far as it can be read, also if its signature is wrong, and the findings.
        After an unreadable header the link to it is not reported again.
        """
        place = block_place(self.shard, self.height)
        self.height += 1
        if note is None:
            self._previous_is_known = False
            return None, [Finding("header-missing", place, "there are headers after it")]
        header, findings = self._read(note, place)
        if header is None:
            self._previous_is_known = False
            return None, findings
        if self._previous_is_known and not findings:
            findings += self._check_link(header, place)
        self._previous = (header, note)
        self._previous_is_known = not findings
        return header, findings

    def _read(self, note: bytes, place: str) -> tuple[Header | None, list[Finding]]:
        try:
            return open_header(note, self._keys), []
        except BlockError as error:
            told = {"header-signature", "key-period"}
            code = error.code if error.code in told else "header-unreadable"
            finding = Finding(code, place, str(error))
        try:
            return parse_header(split_note(note)[0]), [finding]
        except LedgerError:
            return None, [finding]

    def _check_link(self, header: Header, place: str) -> list[Finding]:
        try:
            check_succession(self._previous, header)
        except BlockError as error:
            return [Finding("chain-broken", place, str(error))]
        return []


def check_chain(notes: Iterable[bytes | None], keys: Keys, *, shard: int) -> list[Finding]:
    """Return what is wrong with a shard's header notes, given from height 0 on."""
    checker = ChainChecker(shard, keys)
    return [finding for note in notes for finding in checker.add(note)[1]]


def _check_counts(header: Header, rows: Sequence[Row], place: str) -> Iterator[Finding]:
    if len(rows) != header.leaves:
        yield Finding("leaf-count", place, f"{len(rows)} rows instead of {header.leaves}")
    accepted = sum(row.status == ACCEPTED for row in rows)
    if accepted != header.accepted:
        yield Finding("accepted-count", place, f"{accepted} accepted rows instead of {header.accepted}")


def _check_rows(header: Header, rows: Sequence[Row], place: str) -> Iterator[Finding]:
    bounds = {(r.topic, r.partition): (r.first, r.next) for r in header.ranges}
    before = ("", -1, -1)
    for index, row in enumerate(rows):
        position = row[:3]
        first, following = bounds.get(position[:2], (0, 0))
        if not first <= row.offset < following:
            yield Finding("row-outside-range", row_place(place, index, row), "the header does not cover it")
        if position <= before:
            yield Finding("row-order", row_place(place, index, row), "it does not follow the row before it")
        before = position
        if (problem := _malformation(row)) is not None:
            yield Finding("row-malformed", row_place(place, index, row), problem)


def _malformation(row: Row) -> str | None:
    if not 0 <= timestamp_at(row.timestamp) <= TIMESTAMP_MS_MAX:
        return "its timestamp is none that a reader gives a record"
    if row.status == ACCEPTED:
        complete = row.value is not None and row.signature is not None and row.digest is None
        return None if complete else "an accepted row has a value and a signature and no digest"
    if not is_status(row.status):
        return "its status is neither accepted nor rejected"
    if row.value is not None or any(column is not None for column in row[5:10]):
        return "nothing but the digest is kept of a rejected record"
    if row.digest is None or len(row.digest) != HASH_SIZE:
        return "a rejected row has a digest"
    return None


def _leaf_rows(rows: Sequence[Row]) -> Iterator[LeafRow]:
    hashes = iter(hashes_of([row.value for row in rows if row.value is not None]))
    for row in rows:
        digest = (row.digest or b"") if row.value is None else next(hashes)
        yield (*row[:3], timestamp_at(row.timestamp), row.status, digest, row.signature)


def _wrong_columns(row: Row) -> list[str]:
    try:
        event = read_json(row.value or b"")
        told = {name: event.get(name) for name in ("id", "source", "type", "subject")}
        told["time"] = read_time(event["time"])
    except (JsonError, ValueError, KeyError, TypeError, AttributeError):
        return ["the value is not a CloudEvent"]
    return [name for name, value in told.items() if getattr(row, name) != value]
