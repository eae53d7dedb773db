"""Databases that write nothing for a while, as on a full disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

PAGES_MAX = 1_000_000


@contextmanager
def writes_nothing(engine: AsyncEngine) -> Iterator[None]:
    """Let a SQLite file grow no more, by whatever connection of this engine."""

    pages = 1

    def limit(connection: Any, *_: object) -> None:
        connection.cursor().execute(f"PRAGMA max_page_count = {pages}")

    # It stays: what is in use when the room comes has the limit until it is used again.
    event.listen(engine.sync_engine, "checkout", limit)
    yield
    pages = PAGES_MAX
