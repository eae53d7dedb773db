"""What was read of the identity topic, as `IdentityStore`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from salus.audit.adapters.stored import IDENTITY_NAME, forget_identity, within_reach
from salus.audit.adapters.tables import IDENTITY, IDENTITY_PLACE
from salus.audit.ports import IdentityPlace


class SqlIdentityStore:
    """An `IdentityStore` on the engine of a `SqlTrail`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def identity_place(self) -> IdentityPlace | None:
        """Return how far the topic was read."""
        async with self._connection() as connection:
            row = (await connection.execute(select(IDENTITY_PLACE))).one_or_none()
        return None if row is None else IdentityPlace(row.shard, bytes(row.last_header))

    async def identity_events(self, end: int) -> dict[int, bytes]:
        """Return the values below an offset, in the order of their offsets."""
        query = select(IDENTITY).where(IDENTITY.c.offset < end).order_by(IDENTITY.c.offset)
        async with self._connection() as connection:
            return {row.offset: bytes(row.value) for row in await connection.execute(query)}

    async def note_identity(
        self, events: Mapping[int, bytes], place: IdentityPlace, *, before: IdentityPlace | None
    ) -> bool:
        """Keep events and how far they go, in one transaction, if it is read up to `before` still."""
        try:
            async with self._connection() as connection:
                if not await _move(connection, place, before):
                    return False
                if events:
                    # Nothing of ours stands beyond `before`: whatever does was put there by another hand.
                    await connection.execute(IDENTITY.delete().where(IDENTITY.c.offset >= min(events)))
                    rows = [{"offset": offset, "value": value} for offset, value in events.items()]
                    await connection.execute(IDENTITY.insert(), rows)
        except IntegrityError:
            # Two processes began at the same time: the other one has it.
            return False
        return True

    async def drop_identity(self) -> None:
        """Forget all of it."""
        async with self._connection() as connection:
            await forget_identity(connection)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[AsyncConnection]:
        with within_reach():
            async with self._engine.begin() as connection:
                yield connection


async def _move(connection: AsyncConnection, place: IdentityPlace, before: IdentityPlace | None) -> bool:
    values = {"shard": place.shard, "last_header": place.note}
    if before is None:
        await connection.execute(IDENTITY_PLACE.insert().values(name=IDENTITY_NAME, **values))
        return True
    here = (IDENTITY_PLACE.c.shard == before.shard, IDENTITY_PLACE.c.last_header == before.note)
    return (await connection.execute(IDENTITY_PLACE.update().where(*here).values(**values))).rowcount == 1
