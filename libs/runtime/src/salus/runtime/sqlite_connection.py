"""A connection to a SQLite file that gives its thread each statement once: to execute it and fetch its rows.

aiosqlite asks its thread four times for a statement: for a cursor, to execute, to fetch, to close. Each time
two threads wake up and both want the interpreter lock, which costs more than most statements.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Any, Self

import aiosqlite

# A result with more rows is fetched in further pieces, so that who streams it keeps no more of it.
ROWS_AT_ONCE = 1_000
_ITER_CHUNK = 64


class _ThreadCall:
    """A call to be made in the thread of a connection, which keeps nothing of it.

    aiosqlite's thread holds the last function and its result until the next one comes, which in a pool may be
    hours: so it gets a function that has forgotten the call, and returns None.
    """

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call: Callable[[], Any] | None = call
        self._result: Any = None

    def executed(self) -> None:
        """Make the call, once."""
        call, self._call = self._call, None
        if call is not None:
            self._result = call()

    def result(self) -> Any:
        """Return what came of it, once."""
        result, self._result = self._result, None
        return result


class StatementCursor:
    """What SQLAlchemy asks of a cursor of aiosqlite; the first rows of a result came with its execution."""

    arraysize = 1

    def __init__(self, connection: StatementConnection) -> None:
        self._connection = connection
        self._cursor: sqlite3.Cursor | None = None
        self._rows: list[Any] = []
        self._is_whole = True

    async def __aenter__(self) -> Self:
        """Return the cursor: it needs nothing before its first statement."""
        return self

    async def execute(self, statement: str, parameters: Any = ()) -> Self:
        """Execute a statement, and fetch the first ROWS_AT_ONCE rows."""
        await self._run(lambda connection: connection.execute(statement, parameters))
        return self

    async def executemany(self, statement: str, parameters: Any) -> Self:
        """Execute a statement for each of these parameters."""
        await self._run(lambda connection: connection.executemany(statement, parameters))
        return self

    async def _run(self, execute: Callable[[sqlite3.Connection], sqlite3.Cursor]) -> None:
        await self.close()

        def executed() -> tuple[sqlite3.Cursor, list[Any]]:
            cursor = execute(self._connection.driver)
            return cursor, cursor.fetchmany(ROWS_AT_ONCE) if cursor.description else []

        self._cursor, self._rows = await self._connection.in_thread(executed)
        self._is_whole = len(self._rows) < ROWS_AT_ONCE

    @property
    def description(self) -> Any:
        """The columns of the result; None if the statement has none."""
        return None if self._cursor is None else self._cursor.description

    @property
    def rowcount(self) -> int:
        """How many rows the statement changed."""
        return -1 if self._cursor is None else self._cursor.rowcount

    @property
    def lastrowid(self) -> int | None:
        """The row that was inserted last."""
        return None if self._cursor is None else self._cursor.lastrowid

    async def fetchall(self) -> Sequence[Any]:
        """Return the rows that were not returned yet."""
        rows, self._rows = self._rows, []
        if not self._is_whole and self._cursor is not None:
            rows += await self._connection.in_thread(self._cursor.fetchall)
            self._is_whole = True
        return rows

    async def fetchmany(self, size: int | None = None) -> Sequence[Any]:
        """Return so many further rows, or those that are left."""
        size = self.arraysize if size is None else size
        if len(self._rows) < size and not self._is_whole and self._cursor is not None:
            wanted = max(size - len(self._rows), ROWS_AT_ONCE)
            further = await self._connection.in_thread(partial(self._cursor.fetchmany, wanted))
            self._rows += further
            self._is_whole = len(further) < wanted
        rows, self._rows = self._rows[:size], self._rows[size:]
        return rows

    async def fetchone(self) -> Any:
        """Return the next row, or None."""
        rows = await self.fetchmany(1)
        return rows[0] if rows else None

    async def __aiter__(self) -> AsyncIterator[Any]:
        """Yield the rows."""
        while rows := await self.fetchmany(_ITER_CHUNK):
            for row in rows:
                yield row

    async def close(self) -> None:
        """Forget the statement. One whose rows were all fetched holds nothing in the database any more."""
        cursor, self._cursor, self._rows = self._cursor, None, []
        if not self._is_whole and cursor is not None:
            self._is_whole = True
            await self._connection.in_thread(cursor.close)


class StatementConnection(aiosqlite.Connection):
    """A connection of aiosqlite whose cursors are `StatementCursor`s."""

    # How many calls its thread was asked for, and how many it has made: who is cancelled waits for none.
    _asked = _made = 0

    @property
    def driver(self) -> sqlite3.Connection:
        """The connection itself, which belongs to its thread."""
        return self._conn

    @property
    def is_open(self) -> bool:
        """Whether it was opened, and is not closed yet."""
        return self._connection is not None

    async def in_thread(self, call: Callable[[], Any]) -> Any:
        """Call something in the thread of the connection."""
        made = _ThreadCall(call)
        await self._execute(made.executed)
        return made.result()

    def cursor(self) -> StatementCursor:  # type: ignore[override]  # aiosqlite's asks the thread for one
        """Return a cursor."""
        return StatementCursor(self)

    async def commit(self) -> None:
        """Commit the transaction, if one was begun."""
        if self._has_transaction():
            await super().commit()

    async def rollback(self) -> None:
        """Roll the transaction back, if one was begun."""
        if self._has_transaction():
            await super().rollback()

    def _has_transaction(self) -> bool:
        """Tell whether there may be a transaction: a statement that is still to be executed may begin one."""
        return self._made < self._asked or self._conn.in_transaction

    async def _execute(self, fn: Any, *args: Any, **kwargs: Any) -> Any:
        self._asked = number = self._asked + 1
        try:
            found = await super()._execute(fn, *args, **kwargs)  # type: ignore[no-untyped-call]  # aiosqlite's
        except Exception:
            self._made = number
            raise
        # It makes them in the order in which it was asked.
        self._made = number
        return found


def connect(path: str, **options: Any) -> StatementConnection:
    """Return a connection that is opened by awaiting it; `options` are those of `sqlite3.connect`."""
    connection = StatementConnection(lambda: sqlite3.connect(path, **options), _ITER_CHUNK)
    # A connection that nobody closed keeps no process alive.
    connection._thread.daemon = True  # noqa: SLF001  # as SQLAlchemy does, for want of a public way
    return connection
