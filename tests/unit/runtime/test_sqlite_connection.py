"""A statement goes to its connection's thread once, and who streams its rows keeps few of them."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from salus.runtime.database import open_engine
from salus.runtime.sqlite_connection import ROWS_AT_ONCE, StatementConnection, StatementCursor, connect

NUMBERS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < :most) SELECT x FROM n"


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the threads of connections were asked for."""
    asked: list[str] = []
    execute = StatementConnection._execute

    async def counted(self: StatementConnection, call: Callable[..., Any], *arguments: Any) -> Any:
        asked.append(call.__name__)
        return await execute(self, call, *arguments)

    monkeypatch.setattr(StatementConnection, "_execute", counted)
    return asked


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    made = open_engine(f"sqlite+aiosqlite:///{tmp_path}/kept.db")
    async with made.begin() as connection:
        await connection.execute(text("CREATE TABLE kept (a INTEGER PRIMARY KEY)"))
    yield made
    await made.dispose()


async def test_a_statement_goes_to_the_thread_once_and_a_transaction_once_more(
    engine: AsyncEngine, calls: list[str]
) -> None:
    async with engine.connect() as connection:
        calls.clear()
        assert (await connection.execute(text(NUMBERS), {"most": 9})).scalars().all() == [*range(1, 10)]
    assert calls == ["executed"]

    calls.clear()
    async with engine.begin() as connection:
        written = await connection.execute(text("INSERT INTO kept VALUES (1), (2)"))
        assert written.rowcount == 2
        await connection.execute(text("INSERT INTO kept VALUES (:a)"), [{"a": 3}, {"a": 4}])
    assert calls == ["executed", "executed", "commit"]


async def test_what_is_rolled_back_is_gone_and_what_is_committed_stays(engine: AsyncEngine) -> None:
    async def fails() -> None:
        async with engine.begin() as connection:
            await connection.execute(text("INSERT INTO kept VALUES (1)"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fails()
    async with engine.begin() as connection:
        await connection.execute(text("INSERT INTO kept VALUES (2)"))
    async with engine.connect() as connection:
        # Nobody commits this one.
        await connection.execute(text("INSERT INTO kept VALUES (3)"))
    async with engine.connect() as connection:
        found = (await connection.execute(text("SELECT a FROM kept"))).scalars().all()

    assert found == [2]


@pytest.mark.parametrize("most", [0, 1, ROWS_AT_ONCE - 1, ROWS_AT_ONCE, ROWS_AT_ONCE + 1, 2 * ROWS_AT_ONCE])
async def test_a_result_is_whole_however_it_is_fetched(engine: AsyncEngine, most: int) -> None:
    statement, numbers = text(NUMBERS), [*range(1, most + 1)] or [1]
    async with engine.connect() as connection:
        whole = (await connection.execute(statement, {"most": most})).scalars().all()
        async with connection.stream(statement, {"most": most}) as rows:
            streamed = [row.x async for row in rows]
        async with connection.stream(statement, {"most": most}) as rows:
            pieces = [row.x async for piece in rows.partitions(7) for row in piece]

    assert whole == streamed == pieces == numbers


async def test_who_streams_a_result_keeps_a_piece_of_it(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        driver = await connection.get_raw_connection()
        connected = driver.driver_connection
        assert isinstance(connected, StatementConnection)
        cursor = StatementCursor(connected)
        await cursor.execute(NUMBERS.replace(":most", "100000"))
        most = 0
        async for _ in cursor:
            most = max(most, len(cursor._rows))

        assert most < 2 * ROWS_AT_ONCE
        # Who leaves one in the middle leaves no statement that would hold up the file.
        await cursor.execute(NUMBERS.replace(":most", "100000"))
        await cursor.close()
        assert await cursor.fetchone() is None


class Text(str):
    """A text of which one can learn whether it is still there."""

    __slots__ = ("__weakref__",)


async def test_an_idle_connection_keeps_no_rows_and_no_parameters() -> None:
    """It may lie in a pool for hours."""
    connection = connect(":memory:")
    await connection
    await connection.in_thread(lambda: setattr(connection.driver, "text_factory", lambda b: Text(b.decode())))
    statement = NUMBERS.replace("SELECT x FROM", "SELECT 'row ' || x, ? FROM")
    for fetch, most in (("fetchall", 3), ("fetchall", 2 * ROWS_AT_ONCE), ("fetchone", 3)):
        parameter = Text("parameter")
        cursor = connection.cursor()
        await cursor.execute(statement.replace(":most", str(most)), (parameter,))
        found = await getattr(cursor, fetch)()
        last = found[-1]
        kept = [weakref.ref(parameter), weakref.ref(last if isinstance(last, Text) else last[0])]
        await cursor.close()
        del parameter, found, last, cursor
        gc.collect()

        assert [each() for each in kept] == [None, None]
    await connection.close()


async def test_what_a_cancelled_statement_begins_is_rolled_back(engine: AsyncEngine, tmp_path: Path) -> None:
    """It may be executed after its caller has gone: then there is a transaction that nobody saw begin."""
    connection = connect(str(tmp_path / "kept.db"))
    await connection
    may_go_on = threading.Event()
    busy = asyncio.create_task(connection.in_thread(lambda: may_go_on.wait(60)))
    inserting = asyncio.create_task(connection.cursor().execute("INSERT INTO kept VALUES (1)"))
    await asyncio.sleep(0)
    inserting.cancel()
    await asyncio.wait([inserting])
    assert not connection.driver.in_transaction
    rolling_back = asyncio.create_task(connection.rollback())
    await asyncio.sleep(0)
    may_go_on.set()
    await asyncio.gather(busy, rolling_back)

    assert not connection.driver.in_transaction
    async with engine.begin() as other:
        # Nobody holds the file.
        await other.execute(text("INSERT INTO kept VALUES (2)"))
    await connection.close()
