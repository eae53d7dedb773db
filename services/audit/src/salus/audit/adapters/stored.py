"""The rows of the trail as they are stored, as `StoredTrail`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from hashlib import sha256
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Table, and_, false, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from salus.audit.adapters.tables import (
    CLAIMS,
    COMPARISON,
    CONSENTS,
    IDENTITY,
    IDENTITY_PLACE,
    PATIENTS,
    SHARDS,
    TRAIL,
    VERSIONS,
    row_of,
    version_text,
)
from salus.audit.domain.comparison import SEQ_MAX, Columns, Key
from salus.audit.domain.directory import Directory
from salus.audit.domain.entry import TrailEntry
from salus.audit.ports import IdentityPlace, OutOfReachError, Snapshot, Tip
from salus.runtime.database import DATABASE_AWAY, DatabaseAwayError

LEDGER = "ledger"
IDENTITY_NAME = "identity"
# Beside the entries: each table with the columns that are its key and the one that holds the rest.
_BESIDE: dict[Table, tuple[tuple[str, ...], str | None]] = {
    PATIENTS: (("did", "pseudonym"), None),
    CONSENTS: (("patient", "id"), "consent"),
    VERSIONS: (("topic", "subject"), "version"),
    CLAIMS: (("topic", "name"), None),
}
_OF_IDENTITY: dict[Table, tuple[tuple[str, ...], str | None]] = {IDENTITY: (("offset",), "value")}


@contextmanager
def within_reach() -> Iterator[None]:
    """Raise OutOfReachError when the database is away."""
    try:
        yield
    except DATABASE_AWAY as error:
        why = error if isinstance(error, DatabaseAwayError) else "no connection is free"
        raise OutOfReachError(f"the database: {why}") from error


class SqlStoredTrail:
    """A `StoredTrail` on the engine of a `SqlTrail`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    def columns_of(self, entries: Sequence[TrailEntry]) -> list[Columns]:
        """Return the rows that entries make, without a position."""
        rows = (row_of(0, entry) for entry in entries)
        return [{name: value for name, value in row.items() if name != "seq"} for row in rows]

    def tables_of(self, directory: Directory) -> dict[Key, bytes]:
        """Return the digests of the rows that a directory makes."""
        return {key: _digest(value) for key, value in _rows_of(directory).items()}

    def identity_rows_of(self, digests: Mapping[int, bytes]) -> dict[Key, bytes]:
        """Return the digests of the rows that identity events make."""
        return {(str(IDENTITY.name), str(offset)): digest for offset, digest in digests.items()}

    async def snapshot(self) -> Snapshot:
        """Return how far the trail is, and what stands beside it, in one transaction."""
        with within_reach():
            async with self._engine.connect() as plain:
                # One view of all tables. In SQLite every transaction has it, once there is one: the driver
                # begins none before it reads.
                is_sqlite = plain.dialect.name == "sqlite"
                level = "SERIALIZABLE" if is_sqlite else "REPEATABLE READ"
                connection = await plain.execution_options(isolation_level=level)
                if is_sqlite:
                    await connection.exec_driver_sql("BEGIN")
                rows = (await connection.execute(select(SHARDS))).all()
                end = (await connection.execute(select(func.coalesce(func.max(TRAIL.c.seq), 0)))).scalar_one()
                at = (await connection.execute(select(IDENTITY_PLACE))).one_or_none()
                tables = {}
                for table, (names, held) in (_BESIDE | _OF_IDENTITY).items():
                    async for row in (await connection.stream(select(table))).mappings():
                        key = (str(table.name), *(str(row[name]) for name in names))
                        tables[key] = _digest(row[held] if held else b"")
        tips = {row.shard: Tip(row.next_height, row.last_header) for row in rows}
        place = None if at is None else IdentityPlace(at.shard, bytes(at.last_header))
        return Snapshot(tips, int(end), tables, place)

    async def strays(self, ends: Mapping[int, int], *, until: int) -> list[tuple[int, int]]:
        """Return shard and height of the blocks with rows, up to a position, that no end is above."""
        indexed = [and_(TRAIL.c.shard == shard, TRAIL.c.height < end) for shard, end in ends.items()]
        places = select(TRAIL.c.shard, TRAIL.c.height).where(TRAIL.c.seq <= until, ~or_(false(), *indexed))
        async with self._connection() as connection:
            rows = await connection.execute(places.distinct().order_by(TRAIL.c.shard, TRAIL.c.height))
            return [(row.shard, row.height) for row in rows]

    async def block(self, shard: int, height: int) -> list[Columns]:
        """Return the rows that claim to be of a block, by index."""
        query = select(TRAIL).where(_of(shard, height)).order_by(TRAIL.c.index)
        async with self._connection() as connection:
            return [dict(row) for row in (await connection.execute(query)).mappings()]

    async def put_block(self, shard: int, height: int, entries: Sequence[TrailEntry]) -> None:
        """Put these in the place of whatever claims to be of a block, at its positions if they are free."""
        async with self._connection() as connection:
            query = select(TRAIL.c.seq, TRAIL.c.index).where(_of(shard, height)).order_by(TRAIL.c.index)
            first = next((row.seq - row.index for row in (await connection.execute(query)).all()), None)
            await connection.execute(TRAIL.delete().where(_of(shard, height)))
            uids = [entry.uid for entry in entries]
            for start in range(0, len(uids), 500):
                # A leaf stands once on the ledger: elsewhere it has no place.
                await connection.execute(TRAIL.delete().where(TRAIL.c.uid.in_(uids[start : start + 500])))
            first = await _free(connection, first, len(entries))
            if entries:
                rows = [row_of(first + index, entry) for index, entry in enumerate(entries)]
                await connection.execute(TRAIL.insert(), rows)

    async def put_tables(self, directory: Directory, keys: Collection[Key], seen: Snapshot) -> None:
        """Put rows right that are still as they were in a snapshot; what was indexed since stays."""
        wanted = _rows_of(directory)
        async with self._connection() as connection:
            for table, (names, held) in _BESIDE.items():
                for key in (key for key in keys if key[0] == table.name):
                    named = dict(zip(names, key[1:], strict=True))
                    here = and_(*(table.c[name] == value for name, value in named.items()))
                    row = (await connection.execute(select(table).where(here))).mappings().one_or_none()
                    now = None if row is None else _digest(row[held] if held else b"")
                    if now != seen.tables.get(key):
                        continue
                    await connection.execute(table.delete().where(here))
                    if key in wanted:
                        values = named | ({held: wanted[key]} if held else {})
                        await connection.execute(table.insert().values(values))

    async def drop_identity(self) -> None:
        """Forget what is kept of the identity topic."""
        async with self._connection() as connection:
            await forget_identity(connection)

    async def put_tip(self, shard: int, tip: Tip, seen: Tip) -> None:
        """Put a shard's tip right, if it is still as it was seen."""
        here = (SHARDS.c.shard == shard, SHARDS.c.next_height == seen.height)
        async with self._connection() as connection:
            if tip.note is None:
                await connection.execute(SHARDS.delete().where(*here))
            else:
                values = {"next_height": tip.height, "last_header": tip.note}
                await connection.execute(SHARDS.update().where(*here).values(**values))

    async def outcome(self) -> bytes | None:
        """Return what was noted of the comparison."""
        async with self._connection() as connection:
            query = select(COMPARISON.c.outcome).where(COMPARISON.c.name == LEDGER)
            outcome = (await connection.execute(query)).scalar_one_or_none()
        return None if outcome is None else bytes(outcome)

    async def set_outcome(self, outcome: bytes) -> None:
        """Note what the comparison found, for the next start."""
        async with self._connection() as connection:
            await connection.execute(COMPARISON.delete().where(COMPARISON.c.name == LEDGER))
            await connection.execute(COMPARISON.insert().values(name=LEDGER, outcome=outcome))

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[AsyncConnection]:
        with within_reach():
            async with self._engine.begin() as connection:
                yield connection


