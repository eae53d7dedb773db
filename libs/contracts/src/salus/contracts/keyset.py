"""Pages of a declared table in the order of its columns: each begins after the last row of the one before.

A row that is there all the while is on exactly one page, whatever rows come and go between them.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import msgspec
from sqlalchemy import Select, Table, literal, select, tuple_

CURSOR_CHARS_MAX = 2048
# What a BIGINT column takes.
_VALUES = list[str | Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]]


class CursorError(ValueError):
    """A cursor is none of this list's."""

    def __init__(self) -> None:
        super().__init__("the cursor is none that a page of this list gave")


@dataclass(frozen=True, slots=True)
class KeysetPage:
    """Some rows, and the cursor of the page after them; None if there is nothing more."""

    rows: Sequence[Mapping[str, Any]]
    next: str | None


@dataclass(frozen=True)
class KeysetQuery:
    """The rows of a table whose columns equal `where`, in the order of the columns `order`.

    An index of the table has the columns of `where`, then those of `order`; so a page costs its own rows,
    however many there are. Together they have the primary key, so no two rows are in the same place. Read are
    the columns of `order`, which the index has, and those of `more`.

    Raises:
        ValueError: there is no such index, or the order is none.
    """

    table: Table
    order: tuple[str, ...]
    where: Mapping[str, str | int] = field(default_factory=dict)
    more: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what would go through the whole table."""
        key = {column.name for column in self.table.primary_key}
        if not key <= {*self.order, *self.where}:
            raise ValueError(f"this order of {self.table.name} leaves out columns of its primary key")
        if not any(self._is_served_by(columns) for columns in _indexed(self.table)):
            raise ValueError(f"no index of {self.table.name} has {[*self.where]}, then {[*self.order]}")

    def _is_served_by(self, columns: Sequence[str]) -> bool:
        first = len(self.where)
        return {*columns[:first]} == {*self.where} and tuple(columns[first:])[: len(self.order)] == self.order

    def statement(self, *, after: str | None, limit: int) -> Select[Any]:
        """Return the statement that reads a page and one row more; raises CursorError."""
        columns = [self.table.c[name] for name in self.order]
        query = select(*columns, *(self.table.c[name] for name in self.more)).where(
            *(self.table.c[name] == value for name, value in self.where.items())
        )
        if after is not None:
            values = self._values(after)
            if len(columns) == 1:
                query = query.where(columns[0] > values[0])
            else:
                given = (literal(v, c.type) for v, c in zip(values, columns, strict=True))
                query = query.where(tuple_(*columns) > tuple_(*given))
        return query.order_by(*columns).limit(limit + 1)

    def among(self, rows: Iterable[Mapping[str, Any]], *, after: str | None) -> list[Mapping[str, Any]]:
        """Return which of these rows, in which order, the statement reads that has no limit."""
        values = () if after is None else tuple(self._values(after))
        found = [row for row in rows if all(row[name] == value for name, value in self.where.items())]
        placed = sorted((tuple(row[name] for name in self.order), number) for number, row in enumerate(found))
        names = (*self.order, *self.more)
        return [{name: found[n][name] for name in names} for place, n in placed if place > values]

    def page(self, rows: Sequence[Mapping[str, Any]], *, limit: int) -> KeysetPage:
        """Return the page that was read by `statement`."""
        shown = rows[:limit]
        return KeysetPage(shown, self.cursor(shown[-1]) if len(rows) > limit else None)

    def cursor(self, row: Mapping[str, Any]) -> str:
        """Return the cursor of the page after this row, which need not be there."""
        values = msgspec.json.encode([row[name] for name in self.order])
        return urlsafe_b64encode(values).rstrip(b"=").decode()

    def _values(self, cursor: str) -> list[Any]:
        types = [self.table.c[name].type.python_type for name in self.order]
        try:
            raw = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
            values: list[Any] = msgspec.json.decode(raw, type=_VALUES)
        except (Base64Error, ValueError):
            raise CursorError from None
        if [type(value) for value in values] != types or any("\0" in v for v in values if isinstance(v, str)):
            raise CursorError
        return values


def _indexed(table: Table) -> list[list[str]]:
    """Return the columns of the primary key and of each index of a table."""
    served: list[Iterable[Any]] = [table.primary_key.columns, *(index.columns for index in table.indexes)]
    return [[column.name for column in columns] for columns in served]
