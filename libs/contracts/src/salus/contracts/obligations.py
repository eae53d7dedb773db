"""The open obligations of a reactor as its hosts see them: which are due, which are taken, which are parked.

The fold writes and removes the rows with the state that they follow from. Here only `due_ms` and `attempts`
change, which say when a row is tried next; nothing else rests on them.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from salus.contracts.fold_tables import OBLIGATIONS


@dataclass(frozen=True, slots=True)
class Owed:
    """One open obligation; `attempts` were begun and did not settle it."""

    aggregate: str
    key: str
    due_ms: int
    attempts: int


@dataclass(frozen=True, slots=True)
class Backlog:
    """How many obligations are open, how many of them parked, and since when the oldest is."""

    open: int
    parked: int
    since_ms: int | None


class Obligations:
    """The rows of one reactor; one parked after `attempts_max` attempts is tried on, but is shown."""

    def __init__(self, engine: AsyncEngine, reactor: str, *, attempts_max: int) -> None:
        self._engine = engine
        self._reactor = reactor
        self._attempts_max = attempts_max

    async def restart(self, *, now_ms: int) -> None:
        """Make everything due that is open and not parked: whoever took it may be gone.

        What ends the process each time it is tried is not tried at once again and again.
        """
        c = OBLIGATIONS.c
        waiting = (c.reactor == self._reactor) & (c.due_ms > now_ms) & (c.since_ms <= now_ms)
        changed = OBLIGATIONS.update().where(waiting & (c.attempts < self._attempts_max))
        async with self._engine.begin() as connection:
            await connection.execute(changed.values(due_ms=now_ms))

    async def due(self, *, now_ms: int, limit: int, again_max: int) -> list[Owed]:
        """Return obligations that are due, those first that have been due for longest.

        At most `again_max` of them were tried before: those that nobody tried yet do not wait for these.
        """
        c = OBLIGATIONS.c
        query = select(c.aggregate, c.key, c.due_ms, c.attempts).where(c.reactor == self._reactor)
        query = query.where(c.due_ms <= now_ms).order_by(c.due_ms)
        async with self._engine.connect() as connection:
            new = await connection.execute(query.where(c.attempts == 0).limit(limit))
            again = await connection.execute(query.where(c.attempts > 0).limit(again_max))
            return sorted((Owed(*row) for row in (*new, *again)), key=lambda owed: owed.due_ms)[:limit]

    async def next_due_ms(self, *, with_tried: bool) -> int | None:
        """Return when the next one, or the next that nobody tried, is or was due; None: there is none."""
        query = select(func.min(OBLIGATIONS.c.due_ms)).where(OBLIGATIONS.c.reactor == self._reactor)
        if not with_tried:
            query = query.where(OBLIGATIONS.c.attempts == 0)
        async with self._engine.connect() as connection:
            found: int | None = await connection.scalar(query)
            return found

    async def take(self, owed: Owed, *, until_ms: int) -> bool:
        """Begin an attempt, and keep others from it until then; False if another one was first."""
        same = self._at(owed.aggregate, owed.key) & (OBLIGATIONS.c.due_ms == owed.due_ms)
        return await self._change(same, due_ms=until_ms) == 1

    async def seize(self, aggregate: str, key: str, *, until_ms: int) -> None:
        """Begin an attempt though another one may go on, and keep others from it until then."""
        await self._change(self._at(aggregate, key), due_ms=until_ms)

    async def attempts(self, aggregate: str, key: str) -> int | None:
        """Return how many attempts were begun; None if nothing is owed any more."""
        query = select(OBLIGATIONS.c.attempts).where(self._at(aggregate, key))
        async with self._engine.connect() as connection:
            found: int | None = await connection.scalar(query)
            return found

    async def postpone(self, aggregate: str, key: str, *, until_ms: int) -> None:
        """Have it tried again then, and not before."""
        changed = OBLIGATIONS.update().where(self._at(aggregate, key)).values(due_ms=until_ms)
        async with self._engine.begin() as connection:
            await connection.execute(changed)

    async def backlog(self, *, now_ms: int) -> Backlog:
        """Return how much is open now."""
        c = OBLIGATIONS.c
        parked = func.count().filter(c.attempts >= self._attempts_max)
        query = select(func.count(), parked, func.min(c.since_ms)).where(c.reactor == self._reactor)
        query = query.where(c.since_ms <= now_ms)
        async with self._engine.connect() as connection:
            return Backlog(*(await connection.execute(query)).one())

    async def _change(self, which: ColumnElement[bool], *, due_ms: int) -> int:
        begun = OBLIGATIONS.c.attempts + 1
        changed = OBLIGATIONS.update().where(which).values(due_ms=due_ms, attempts=begun)
        async with self._engine.begin() as connection:
            return (await connection.execute(changed)).rowcount

    def _at(self, aggregate: str, key: str) -> ColumnElement[bool]:
        c = OBLIGATIONS.c
        return (c.reactor == self._reactor) & (c.aggregate == aggregate) & (c.key == key)