async def forget_identity(connection: AsyncConnection) -> None:
    """Empty what is kept of the identity topic: it is read from the ledger again."""
    await connection.execute(IDENTITY.delete())
    await connection.execute(IDENTITY_PLACE.delete())


def _of(shard: int, height: int) -> ColumnElement[bool]:
    return and_(TRAIL.c.shard == shard, TRAIL.c.height == height)


async def _free(connection: AsyncConnection, first: int | None, count: int) -> int:
    """Return where so many rows may stand: from `first` on if nothing else is there, else at the end."""
    if first is not None and 0 < first < SEQ_MAX:
        between = TRAIL.c.seq.between(first, first + count - 1)
        taken = (await connection.execute(select(func.count()).where(between))).scalar_one()
        if not taken:
            return first
    return await last_position(connection) + 1


async def last_position(connection: AsyncConnection) -> int:
    """Return the newest position; those that no entry can have do not count."""
    newest = select(func.coalesce(func.max(TRAIL.c.seq), 0)).where(TRAIL.c.seq.between(0, SEQ_MAX))
    return int((await connection.execute(newest)).scalar_one())


def _rows_of(directory: Directory) -> dict[Key, bytes]:
    rows: dict[Key, bytes] = {(str(PATIENTS.name), *link): b"" for link in directory.linked}
    rows |= {
        (str(CONSENTS.name), *place): msgspec.json.encode(consent)
        for place, consent in directory.changed_consents.items()
    }
    rows |= {(str(VERSIONS.name), *at): version_text(n) for at, n in directory.effects.changed.items()}
    rows |= {(str(CLAIMS.name), *name): b"" for name in directory.effects.claimed}
    return rows


def _digest(value: Any) -> bytes:
    return sha256(value).digest()
