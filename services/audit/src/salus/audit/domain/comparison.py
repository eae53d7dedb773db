"""What of the stored trail is not what the ledger makes it: entries, who is who, and how far it is."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec

# Positions of the trail are below. One that is not would leave none for what is appended.
SEQ_MAX = 2**53

Kind = Literal["missing", "extra", "changed"]
Columns = Mapping[str, Any]
Key = tuple[str, str, str]
"""A table, and the key of a row in it; where that is one column, the second part is empty."""


class TableRow(NamedTuple):
    """A row beside the entries that differs.

    `value` is what it should hold beside its key, if it should be there (`is_derived`) and holds anything.
    `seen` is the digest of what stood there, None if nothing did.
    """

    key: Key
    is_derived: bool
    value: bytes | None
    seen: bytes | None


class Difference(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that differs: an entry by its place, or another row by its table and key.

    `missing` is on the ledger and not in the trail, `extra` in the trail and not on the ledger; of what is
    `changed`, `columns` names the parts. Values are left out: they may say who did what.
    """

    kind: Kind
    table: str
    key: str
    shard: int | None = None
    height: int | None = None
    columns: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Say it in a line."""
        parts = f" ({', '.join(self.columns)})" if self.columns else ""
        return f"{self.table} {self.key} is {self.kind}{parts}"


def compare_block(
    shard: int, height: int, derived: Sequence[Columns], stored: Sequence[Columns]
) -> list[Difference]:
    """Compare a block's entries, as rows without their position, with what is stored at that place.

    Positions may have gaps, but within a block they follow one another in the order of the leaves.
    """
    found, by_index = [], {row["index"]: row for row in stored}
    first = next((row["seq"] - row["index"] for row in stored), 0)
    for index, wanted in enumerate(derived):
        row = by_index.pop(index, None)
        if row is None:
            found.append(_entry("missing", shard, height, index))
        elif columns := _changed({**wanted, "seq": min(max(first, 1), SEQ_MAX) + index}, row):
            found.append(_entry("changed", shard, height, index, columns))
    found += [_entry("extra", shard, height, index) for index in sorted(by_index)]
    return found


def not_as_derived(derived: Sequence[Columns], stored: Sequence[Columns]) -> list[int]:
    """Return the indexes of a block's leaves whose rows are missing or changed, wherever they stand."""
    by_index = {row["index"]: row for row in stored}
    return [
        index
        for index, wanted in enumerate(derived)
        if (row := by_index.get(index)) is None or _changed(wanted, row)
    ]


def table_difference(row: TableRow) -> Difference:
    """Return what differs of a row beside the entries that is not as derived."""
    kind: Kind = "missing" if row.seen is None else "changed" if row.is_derived else "extra"
    # Who is linked to which pseudonym stays out of logs and findings.
    named = hashlib.sha256(repr(row.key).encode()).hexdigest()[:16]
    return Difference(kind, row.key[0], named)


def _changed(wanted: Columns, stored: Columns) -> tuple[str, ...]:
    return tuple(name for name, value in wanted.items() if stored[name] != value)


def _entry(kind: Kind, shard: int, height: int, index: int, columns: tuple[str, ...] = ()) -> Difference:
    key = f"shard {shard} block {height} row {index}"
    return Difference(kind, "entry", key, shard, height, columns)
