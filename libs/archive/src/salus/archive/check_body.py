"""Checks one block's body against its signed header: every row's leaf hash, the root, and what is kept.

Pure. What it finds it names: the row, or, where the file cannot be read, the column and group of rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import msgspec

from salus.archive.body import ACCEPTED, body_batches, unreadable_parts
from salus.archive.columns import Columns, columns_of_body
from salus.archive.errors import BodyError
from salus.archive.report import Finding
from salus.archive.sound_body import FROM_VALUE, is_sound, repeats
from salus.ledger.block import Header, body_key, leaf_hashes
from salus.ledger.leaf_grammar import is_status
from salus.ledger.merkle import hashes_of, root_of
from salus.ledger.records import TIMESTAMP_MS_MAX

# A body that is wrong everywhere is not worth a finding a row.
ROW_FINDINGS_MAX = 20
# A body that is not what was signed is looked into if it expands to no more than this and a multiple of it.
CHANGED_BYTES_MIN = 16 * 1024 * 1024
CHANGED_RATIO = 16


@dataclass(frozen=True, slots=True)
class Blamed:
    """The block that findings are about."""

    shard: int
    header: Header

    @property
    def key(self) -> str:
        """The body's key."""
        return body_key(self.shard, self.header.height, self.header.root)

    def note(self, code: str, detail: str, *, row: int, columns: Columns) -> Finding:
        """Return an info about one of the body's rows."""
        return msgspec.structs.replace(self.finding(code, detail, row=row, columns=columns), severity="info")

    def finding(
        self, code: str, detail: str, *, row: int | None = None, columns: Columns | None = None
    ) -> Finding:
        """Return an error about the body, or about one of its rows."""
        where: dict[str, Any] = {}
        if row is not None and columns is not None:
            where = {name: columns[name][row] for name in ("topic", "partition", "offset") if name in columns}
            where["event"] = columns["id"][row] if "id" in columns else None
        return Finding(
            severity="error",
            code=code,
            bucket="ledger",
            key=self.key,
            detail=detail,
            shard=self.shard,
            height=self.header.height,
            row=row,
            **where,
        )


def check_body(shard: int, header: Header, data: bytes, *, digest: bytes | None = None) -> list[Finding]:
    """Return what is wrong with the body that this (trusted) header names; `digest` is the data's SHA-256."""
    blamed = Blamed(shard, header)
    digest = sha256(data).digest() if digest is None else digest
    whole = len(data) == header.body_bytes and digest == header.body_sha256
    if whole:
        try:
            sound = is_sound(header, body_batches(data))
            return [] if sound else check_rows(blamed, columns_of_body(data))
        except BodyError as error:
            return [blamed.finding("body-unreadable", str(error))]
    return _check_changed(blamed, data)


def check_rows(blamed: Blamed, columns: Columns) -> list[Finding]:
    """Return what is wrong with the rows: hashes and root, positions, counts, and what is kept of each."""
    header = blamed.header
    computed = _leaf_hashes_of(columns)
    found = [
        *_check_hashes(blamed, columns, computed),
        *_check_positions(blamed, columns, computed),
        *_check_kept(blamed, columns),
    ]
    counts = (
        ("leaf-count", len(columns["status"]), header.leaves),
        ("accepted-count", columns["status"].count(ACCEPTED), header.accepted),
    )
    found += [
        blamed.finding(code, f"{counted}; the header says {told}")
        for code, counted, told in counts
        if counted != told
    ]
    return found


def _check_changed(blamed: Blamed, data: bytes) -> list[Finding]:
    """The bytes are not those that were signed: say where, as closely as the file still tells.

    Anybody may have written them: what expands to more than such a body does is not looked into.
    """
    header = blamed.header
    told = f"{len(data)} bytes whose SHA-256 is not the signed one ({header.body_bytes} bytes)"
    try:
        damaged = unreadable_parts(
            data, rows_max=header.leaves, expanded_bytes_max=CHANGED_BYTES_MIN + CHANGED_RATIO * len(data)
        )
    except BodyError as error:
        return [blamed.finding("body-hash", f"{told}, and it is not looked into: {error}")]
    place = "; ".join(damaged) or "outside the pages of the columns"
    changed = blamed.finding("body-hash", f"{told}: {place}")
    try:
        columns = columns_of_body(data)
        return [changed, *check_rows(blamed, columns)]
    except BodyError:
        return [changed]
    except (ValueError, TypeError, AttributeError, OverflowError):
        # Rows that decode to what no writer writes.
        return [changed]


