"""A database that a service folded, compared with what the topics come to: names the first row that differs.

The topics are folded anew into a scratch database, up to exactly where the live one is, which others may go
on folding meanwhile: its rows are read in one view of it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sqlalchemy import String, Table, collate, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from salus.contracts.fold import Follower
from salus.contracts.fold_batch import SEEN
from salus.contracts.fold_marks import require_same_topics
from salus.contracts.fold_store import FoldStore, open_fold_store
from salus.contracts.fold_tables import AGGREGATES, CLAIMS, OBLIGATIONS
from salus.contracts.partitions import folded_partitions
from salus.contracts.projection import Contract, digest_of, tables_of
from salus.contracts.reactors import Reactor
from salus.messaging import Bootstrap, Reader
from salus.runtime.database import open_engine
from salus.runtime.identity_view import open_identity_view
from salus.runtime.migrating import without_limit
from salus.runtime.network import Network

Partition = tuple[str, int]
# What the hosts of reactors write says when something is tried, and no topic says that.
_OF_HOSTS = frozenset({OBLIGATIONS.c.due_ms, OBLIGATIONS.c.attempts})


@dataclass(frozen=True, slots=True)
class Difference:
    """The first row that is not what the topics come to; `live` or `anew` is None where there is none."""

    table: str
    key: tuple[Any, ...]
    live: Mapping[str, Any] | None
    anew: Mapping[str, Any] | None

    @property
    def sentence(self) -> str:
        """Say which row differs, and in which columns; never what is in them."""
        where = f"{self.table} {self.key}"
        if self.live is None:
            return f"{where}: the row is missing"
        if self.anew is None:
            return f"{where}: the topics do not come to this row"
        columns = [name for name, value in self.anew.items() if self.live[name] != value]
        return f"{where}: the topics come to another {', '.join(columns)}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """Up to where both were folded, how many rows were alike before the first that is not, and that one."""

    positions: Mapping[Partition, int]
    rows: int
    difference: Difference | None


async def compare_with_topics(
    database_url: str,
    *,
    contracts: Sequence[Contract[Any]],
    reactors: Sequence[Reactor[Any]] = (),
    network: Network,
    bootstrap: Bootstrap,
) -> Comparison:
    """Compare a database with what the topics come to.

    Raises:
        OtherCodeError: another version of the service folded it; compare with that one.
        OtherTopicsError: it was folded from other topics.
        MessagingError: the broker is away.
        DatabaseAwayError: the database is.
    """
    topics = dict.fromkeys(contract.topic for contract in contracts)
    async with open_identity_view(bootstrap, network) as identity:
        ring = await identity.catch_up()
    partitions = folded_partitions(
        topics, network=network, assignments=ring.assignments, catalogue=ring.catalogue
    )
    engine = open_engine(database_url)
    try:
        async with (
            open_identity_view(bootstrap, network) as identity,
            _scratch() as scratch,
            Reader(
                bootstrap, starts=dict.fromkeys(partitions, 0), restored=network.restored_ranges()
            ) as reader,
        ):
            code = digest_of(contracts, identity.ring.catalogue, [each.declared for each in reactors])
            live = FoldStore(engine, code=code)
            await require_same_topics(bootstrap, await live.marks())
            await scratch.begin(partitions, code=code, tables=tables_of(contracts))
            follower = Follower(
                reader, store=scratch, identity=identity, contracts=contracts, reactors=reactors
            )
            # Most is folded before the view of the live one begins, which it keeps up for its length.
            await follower.fold_up_to(await live.positions())
            async with one_view(engine) as connection:
                positions = await live.positions_in(connection)
                await follower.fold_up_to(positions)
                tables = [AGGREGATES, CLAIMS, OBLIGATIONS, *(each.table for each in tables_of(contracts))]
                async with scratch.engine.connect() as anew:
                    rows, difference = await first_difference(connection, anew, tables)
        return Comparison(positions, rows, difference)
    finally:
        await engine.dispose()


@asynccontextmanager
async def _scratch() -> AsyncIterator[FoldStore]:
    with TemporaryDirectory(prefix="salus-fold-") as folder:
        async with open_fold_store(f"sqlite+aiosqlite:///{Path(folder) / 'anew.db'}") as store:
            yield store


@asynccontextmanager
async def one_view(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """Yield a connection that sees the database as it is at its first statement, whatever is written then."""
    async with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            await connection.exec_driver_sql("BEGIN")
        else:
            await connection.execution_options(isolation_level="REPEATABLE READ")
        await without_limit(connection)
        yield connection


async def first_difference(
    live: AsyncConnection, anew: AsyncConnection, tables: Iterable[Table]
) -> tuple[int, Difference | None]:
    """Return how many rows are alike, table by table in the order of their keys, and the first other one."""
    alike = 0
    for table in tables:
        here, there = _rows(live, table), _rows(anew, table)
        while True:
            a, b = await anext(here, None), await anext(there, None)
            if a is None and b is None:
                break
            if a != b:
                return alike, _difference(table, a, b)
            alike += 1
    return alike, None


async def _rows(connection: AsyncConnection, table: Table) -> AsyncIterator[dict[str, Any]]:
    is_text_sorted = connection.dialect.name != "sqlite"
    order = [
        collate(column, "C") if is_text_sorted and isinstance(column.type, String) else column
        for column in table.primary_key
    ]
    query = select(*(column for column in table.columns if column not in _OF_HOSTS)).order_by(*order)
    if table is CLAIMS:
        # They matter for as long as a token is valid, and a fold of what is old leaves them out.
        query = query.where(CLAIMS.c.name.not_like(f"{SEEN}%"))
    async with connection.stream(query) as rows:
        async for row in rows.mappings():
            yield dict(row)


def _difference(table: Table, live: dict[str, Any] | None, anew: dict[str, Any] | None) -> Difference:
    key = [column.name for column in table.primary_key]
    a, b = _key_of(live, key), _key_of(anew, key)
    if a == b:
        return Difference(table.name, a, live, anew)
    if anew is None or (live is not None and _place(a) < _place(b)):
        return Difference(table.name, a, live, None)
    return Difference(table.name, b, None, anew)


def _key_of(row: Mapping[str, Any] | None, key: Collection[str]) -> tuple[Any, ...]:
    return () if row is None else tuple(row[name] for name in key)


def _place(key: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return what keys are ordered by: texts by their bytes, as the databases do it here."""
    return tuple(value.encode() if isinstance(value, str) else value for value in key)
