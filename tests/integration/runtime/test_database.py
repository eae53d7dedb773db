"""Every way in which PostgreSQL can be away is one error, which everybody waits for or answers 503 to.

Cases of the third attack: a pool that is used up, a server that stops, and sessions that it ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest
from sqlalchemy import BigInteger, Integer, String, bindparam, cast, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.integration.postgres import dsn, new_database, running_server

from salus.runtime import database
from salus.runtime.database import DATABASE_AWAY, DatabaseAwayError, DatabaseRefusesError, open_engine


@asynccontextmanager
async def opened(url: str, **settings: Any) -> AsyncIterator[AsyncEngine]:
    engine = open_engine(url, **settings)
    try:
        yield engine
    finally:
        await engine.dispose()


AWAY = {
    "the session is ended": ["SELECT pg_terminate_backend(pg_backend_pid())"],
    "the statement takes too long": ["SET statement_timeout = 10", "SELECT pg_sleep(60)"],
    "the server only reads": ["SET TRANSACTION READ ONLY", "CREATE TABLE t (a int)"],
}


@pytest.mark.parametrize("name", AWAY)
async def test_what_passes_is_away(postgres: str, name: str) -> None:
    async with opened(postgres) as engine:
        with pytest.raises(DatabaseAwayError) as away:
            await run(engine, *AWAY[name])

        assert isinstance(away.value, DatabaseRefusesError) == (name == "the server only reads")

        async with engine.connect() as connection:
            assert (await connection.execute(select(1))).scalar_one() == 1


async def test_a_statement_has_a_limit_of_time(postgres: str) -> None:
    async with opened(postgres, statement_s_max=0.01) as engine, engine.connect() as connection:
        with pytest.raises(DatabaseAwayError):
            await connection.execute(text("SELECT pg_sleep(60)"))


async def test_of_two_that_wait_for_each_other_one_may_try_again(postgres: str) -> None:
    async with opened(postgres) as engine:
        async with engine.begin() as connection:
            await connection.execute(text("CREATE TABLE t AS SELECT 1 AS a UNION SELECT 2"))
        met = asyncio.Barrier(2)

        async def change(first: int, second: int) -> None:
            async with engine.begin() as connection:
                await connection.execute(text(f"UPDATE t SET a = a WHERE a = {first}"))
                await met.wait()
                await connection.execute(text(f"UPDATE t SET a = a WHERE a = {second}"))

        outcomes = await asyncio.gather(change(1, 2), change(2, 1), return_exceptions=True)

    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["DatabaseAwayError", "NoneType"]


async def test_a_pool_that_is_used_up_is_away(postgres: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "POOL_WAIT_S_MAX", 0.01)
    monkeypatch.setattr(database, "POOL_CONNECTIONS", 1)
    monkeypatch.setattr(database, "POOL_CONNECTIONS_MAX", 1)

    async with opened(postgres) as engine, engine.connect():
        with pytest.raises(DATABASE_AWAY):
            await engine.connect()


async def test_a_server_that_restarts_is_away_and_comes_back() -> None:
    async with running_server() as server:
        url = server.url(await new_database(server))
        async with opened(url) as engine:
            async with engine.connect() as connection:
                await connection.execute(select(1))
            killer = await asyncpg.connect(dsn(server))
            await killer.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE pid <> pg_backend_pid() AND datname IS NOT NULL"
            )
            await killer.close()
            with pytest.raises(DatabaseAwayError):
                await ask(engine)
            await ask(engine)
    async with opened(url) as engine:
        with pytest.raises(DatabaseAwayError, match="no connection"):
            await ask(engine)


async def run(engine: AsyncEngine, *statements: str) -> None:
    async with engine.begin() as connection:
        for statement in statements:
            await connection.execute(text(statement))


async def ask(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        await connection.execute(select(1))


async def test_what_can_never_go_well_is_not_away(postgres: str) -> None:
    async with opened(postgres) as engine:
        await run(engine, "CREATE TABLE t (a int PRIMARY KEY)", "INSERT INTO t VALUES (1)")
        with pytest.raises(IntegrityError):
            await run(engine, "INSERT INTO t VALUES (1)")
        with pytest.raises(ProgrammingError):
            await run(engine, "SELECT nothing FROM nowhere")
        for kind, value in ((Integer(), 2**31), (BigInteger(), 2**63), (String(), "a\0b")):
            async with engine.connect() as connection:
                with pytest.raises(DBAPIError):
                    await connection.execute(select(cast(bindparam("a", value, kind), kind)))