def _leaf_hashes_of(columns: Columns) -> list[bytes]:
    return leaf_hashes(
        zip(
            columns["topic"],
            columns["partition"],
            columns["offset"],
            columns["timestamp"],
            columns["status"],
            digests(columns),
            columns["signature"],
            strict=True,
        )
    )


def _check_hashes(blamed: Blamed, columns: Columns, computed: Sequence[bytes]) -> Iterator[Finding]:
    stored = columns["leaf_hash"]
    if computed == stored:
        if root_of(computed) != blamed.header.root:
            yield blamed.finding("block-root", "the rows do not lead to the root in the header")
        return
    wrong = [row for row, (a, b) in enumerate(zip(computed, stored, strict=True)) if a != b]
    if root_of(computed) == blamed.header.root:
        code, detail = "leaf-hash-wrong", "the column leaf_hash is wrong; the record itself is whole"
    else:
        code, detail = "row-wrong", "position, timestamp, status, signature or value is not what was sealed"
        if root_of(stored) != blamed.header.root:
            yield blamed.finding("block-root", "neither the rows nor their leaf hashes lead to the root")
    yield from _capped(blamed, code, detail, wrong, columns)


def digests(columns: Columns) -> list[bytes]:
    """Return each row's digest: the leaf hash of its value, or what was kept of a rejected one."""
    hashes = iter(hashes_of([value for value in columns["value"] if value is not None]))
    return [
        next(hashes) if value is not None else digest or b""
        for value, digest in zip(columns["value"], columns["digest"], strict=True)
    ]


def _check_positions(blamed: Blamed, columns: Columns, computed: Sequence[bytes]) -> Iterator[Finding]:
    """Each row lies within the header's ranges, after the row before it.

    The leaf hash covers the position: a row that does not hash to its own is named already and left out.
    """
    ranges = {(r.topic, r.partition): (r.first, r.next) for r in blamed.header.ranges}
    outside, disordered = [], []
    before = ("", -1, -1)
    places = zip(columns["topic"], columns["partition"], columns["offset"], strict=True)
    for row, (at, one, other) in enumerate(zip(places, computed, columns["leaf_hash"], strict=True)):
        if one != other:
            continue
        first, following = ranges.get(at[:2], (0, 0))
        if not first <= at[2] < following:
            outside.append(row)
        if at <= before:
            disordered.append(row)
        before = at
    yield from _capped(blamed, "row-outside-range", "not within the header's ranges", outside, columns)
    yield from _capped(blamed, "row-order", "not after the row before it", disordered, columns)


def _check_kept(blamed: Blamed, columns: Columns) -> Iterator[Finding]:
    """Of a rejected record no value is kept; an accepted one's columns repeat it. There is no third kind."""
    kept, differing = [], []
    rows = zip(
        columns["timestamp"],
        columns["status"],
        columns["value"],
        columns["digest"],
        columns["signature"],
        *(columns[name] for name in FROM_VALUE),
        strict=True,
    )
    for row, (timestamp, status, value, digest, signature, *repeated) in enumerate(rows):
        if not 0 <= timestamp <= TIMESTAMP_MS_MAX:
            kept.append(row)
        elif status != ACCEPTED:
            excess = value is not None or any(cell is not None for cell in repeated)
            if excess or digest is None or not is_status(status):
                kept.append(row)
        elif value is None or digest is not None or signature is None:
            kept.append(row)
        elif not repeats(value, repeated):
            differing.append(row)
    detail = "its timestamp is possible; an accepted row has value and signature, a rejected one its digest"
    yield from _capped(blamed, "row-malformed", detail, kept, columns)
    yield from _capped(blamed, "row-columns", "the columns do not repeat the event", differing, columns)


def _capped(
    blamed: Blamed, code: str, detail: str, rows: Sequence[int], columns: Columns
) -> Iterator[Finding]:
    for row in rows[:ROW_FINDINGS_MAX]:
        yield blamed.finding(code, detail, row=row, columns=columns)
    if len(rows) > ROW_FINDINGS_MAX:
        yield blamed.finding(code, f"and {len(rows) - ROW_FINDINGS_MAX} more rows: {detail}")
