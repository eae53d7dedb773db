"""The rows of the trail as they are stored, as `StoredTrail`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from sqlalchemy import ColumnElement, RowMapping, Table, and_, false, func, literal, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from salus.audit.adapters.derived_tables import DerivedTables, digest_of, open_derived_tables
from salus.audit.adapters.tables import (
    CLAIMS,
    COMPARISON,
    CONSENTS,
    IDENTITY,
    IDENTITY_PLACE,
    PATIENTS,
    SERVED,
    SHARDS,
    TRAIL,
    VERSIONS,
    row_of,
)
from salus.audit.domain.comparison import SEQ_MAX, Columns, TableRow
from salus.audit.domain.entry import TrailEntry
from salus.audit.ports import IdentityPlace, OutOfReachError, Snapshot, Tip, UnwritableError
from salus.runtime.database import DATABASE_AWAY, DatabaseAwayError, DatabaseRefusesError

LEDGER = "ledger"
IDENTITY_NAME = "identity"
# Beside the entries: each table with the columns that are its key and the one that holds the rest.
_BESIDE: dict[Table, tuple[tuple[str, ...], str | None]] = {
    PATIENTS: (("did", "pseudonym"), None),
    CONSENTS: (("patient", "id"), "consent"),
    VERSIONS: (("topic", "subject"), "version"),
    CLAIMS: (("topic", "name"), None),
    SERVED: (("place", "first"), "run"),
    IDENTITY: (("offset",), "value"),
}
_BESIDE_BY_NAME = {str(table.name): (table, columns) for table, columns in _BESIDE.items()}
# The rows of such a table that are read at once.
PAGE_ROWS = 2000


@contextmanager
def within_reach() -> Iterator[None]:
    """Raise OutOfReachError when the database is away, as UnwritableError when it writes nothing."""
    try:
        yield
    except DatabaseRefusesError as error:
        raise UnwritableError(f"the database writes nothing: {error}") from error
    except DATABASE_AWAY as error:
        why = error if isinstance(error, DatabaseAwayError) else "no connection is free"
        raise OutOfReachError(f"the database: {why}") from error


class SqlStoredTrail:
    """A `StoredTrail` on the engine of a `SqlTrail`."""

    def __init__(self, engine: AsyncEngine, folder: Path | None = None) -> None:
        self._engine = engine
        self._folder = folder
        self.repairs = 0

    def columns_of(self, entries: Sequence[TrailEntry]) -> list[Columns]:
        """Return the rows that entries make, without a position."""
        rows = (row_of(0, entry) for entry in entries)
        return [{name: value for name, value in row.items() if name != "seq"} for row in rows]

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Snapshot]:
        """Yield how far the trail is, and what stands beside it, as of one transaction."""
        async with open_derived_tables(self._folder) as tables:
            with within_reach():
                async with self._engine.connect() as plain:
                    seen = await _snapshot(await _of_one_moment(plain), tables)
            yield seen

    async def strays(
        self, ends: Mapping[int, int], *, until: int, after: tuple[int, int] | None, limit: int
    ) -> list[tuple[int, int]]:
        """Return shard and height of the next blocks with rows, up to a position, that no end is above."""
        at = tuple_(TRAIL.c.shard, TRAIL.c.height)
        indexed = [and_(TRAIL.c.shard == shard, TRAIL.c.height < end) for shard, end in ends.items()]
        places = select(TRAIL.c.shard, TRAIL.c.height).where(TRAIL.c.seq <= until, ~or_(false(), *indexed))
        if after is not None:
            places = places.where(at > after)
        query = places.distinct().order_by(TRAIL.c.shard, TRAIL.c.height).limit(limit)
        async with self._connection() as connection:
            return [(row.shard, row.height) for row in await connection.execute(query)]

    async def block(self, shard: int, height: int, *, limit: int) -> list[Columns]:
        """Return the rows that claim to be of a block, by index."""
        query = select(TRAIL).where(_of(shard, height)).order_by(TRAIL.c.index).limit(limit)
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

    async def put_rows(self, rows: Sequence[TableRow]) -> None:
        """Put rows right that are still as they were in the snapshot; what was indexed since stays."""
        async with self._connection() as connection:
            for row in rows:
                table, (names, held) = _BESIDE_BY_NAME[row.key[0]]
                if table is IDENTITY:
                    # It is read from the ledger again.
                    continue
                named = dict(zip(names, row.key[1:], strict=True))
                here = and_(*(table.c[name] == value for name, value in named.items()))
                there = (await connection.execute(select(table).where(here))).mappings().one_or_none()
                if (None if there is None else _held_digest(there, held)) != row.seen:
                    continue
                await connection.execute(table.delete().where(here))
                self.repairs += table is SERVED
                if row.is_derived:
                    values = named | ({held: row.value} if held else {})
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


async def _of_one_moment(plain: AsyncConnection) -> AsyncConnection:
    """Return a connection in a transaction that has one view of all tables.

    In SQLite every transaction has it, once there is one: the driver begins none before it reads.
    """
    is_sqlite = plain.dialect.name == "sqlite"
    level = "SERIALIZABLE" if is_sqlite else "REPEATABLE READ"
    connection = await plain.execution_options(isolation_level=level)
    if is_sqlite:
        await connection.exec_driver_sql("BEGIN")
    return connection


async def _snapshot(connection: AsyncConnection, tables: DerivedTables) -> Snapshot:
    rows = (await connection.execute(select(SHARDS))).all()
    tips = {row.shard: Tip(row.next_height, row.last_header) for row in rows}
    end = (await connection.execute(select(func.coalesce(func.max(TRAIL.c.seq), 0)))).scalar_one()
    at = (await connection.execute(select(IDENTITY_PLACE))).one_or_none()
    place = None if at is None else IdentityPlace(at.shard, bytes(at.last_header))
    count = 0
    for table in _BESIDE:
        async for page in _pages(connection, table):
            await tables.see(page)
            count += len(page)
    return Snapshot(tips, int(end), tables, count, place)


async def _pages(
    connection: AsyncConnection, table: Table
) -> AsyncIterator[list[tuple[str, str, str, bytes]]]:
    """Yield the rows of a table in the order of its key: name, key and digest."""
    names, held = _BESIDE[table]
    key = [table.c[name] for name in names]
    first = query = select(table).order_by(*key).limit(PAGE_ROWS)
    while rows := (await connection.execute(query)).mappings().all():
        seen = []
        for row in rows:
            one, *more = (row[name] for name in names)
            seen.append((str(table.name), one, more[0] if more else "", _held_digest(row, held)))
        yield seen
        query = first.where(tuple_(*key) > tuple_(*(literal(rows[-1][name]) for name in names)))


def _held_digest(row: RowMapping, held: str | None) -> bytes:
    return digest_of(row[held] if held else None)
