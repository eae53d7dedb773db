"""Shows how many reviews are overdue: to who asks whether the service is ready, and to Prometheus."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import structlog
from prometheus_client import Gauge
from sqlalchemy.exc import SQLAlchemyError

from salus.consent.ports import Reviews
from salus.messaging import MessagingError
from salus.runtime.database import shown
from salus.runtime.supervisor import failed, succeeded

LOOK_EVERY_S = 15.0
# Of more than that it is said that there are so many at least.
OVERDUE_COUNTED_MAX = 1000
OVERDUE = Gauge(
    "salus_reviews_overdue",
    f"Emergency accesses and cases that wait for a person too long, {OVERDUE_COUNTED_MAX} at most.",
)
OLDEST_DUE = Gauge(
    "salus_reviews_overdue_oldest_timestamp_seconds", "When the review was due that waits longest; 0: none."
)
_log = structlog.get_logger()
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class OverdueReviews:
    """Looks at the overdue reviews; whoever may review lists them (`GET /reviews`)."""

    def __init__(self, reviews: Reviews, *, now: Callable[[], datetime]) -> None:
        self._reviews = reviews
        self._now = now

    async def check(self) -> str | None:
        """Return what /readyz says of overdue reviews, or None; they make no service unready."""
        page = await self._reviews.overdue(limit=OVERDUE_COUNTED_MAX)
        OVERDUE.set(len(page.rows))
        OLDEST_DUE.set(page.rows[0]["due_us"] / 1_000_000 if page.rows else 0)
        if not page.rows:
            return None
        number = f"{len(page.rows)}{' or more' if page.next else ''}"
        due = _EPOCH + timedelta(microseconds=page.rows[0]["due_us"])
        hours = (self._now() - due) / timedelta(hours=1)
        return f"overdue reviews and cases: {number}, the oldest for {hours:.0f} h"

    async def run(self) -> None:
        """Look now and then until cancelled; a database that is away is waited for."""
        while True:
            try:
                await self.check()
                succeeded()
            except (SQLAlchemyError, MessagingError, OSError) as error:
                failed(shown(error))
                _log.warning("overdue reviews are not counted", error=type(error).__name__)
            await asyncio.sleep(LOOK_EVERY_S)
