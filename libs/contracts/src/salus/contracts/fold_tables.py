"""The fold's tables, and the statements that read and write many rows of them at once."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import msgspec
from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    TextClause,
    bindparam,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

_metadata = MetaData()
POSITIONS = Table(
    "fold_positions",
    _metadata,
    Column("topic", String(249), primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("next_offset", BigInteger, nullable=False),
    Column("last_offset", BigInteger),
    Column("last_digest", LargeBinary(32)),
    Column("folded_by", LargeBinary(32)),
    Column("release", BigInteger),
)
AGGREGATES = Table(
    "fold_aggregates",
    _metadata,
    Column("kind", String(64), primary_key=True),
    Column("id", String(256), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("state", LargeBinary, nullable=False),
)
OUTCOMES = Table(
    "fold_outcomes",
    _metadata,
    Column("topic", String(249), primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("offset", BigInteger, primary_key=True),
    Column("version", Integer),
    Column("no_effect", String(64)),
    Column("refused", String(64)),
)
# The names that events claimed, and what requests stand on a topic.
# In SQLite each row is in the index of its key alone: names are random, and every page costs a batch.
CLAIMS = Table(
    "fold_claims",
    _metadata,
    Column("topic", String(249), primary_key=True),
    Column("name", String(512), primary_key=True),
    sqlite_with_rowid=False,
)
# The tables that contracts declare, and a digest of each one's definition.
DECLARED = Table(
    "fold_declared",
    _metadata,
    Column("name", String(63), primary_key=True),
    Column("definition", LargeBinary(32), nullable=False),
)
# What aggregates oblige to and is not settled. The fold writes and removes rows; when a row is due, and after
# how many attempts, is for the reactors' hosts to say (`salus.contracts.obligations`).
OBLIGATIONS = Table(
    "fold_obligations",
    _metadata,
    Column("reactor", String(64), primary_key=True),
    Column("aggregate", String(256), primary_key=True),
    Column("key", String(256), primary_key=True),
    Column("since_ms", BigInteger, nullable=False),
    Column("due_ms", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False),
    Index("fold_obligations_due", "reactor", "due_ms"),
)

_POSITION, _AGGREGATE, _CLAIM = range(3)
# One statement has one view of the database: positions, states and claims in it belong together.
_SNAPSHOT = """
SELECT 0 AS what, topic AS a, '' AS b, partition AS part, next_offset AS n, folded_by AS state
FROM fold_positions
UNION ALL SELECT 1, f.kind, f.id, 0, f.version, f.state {aggregates}
UNION ALL SELECT 2, f.topic, f.name, 0, 0, NULL {claims}
"""
# SQLite's comes as one row: its thread takes the interpreter lock anew for each row, while others compute.
_AS_ONE_ROW = """
SELECT json_group_array(json_array(
    what, a, b, part, n, CASE what WHEN 0 THEN hex(state) ELSE CAST(state AS TEXT) END
))
FROM ({found})
"""
_FOUND = msgspec.json.Decoder(list[tuple[int, str, str, int, int, str | None]])
# All names in one parameter each: a statement with a parameter for each is parsed anew each time. SQLite gets
# those of a kind together, and looks for one after the other: with each pair by itself it took twice as long.
_LOOKUPS = {
    "sqlite": "FROM json_each(:{given}) AS x CROSS JOIN json_each(x.value) AS y CROSS JOIN {table} AS f "
    "WHERE f.{a} = x.key AND f.{b} = y.value",
    "postgresql": "FROM {table} AS f WHERE (f.{a}, f.{b}) IN "
    "(SELECT * FROM unnest(CAST(:{given}_a AS text[]), CAST(:{given}_b AS text[])))",
}
_CLAIMING = {
    "sqlite": text(
        "INSERT INTO fold_claims (topic, name) SELECT :topic, value FROM json_each(:names) WHERE true "
        "ON CONFLICT DO NOTHING"
    ),
    "postgresql": text(
        "INSERT INTO fold_claims (topic, name) SELECT CAST(:topic AS text), unnest(CAST(:names AS text[])) "
        "ON CONFLICT DO NOTHING"
    ),
}
# Of what type PostgreSQL takes the values of a column together.
_ARRAYS = {str: "text", int: "bigint", bool: "boolean", bytes: "bytea"}
# Below what SQLite takes in a statement; more gain nothing.
SQLITE_PARAMETERS_MAX = 4_096
SQLITE_FEW_ROWS_MAX = 128
Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Loaded:
    """An aggregate as stored: its encoded state, and its subject's version when that last changed."""

    version: int
    state: bytes


