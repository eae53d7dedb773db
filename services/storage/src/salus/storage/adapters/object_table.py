"""The table of objects by where they lie in the store, to compare a listing of the bucket with it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass

from sqlalchemy import Column, Index, MetaData, Table

from salus.contracts.keyset import KeysetQuery
from salus.contracts.ports import Fold, States
from salus.contracts.table_projection import Row, text_column
from salus.storage.domain import ObjectState, location_of
from salus.storage.ports import Located

PAGE_ROWS_MAX = 500
BY_LOCATION = Table(
    "storage_objects",
    MetaData(),
    Column("name", text_column(512), primary_key=True),
    Column("location", text_column(512), nullable=False),
    Index("ix_storage_objects_location", "location", "name"),
)
_ORDER = ("location", "name")
# Above every name, which begins with a pseudonym.
_LAST_NAME = "~"


def object_rows(state: ObjectState) -> Iterable[Row]:
    """Return the row of an object."""
    return () if state.salt is None else ({"location": location_of(state.object, state.salt)},)


@dataclass(frozen=True)
class FoldedInventory:
    """`Inventory` over the fold."""

    follower: Fold
    store: States

    async def catch_up(self) -> None:
        """Fold everything that is in the topics now."""
        await self.follower.catch_up()

    async def located(self, *, after: str) -> AsyncIterator[Located]:
        """Yield the objects that lie behind a place, in the order of their places."""
        query = KeysetQuery(BY_LOCATION, order=_ORDER)
        cursor: str | None = query.cursor({"location": after, "name": _LAST_NAME})
        while cursor is not None:
            page = await self.store.read_page(query, after=cursor, limit=PAGE_ROWS_MAX)
            for row in page.rows:
                yield _located(row)
            cursor = page.next

    async def at(self, location: str) -> Located | None:
        """Return the object that lies at a place."""
        query = KeysetQuery(BY_LOCATION, order=("name",), where={"location": location}, more=("location",))
        page = await self.store.read_page(query, limit=1)
        return _located(page.rows[0]) if page.rows else None


def _located(row: Row) -> Located:
    patient, _, name = row["name"].partition("/")
    return Located(location=row["location"], patient=patient, object=name)
