"""Which entries nobody had a right to, beside the trail, and what that is judged by."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, get_args

from sqlalchemy import Row, delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from salus.archive.served_requests import TOPICS
from salus.audit.adapters.stored import within_reach
from salus.audit.adapters.tables import SERVED, UNENTITLED
from salus.audit.domain.entry import RightsVerdict, TrailEntry
from salus.audit.domain.search import Found
from salus.audit.ports import OutOfReachError, RightsMark

UIDS_AT_ONCE_MAX = 400


class SqlRightsStore:
    """A `RightsStore`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def places(self) -> list[str]:
        """Return the partitions that runs are kept of."""
        found: list[str] = []
        async with self._connection() as connection:
            # One look-up in the index for each: there are few, and each has any number of runs.
            following = select(SERVED.c.place).order_by(SERVED.c.place).limit(1)
            query = following
            while (place := (await connection.execute(query)).scalar_one_or_none()) is not None:
                found.append(place)
                query = following.where(SERVED.c.place > place)
        return found

    async def runs(self, place: str, *, after: str, limit: int) -> list[tuple[str, bytes]]:
        """Return the next runs of a partition, in their order, each with its key's second part."""
        here = (SERVED.c.place == place, SERVED.c.first > after)
        query = select(SERVED.c.first, SERVED.c.run).where(*here).order_by(SERVED.c.first).limit(limit)
        async with self._connection() as connection:
            return [(row.first, bytes(row.run)) for row in await connection.execute(query)]

    async def marks(self) -> dict[str, RightsMark]:
        """Return all marks, by uid."""
        async with self._connection() as connection:
            rows = await connection.execute(select(UNENTITLED))
            return {row.uid: RightsMark(row.verdict, row.why, row.proof) for row in rows}

    async def set_marks(self, marks: Mapping[str, RightsMark], *, without: Collection[str] = ()) -> None:
        """Put marks, and take others away, in one transaction."""
        rows = [
            {"uid": uid, "verdict": mark.verdict, "why": mark.why, "proof": mark.proof}
            for uid, mark in marks.items()
        ]
        try:
            async with self._connection() as connection:
                for uids in _in_parts([*marks, *without]):
                    await connection.execute(delete(UNENTITLED).where(UNENTITLED.c.uid.in_(uids)))
                if rows:
                    await connection.execute(UNENTITLED.insert(), rows)
        except IntegrityError as error:
            raise OutOfReachError("the database: another replica marks the same entries") from error

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[AsyncConnection]:
        with within_reach():
            async with self._engine.begin() as connection:
                yield connection


async def with_rights(connection: AsyncConnection, found: Sequence[Found]) -> list[Found]:
    """Return what was found, with those entries shown so that nobody is known to have had a right to."""
    served = [each.entry.uid for each in found if _is_served(each.entry)]
    marks: dict[str, Row[Any]] = {}
    for uids in _in_parts(served):
        rows = await connection.execute(select(UNENTITLED).where(UNENTITLED.c.uid.in_(uids)))
        # What another hand wrote that is no verdict says nothing; judging takes it away.
        marks |= {row.uid: row for row in rows if row.verdict in get_args(RightsVerdict)}
    return [
        Found(each.seq, each.entry.without_right(mark.verdict, mark.why))
        if (mark := marks.get(each.entry.uid)) is not None
        else each
        for each in found
    ]


def _is_served(entry: TrailEntry) -> bool:
    return entry.place.topic in TOPICS and entry.facts.outcome not in {"rejected", "without-effect"}


def _in_parts(uids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(uids), UIDS_AT_ONCE_MAX):
        yield uids[start : start + UIDS_AT_ONCE_MAX]
