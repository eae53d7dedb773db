"""The table of what waits for a person, emergency accesses and cases, by when it is due."""

from __future__ import annotations

from dataclasses import dataclass
from operator import itemgetter

from sqlalchemy import BigInteger, Column, Index, MetaData, Table

from salus.consent.domain.reviews import OVERDUE, STEWARD_UNNAMED
from salus.consent.ports import IsShown
from salus.contracts.keyset import KeysetPage, KeysetQuery
from salus.contracts.ports import Fold, States
from salus.contracts.table_projection import text_column

# Rows without a steward that are looked at in one go.
_PART = 200
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

    async def page(
        self, steward: str, *, overdue: bool, after: str | None, limit: int, is_shown: IsShown
    ) -> KeysetPage:
        """Return what waits about patients of a steward next; raises CursorError, MessagingError.

        Events of older releases name no steward. Of those, `is_shown` returns the rows that the caller may
        see. A cursor says where the last row stands, so it is one of the caller's.
        """
        await self.follower.catch_up()
        status = {"status": OVERDUE} if overdue else {}
        own = KeysetQuery(REVIEWS, order=_ORDER, where={"steward": steward} | status)
        unnamed = KeysetQuery(REVIEWS, order=_ORDER, where={"steward": STEWARD_UNNAMED} | status)
        page = await self.store.read_page(own, after=after, limit=limit)
        rows, has_more, place = [*page.rows], page.next is not None, after
        while True:
            part = await self.store.read_page(unnamed, after=place, limit=_PART)
            rows += await is_shown(part.rows)
            if part.next is None or len(rows) > limit + len(page.rows):
                break
            place = part.next
        rows.sort(key=itemgetter(*_ORDER))
        has_more |= len(rows) > limit
        return KeysetPage(rows[:limit], own.cursor(rows[limit - 1]) if has_more else None)

    async def overdue(self, *, limit: int) -> KeysetPage:
        """Return what was called overdue of everybody, as far as is folded."""
        query = KeysetQuery(REVIEWS, order=_ORDER, where={"status": OVERDUE})
        return await self.store.read_page(query, limit=limit)
