"""How services connect to their database, and the one rule of when it is away."""

from __future__ import annotations

import sqlite3
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from salus.runtime import sqlite, sqlite_connection
from salus.runtime.supervisor import LastingError

# Long enough for every statement of a fold, which may wait for another replica's transaction.
STATEMENT_S_MAX = 60.0
CONNECT_S_MAX = 10.0
POOL_WAIT_S_MAX = 10.0
POOL_CONNECTIONS = 5
POOL_CONNECTIONS_MAX = 10

# SQLSTATE: the connection broke (08), resources are short (53), an operator or a time limit ended the
# statement (57), a deadlock or a conflict of two transactions (40), a lock is held.
_PASSING_CLASSES = ("08", "40", "53", "57")
# The server only reads now, as one does that another has taken over from; a lock that was not to be had.
_PASSING = frozenset({"25006", "55P03"})
# What asyncpg raises, without a state, on a connection that the server ended while it was being used.
_CONFUSED = "InternalClientError"


# Why a database that answers writes nothing, by SQLite's primary code and by SQLSTATE.
_REFUSALS: dict[object, str] = {
    sqlite3.SQLITE_FULL: "its disk is full",
    sqlite3.SQLITE_READONLY: "it only reads",
    sqlite3.SQLITE_IOERR: "its disk fails",
    sqlite3.SQLITE_CANTOPEN: "its file cannot be opened",
    sqlite3.SQLITE_PERM: "it may not be used",
    "53100": "its disk is full",
    "25006": "it only reads",
}
_PRIMARY_CODE = 0xFF


class DatabaseAwayError(SQLAlchemyError):
    """The database did not answer, or ended what it was asked; the same may succeed later.

    The sentence names the kind of error only: the driver's own may quote values.
    """


class DatabaseRefusesError(DatabaseAwayError, LastingError):
    """The database answers and writes nothing, until somebody makes room or has it write again.

    Who tries again goes on then by itself, so it is one of DATABASE_AWAY; but a service says so at once.
    """


DATABASE_AWAY = (DatabaseAwayError, PoolTimeoutError)
"""What the database layer raises when the database is away, slow or busy: nothing else is passing."""


def open_engine(
    url: str, *, statement_s_max: float = STATEMENT_S_MAX, is_rebuilt: bool = False
) -> AsyncEngine:
    """Return an engine with a pool of its own, whose passing errors are DATABASE_AWAY.

    A statement that runs longer than `statement_s_max` is ended. What a service rebuilds from elsewhere
    (`is_rebuilt`) may lack its last transactions after the machine has lost its power, and is whole yet.
    """
    is_postgres = url.startswith("postgresql")
    settings = _postgres_settings(statement_s_max) if is_postgres else _SQLITE_SETTINGS
    # Errors are logged, and the parameters of a statement say who did what: they stay out of them.
    engine = create_async_engine(url, hide_parameters=True, **settings)
    event.listen(engine.sync_engine, "do_connect", _connect)
    event.listen(engine.sync_engine, "handle_error", _translate)
    if engine.dialect.name == "sqlite":
        sqlite.set_up(engine.sync_engine, statement_s_max=statement_s_max, is_rebuilt=is_rebuilt)
    return engine


_SQLITE_SETTINGS: dict[str, Any] = {"connect_args": {"async_creator_fn": sqlite_connection.connect}}


def _postgres_settings(statement_s_max: float) -> dict[str, Any]:
    limit_ms = str(int(statement_s_max * 1000))
    return {
        "connect_args": {"timeout": CONNECT_S_MAX, "server_settings": {"statement_timeout": limit_ms}},
        "pool_size": POOL_CONNECTIONS,
        "max_overflow": POOL_CONNECTIONS_MAX - POOL_CONNECTIONS,
        "pool_timeout": POOL_WAIT_S_MAX,
    }


def _connect(dialect: Any, _: Any, arguments: list[Any], named: dict[str, Any]) -> Any:
    """Connect. Whoever gets no connection has done nothing, and cannot tell why in a way that lasts."""
    try:
        return dialect.connect(*arguments, **named)
    except Exception as error:
        raise _away(error, f"no connection: {_name_of(error)}") from error


def _translate(context: ExceptionContext) -> None:
    error = context.original_exception
    if isinstance(error, DatabaseAwayError) or not _is_passing(context):
        return
    if isinstance(error, OSError) or _name_of(error) == _CONFUSED:
        # The answer may still come: nobody else is to read it.
        context.is_disconnect = True
    raise _away(error, _name_of(error)) from error


def _away(error: BaseException, why: str) -> DatabaseAwayError:
    code = getattr(error, "sqlite_errorcode", None)
    kind = _state_of(error) if code is None else code & _PRIMARY_CODE
    refusal = _REFUSALS.get(kind)
    return DatabaseAwayError(why) if refusal is None else DatabaseRefusesError(refusal)


def _state_of(error: BaseException) -> str | None:
    # asyncpg's own error is the cause of the one that SQLAlchemy's adapter raises.
    state = getattr(error.__cause__, "sqlstate", None)
    return state if isinstance(state, str) else None


def _is_passing(context: ExceptionContext) -> bool:
    error = context.original_exception
    state = _state_of(error)
    if state is not None:
        return state in _PASSING or state[:2] in _PASSING_CLASSES
    return (
        isinstance(error, OSError)
        or _name_of(error) == _CONFUSED
        or isinstance(context.sqlalchemy_exception, OperationalError | InterfaceError)
    )


def shown(error: Exception) -> str:
    """Return what may be shown of an error: a driver's text can quote a row, an OSError's names a file."""
    name = type(error).__name__
    if isinstance(error, SQLAlchemyError) and not isinstance(error, DatabaseAwayError):
        return name
    return f"{name}: {error.strerror if isinstance(error, OSError) else error}"


def _name_of(error: BaseException) -> str:
    return type(error.__cause__ or error).__name__