@dataclass(slots=True)
class Snapshot:
    """What was asked for as it is at the positions, which are the next offsets to fold by partition.

    `rows` are aggregates by kind and id, `claims` names by topic; what is not there is left out. `folded_by`
    are the digests of the code that the positions are of.
    """

    positions: dict[tuple[str, int], int] = field(default_factory=dict)
    rows: dict[Pair, Loaded] = field(default_factory=dict)
    claims: set[Pair] = field(default_factory=set)
    folded_by: set[bytes | None] = field(default_factory=set)


async def read_snapshot(
    connection: AsyncConnection, *, keys: Collection[Pair], names: Collection[Pair]
) -> Snapshot:
    """Return these aggregates (kind, id) and claims (topic, name) with the positions, by one statement.

    Each is asked for once.
    """
    dialect = connection.dialect.name
    given = {**_pairs(dialect, "keys", keys), **_pairs(dialect, "names", names)}
    result = await connection.execute(_snapshot_statement(dialect), given)
    found = Snapshot()
    for what, a, b, part, number, state in _unpacked(result.scalar_one()) if dialect == "sqlite" else result:
        if what == _AGGREGATE:
            found.rows[a, b] = Loaded(number, state or b"")
        elif what == _CLAIM:
            found.claims.add((a, b))
        else:
            found.positions[a, part] = number
            found.folded_by.add(state)
    return found


def _unpacked(row: str) -> Iterator[tuple[int, str, str, int, int, bytes | None]]:
    """Yield the rows that came as one."""
    for what, a, b, part, number, state in _FOUND.decode(row):
        if what == _POSITION:
            yield what, a, b, part, number, bytes.fromhex(state) if state else None
        else:
            yield what, a, b, part, number, None if state is None else state.encode()


async def write_rows(
    connection: AsyncConnection, table: Table, rows: list[dict[str, Any]], *, over: bool = True
) -> None:
    """Write rows of the same columns, each key once; those that are there are written over, or else stay."""
    if not rows:
        return
    columns = tuple(rows[0])
    if connection.dialect.name != "sqlite":
        given = {f"p{number}": [row[name] for row in rows] for number, name in enumerate(columns)}
        await connection.execute(_postgres_upsert(table, columns, over=over), given)
        return
    at = 0
    for taken, count in _counts(len(rows), len(columns)):
        upsert, order = _sqlite_upsert(table, columns, count, over=over)
        some = rows[at : at + taken]
        # What is written twice is there once.
        some += some[-1:] * (count - taken)
        values = tuple(row[name] for row in some for name in order)
        await connection.exec_driver_sql(upsert, values)
        at += taken


async def write_claims(connection: AsyncConnection, topic: str, names: Iterable[str]) -> None:
    """Write names that are claimed on a topic; those that are there stay.

    One statement for all of them, as `write_rows` has one for many rows; in the order of the names, so that
    those that go to one page of the index follow each other.
    """
    claimed = sorted(names)
    if claimed:
        dialect = connection.dialect.name
        given = msgspec.json.encode(claimed).decode() if dialect == "sqlite" else claimed
        await connection.execute(_CLAIMING[dialect], {"topic": topic, "names": given})


