"""A table that a contract declares: the rows that its aggregates come to, written as they are folded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeVar

import msgspec
from sqlalchemy import String, Table
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable

S = TypeVar("S", bound=msgspec.Struct)
Row = Mapping[str, Any]
Key = tuple[Any, ...]
COLUMN_TYPES = (str, int, bool, bytes)
"""What columns hold: a moment is text in the one form of `salus.events.moments`, or microseconds."""


def text_column(length: int) -> String:
    """Return the type of a text that is compared and ordered by its code points, whatever the database."""
    return String(length).with_variant(String(length, collation="C"), "postgresql")


@dataclass(frozen=True)
class TableProjection(Generic[S]):
    """The rows of every aggregate of a contract, and of nothing else.

    `rows` is pure and total: it returns what the table has of an aggregate in this state, and nothing for the
    state before any event. The first column of the primary key is the aggregate's name, which the fold
    fills, so that no two aggregates have a row in common; a row gives all other columns.
    """

    table: Table
    rows: Callable[[S], Iterable[Row]]

    def __post_init__(self) -> None:
        """Refuse what two databases may give back otherwise; raises ValueError."""
        if any(column.type.python_type not in COLUMN_TYPES for column in self.table.columns):
            raise ValueError(f"a column of {self.table.name} has none of the types {COLUMN_TYPES}")

    @cached_property
    def key(self) -> tuple[str, ...]:
        """The columns of the primary key."""
        return tuple(column.name for column in self.table.primary_key)

    @cached_property
    def _columns(self) -> frozenset[str]:
        return frozenset(column.name for column in self.table.columns)

    def rows_of(self, aggregate: str, state: S) -> dict[Key, dict[str, Any]]:
        """Return an aggregate's rows by their primary keys.

        Raises:
            ValueError: `rows` leaves out a column, gives one that is not there, or gives a key twice.
        """
        found: dict[Key, dict[str, Any]] = {}
        for given in self.rows(state):
            row = {self.key[0]: aggregate, **given}
            key = tuple(row.get(name) for name in self.key)
            if row.keys() != self._columns or key in found:
                raise ValueError(f"a row of {self.table.name} is not one of its own, or is there twice")
            found[key] = row
        return found

    @property
    def definition(self) -> str:
        """Return what tells one definition of the table from another."""
        dialect = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy has no types for it
        indices = (CreateIndex(index) for index in self.table.indexes)
        parts = [str(CreateTable(self.table).compile(dialect=dialect))]
        return "\n".join([*parts, *sorted(str(index.compile(dialect=dialect)) for index in indices)])


class TableChanges:
    """What a batch changes in one declared table: at its end, each row is as its aggregate has it then."""

    def __init__(self, projection: TableProjection[Any]) -> None:
        self.projection = projection
        self.written: list[dict[str, Any]] = []
        self.deleted: list[Key] = []

    def add(self, aggregate: str, *, before: msgspec.Struct, after: msgspec.Struct) -> None:
        """Take in that an aggregate has changed, once a batch."""
        old = self.projection.rows_of(aggregate, before)
        new = self.projection.rows_of(aggregate, after)
        self.written += [row for key, row in new.items() if old.get(key) != row]
        self.deleted += [key for key in old if key not in new]
