"""The table of what waits for a person, emergency accesses and cases, by when it is due."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import BigInteger, Column, Index, MetaData, Table

from salus.consent.domain.reviews import OVERDUE
from salus.contracts.keyset import KeysetPage, KeysetQuery
from salus.contracts.ports import Fold, States
from salus.contracts.table_projection import text_column

_ORDER = ("due_us", "patient", "kind", "decision")
# One index for each way to narrow the list, so that a page costs its own rows.
REVIEWS = Table(
    "consent_reviews",
    MetaData(),
    Column("patient", text_column(64), primary_key=True),
    Column("kind", text_column(16), primary_key=True),
    Column("decision", text_column(256), primary_key=True),
    Column("steward", text_column(256), nullable=False),
    Column("status", text_column(16), nullable=False),
    Column("due_us", BigInteger, nullable=False),
    Index("ix_consent_reviews_steward", "steward", *_ORDER),
    Index("ix_consent_reviews_steward_status", "steward", "status", *_ORDER),
    Index("ix_consent_reviews_status", "status", *_ORDER),
)


@dataclass(frozen=True)
class FoldedReviews:
    """`Reviews` over the fold."""

    follower: Fold
    store: States

    async def page(self, steward: str, *, overdue: bool, after: str | None, limit: int) -> KeysetPage:
        """Return what waits about patients of a steward next; raises CursorError, MessagingError."""
        await self.follower.catch_up()
        where = {"steward": steward} | ({"status": OVERDUE} if overdue else {})
        query = KeysetQuery(REVIEWS, order=_ORDER, where=where)
        return await self.store.read_page(query, after=after, limit=limit)

    async def overdue(self, *, limit: int) -> KeysetPage:
        """Return what was called overdue of everybody, as far as is folded."""
        query = KeysetQuery(REVIEWS, order=_ORDER, where={"status": OVERDUE})
        return await self.store.read_page(query, limit=limit)