async def delete_rows(connection: AsyncConnection, table: Table, keys: list[tuple[Any, ...]]) -> None:
    """Delete the rows of these primary keys."""
    if keys:
        names = [f"key_{number}" for number in range(len(keys[0]))]
        given = [dict(zip(names, key, strict=True)) for key in keys]
        await connection.execute(_delete(table), given)


@lru_cache
def _delete(table: Table) -> Any:
    columns = enumerate(table.primary_key)
    return table.delete().where(*(column == bindparam(f"key_{number}") for number, column in columns))


@lru_cache
def _snapshot_statement(dialect: str) -> TextClause:
    lookup = _LOOKUPS[dialect]
    aggregates = lookup.format(given="keys", table="fold_aggregates", a="kind", b="id")
    claims = lookup.format(given="names", table="fold_claims", a="topic", b="name")
    found = _SNAPSHOT.format(aggregates=aggregates, claims=claims)
    return text(_AS_ONE_ROW.format(found=found) if dialect == "sqlite" else found)


def _pairs(dialect: str, name: str, pairs: Collection[Pair]) -> Mapping[str, Any]:
    if dialect == "sqlite":
        grouped: dict[str, list[str]] = {}
        for a, b in pairs:
            grouped.setdefault(a, []).append(b)
        return {name: msgspec.json.encode(grouped).decode()}
    return {f"{name}_a": [a for a, _ in pairs], f"{name}_b": [b for _, b in pairs]}


def _counts(rows: int, columns: int) -> Iterator[tuple[int, int]]:
    """Yield how many rows each statement of SQLite's takes, and how many it has room for.

    Each statement is handed to a thread and back, three times, while others compute. So they are few, and as
    long as the next power of two, so that few texts are parsed. To parse that of few rows takes less than to
    write some of them twice.
    """
    most = 1 << (SQLITE_PARAMETERS_MAX // columns).bit_length() - 1
    few = min(most, SQLITE_FEW_ROWS_MAX)
    while rows:
        taken = min(rows, most)
        yield taken, taken if taken <= few else 1 << (taken - 1).bit_length()
        rows -= taken


@lru_cache(maxsize=1024)
def _sqlite_upsert(
    table: Table, columns: tuple[str, ...], count: int, *, over: bool
) -> tuple[str, list[str]]:
    """Return an upsert of so many rows, and in which order the values of each come."""
    # Compiled of many rows it would take long; so the text of one is repeated.
    one = _upsert(sqlite.insert(table), table, columns, over=over).values(
        {name: bindparam(name) for name in columns}
    )
    compiled = one.compile(dialect=sqlite.dialect())
    places = f"({', '.join('?' * len(columns))})"
    head, _, tail = str(compiled).partition(f"VALUES {places}")
    return f"{head}VALUES {', '.join([places] * count)}{tail}", list(compiled.positiontup)


@lru_cache(maxsize=256)
def _postgres_upsert(table: Table, columns: tuple[str, ...], *, over: bool) -> Any:
    """Return an upsert of any number of rows, each of its parameters an array with a column of theirs."""
    kinds = (_ARRAYS[table.columns[name].type.python_type] for name in columns)
    arrays = ", ".join(f"CAST(:p{number} AS {kind}[])" for number, kind in enumerate(kinds))
    found = text(f"SELECT * FROM unnest({arrays})")  # noqa: S608  # types of our own and numbers
    rows = found.columns(*(table.columns[name] for name in columns))
    return _upsert(postgresql.insert(table).from_select(columns, rows), table, columns, over=over)


def _upsert(insert: Any, table: Table, columns: tuple[str, ...], *, over: bool) -> Any:
    keys = [column.name for column in table.primary_key]
    changed = {name: insert.excluded[name] for name in columns if name not in keys}
    if not over or not changed:
        return insert.on_conflict_do_nothing(index_elements=keys)
    return insert.on_conflict_do_update(index_elements=keys, set_=changed)
