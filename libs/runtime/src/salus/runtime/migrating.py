"""Brings a service's tables up to date with Alembic at start."""

from __future__ import annotations

import asyncio

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from salus.runtime.sqlite import UNLIMITED

_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))")
_NO_LIMIT = text("SET LOCAL statement_timeout = 0")

# Alembic's context is global to the process, so two databases cannot be upgraded in turns.
_one_at_a_time = asyncio.Lock()


async def migrate(engine: AsyncEngine, *, package: str, version_table: str) -> None:
    """Upgrade to the newest revision of `package`'s `migrations` folder; does nothing when it is there.

    Each package keeps its own version table, so that several can share one database. Replicas that start at
    once take turns: PostgreSQL gives one of them the lock until its transaction ends, and the others find all
    done. SQLite serves one replica.
    """

    def upgrade(connection: Connection) -> None:
        if connection.dialect.name == "postgresql":
            connection.execute(_LOCK, {"name": version_table})
        config = Config()
        config.set_main_option("script_location", f"{package}:migrations")
        config.set_main_option("path_separator", "os")
        config.attributes["connection"] = connection
        config.attributes["version_table"] = version_table
        command.upgrade(config, "head")

    async with _one_at_a_time, engine.begin() as connection:
        # It may rewrite a large table, and wait for a replica that does.
        await without_limit(connection)
        await connection.run_sync(upgrade)


async def without_limit(connection: AsyncConnection) -> None:
    """Let the statements of the present transaction take as long as they need."""
    if connection.dialect.name == "postgresql":
        await connection.execute(_NO_LIMIT)
    await connection.execution_options(**UNLIMITED)
