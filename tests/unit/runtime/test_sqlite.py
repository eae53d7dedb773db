"""Whoever reads a SQLite file holds up nobody who writes to it, and no statement runs without end.

A search of one member's analysts stopped all that audit writes: readers and writers took turns, for as long
as a reader liked.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from salus.runtime import sqlite
from salus.runtime.database import DatabaseAwayError, DatabaseRefusesError, open_engine, shown

ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite+aiosqlite:///{tmp_path}/kept.db"


@asynccontextmanager
async def opened(url: str, **settings: Any) -> AsyncIterator[AsyncEngine]:
    engine = open_engine(url, **settings)
    try:
        yield engine
    finally:
        await engine.dispose()


def modes_in(folder: Path) -> dict[str, int]:
    return {each.name: each.stat().st_mode & 0o777 for each in folder.iterdir()}


async def count(connection: AsyncConnection) -> int:
    found = (await connection.execute(text("SELECT count(*) FROM kept"))).scalar_one()
    assert isinstance(found, int)
    return found


async def test_who_reads_holds_up_nobody_who_writes(url: str) -> None:
    async with opened(url) as engine, opened(url) as asked:
        async with engine.begin() as writing:
            await writing.execute(text("CREATE TABLE kept (a INTEGER)"))
        async with asked.connect() as reading:
            await reading.exec_driver_sql("BEGIN")
            assert await count(reading) == 0

            async with engine.begin() as writing:
                await writing.execute(text("INSERT INTO kept VALUES (1)"))

            assert await count(reading) == 0
        async with asked.connect() as reading:
            assert await count(reading) == 1


async def test_a_statement_has_a_limit_of_time(url: str) -> None:
    async with opened(url, statement_s_max=0.01) as engine, engine.connect() as connection:
        with pytest.raises(DatabaseAwayError):
            await connection.execute(text(ENDLESS))
        await connection.rollback()

        # What comes after it has a time of its own.
        assert (await connection.execute(text("SELECT 1"))).scalar_one() == 1


async def test_a_migration_takes_as_long_as_it_needs(url: str) -> None:
    async with opened(url, statement_s_max=-1) as engine, engine.connect() as connection:
        some = text(ENDLESS.replace("FROM n)", "FROM n WHERE x < 200000)"))
        with pytest.raises(DatabaseAwayError):
            await connection.execute(some)
        await connection.rollback()

        without = await connection.execution_options(**sqlite.UNLIMITED)
        assert (await without.execute(some)).scalar_one() == 200000


async def test_the_log_is_as_private_as_the_file_and_goes_with_the_last_connection(
    url: str, tmp_path: Path
) -> None:
    file = tmp_path / "kept.db"
    file.touch(0o600)
    async with opened(url) as engine:
        async with engine.begin() as writing:
            await writing.execute(text("CREATE TABLE kept (a INTEGER)"))
        in_use = modes_in(tmp_path)

    assert in_use == {"kept.db": 0o600, "kept.db-shm": 0o600, "kept.db-wal": 0o600}
    assert modes_in(tmp_path) == {"kept.db": 0o600}


async def test_a_file_that_is_none_is_not_away(url: str, tmp_path: Path) -> None:
    (tmp_path / "kept.db").write_bytes(b"no database, but as long as the header of one has to be: " * 4)

    async with opened(url) as engine:
        with pytest.raises(DatabaseError):
            await engine.connect()


async def test_a_file_that_is_locked_is_away(url: str, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "kept.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        async with opened(f"{url}?timeout=0") as engine:
            with pytest.raises(DatabaseAwayError):
                await engine.connect()


REFUSING = {"its disk is full": "PRAGMA max_page_count = 1", "it only reads": "PRAGMA query_only = 1"}


@pytest.mark.parametrize("why", REFUSING)
async def test_a_database_that_writes_nothing_says_so_and_goes_on_by_itself(url: str, why: str) -> None:
    async with opened(url) as engine, engine.connect() as connection:
        await connection.execute(text("CREATE TABLE kept (a)"))
        await connection.commit()
        await connection.exec_driver_sql(REFUSING[why])
        with pytest.raises(DatabaseRefusesError) as refused:
            await connection.execute(text("INSERT INTO kept VALUES (zeroblob(100000))"))
        await connection.rollback()
        await connection.exec_driver_sql("PRAGMA query_only = 0")
        await connection.exec_driver_sql("PRAGMA max_page_count = 100000")
        await connection.execute(text("INSERT INTO kept VALUES (zeroblob(100000))"))

        assert await count(connection) == 1
    assert shown(refused.value) == f"DatabaseRefusesError: {why}"


async def test_a_file_that_cannot_be_opened_is_named_without_its_path(tmp_path: Path) -> None:
    async with opened(f"sqlite+aiosqlite:///{tmp_path}/nowhere/kept.db") as engine:
        with pytest.raises(DatabaseRefusesError) as refused:
            await engine.connect()

    assert str(refused.value) == "its file cannot be opened"


async def test_only_what_can_be_rebuilt_waits_for_no_disk(url: str) -> None:
    found = []
    for is_rebuilt in (False, True):
        async with opened(url, is_rebuilt=is_rebuilt) as engine, engine.connect() as connection:
            found.append((await connection.exec_driver_sql("PRAGMA synchronous")).scalar_one())

    full, normal = 2, 1
    assert found == [full, normal]
