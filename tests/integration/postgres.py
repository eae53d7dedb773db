"""A real PostgreSQL for tests: an empty database a test on one server, or on a server of its own.

Use the fixtures `postgres` and `databases`, or `postgres_server` of tests/integration/conftest.py.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import asyncpg
import pytest

from salus.devkit.postgres_server import PostgresServer, missing_postgres, running_postgres


@asynccontextmanager
async def running_server() -> AsyncIterator[PostgresServer]:
    """Start a server; skips where there is none, but never in CI."""
    if missing := missing_postgres():
        if os.environ.get("CI"):
            pytest.fail(f"CI needs PostgreSQL: {', '.join(missing)} is missing")
        pytest.skip(f"{', '.join(missing)} is missing (Debian: postgresql)")
    async with running_postgres() as server:
        yield server


async def new_database(server: PostgresServer) -> str:
    """Make an empty database and return its name."""
    name = f"test_{uuid4().hex[:12]}"
    await execute(server, f"CREATE DATABASE \"{name}\" ENCODING 'UTF8' TEMPLATE template0")
    return name


async def execute(server: PostgresServer, *statements: str) -> None:
    """Do something as whoever runs the server."""
    connection = await asyncpg.connect(dsn(server))
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


def dsn(server: PostgresServer) -> str:
    """Return the address of the server's own database for asyncpg itself."""
    return server.url("postgres").replace("+asyncpg", "")


class PostgresDatabases:
    """`tests.databases.Databases` on a server."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self._named: dict[str, str] = {}

    async def url(self, name: str) -> str:
        """Return the URL of a database."""
        if name not in self._named:
            self._named[name] = await new_database(self._server)
        return self._server.url(self._named[name])

    async def save(self, name: str) -> None:
        """Copy the database."""
        await self._copy(self._named[name], f"{self._named[name]}_saved")

    async def put_back(self, name: str) -> None:
        """Copy it back."""
        await self._copy(f"{self._named[name]}_saved", self._named[name])

    async def _copy(self, source: str, target: str) -> None:
        # Whoever is still connected is not any more.
        ended = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{source}'"
        made = f'CREATE DATABASE "{target}" TEMPLATE "{source}"'
        await execute(self._server, f'DROP DATABASE IF EXISTS "{target}" WITH (FORCE)', ended, made)
