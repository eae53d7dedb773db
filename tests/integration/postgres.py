"""A real PostgreSQL for tests: an empty database a test on one server, or on a server of its own.

Use the fixtures `postgres` and `databases`, or `postgres_server` of tests/integration/conftest.py. As the dev
kit's parts do, the server comes from a container engine if one answers (by testcontainers), and is a local
process if that cannot provide it; `SALUS_PARTS=engine|local` insists on one of them.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol
from uuid import uuid4

import asyncpg
import pytest
from docker.errors import DockerException
from sqlalchemy import make_url
from testcontainers.community.postgres import PostgresContainer

from salus.devkit.postgres_server import missing_postgres, running_postgres
from salus.devkit.tools import engine_answers

IMAGE = "postgres:15"


class Server(Protocol):
    """A PostgreSQL that tests make databases on."""

    def url(self, database: str) -> str:
        """Return the address of a database, as services take it."""


@dataclass(frozen=True, slots=True)
class ContainerServer:
    """A server in a container."""

    container: PostgresContainer

    def url(self, database: str) -> str:
        """Return the address of a database, as services take it."""
        own = make_url(self.container.get_connection_url())
        return own.set(database=database).render_as_string(hide_password=False)


@asynccontextmanager
async def running_server() -> AsyncIterator[Server]:
    """Start a server; skips where there is none, but never in CI."""
    wanted = os.environ.get("SALUS_PARTS", "")
    async with AsyncExitStack() as stack:
        server, reason = await _in_container(stack) if wanted != "local" else (None, "")
        if server is None and wanted != "engine":
            missing = missing_postgres()
            reason = f"{', '.join(missing)} is missing (Debian: postgresql){reason}"
            server = None if missing else await stack.enter_async_context(running_postgres())
        if server is None and os.environ.get("CI"):
            pytest.fail(f"CI needs PostgreSQL: {reason}")
        if server is None:
            pytest.skip(reason)
        yield server


async def _in_container(stack: AsyncExitStack) -> tuple[Server | None, str]:
    """Start a server in a container, or return why not."""
    if not await engine_answers():
        return None, "; no container engine answers (`docker info`)"
    container = PostgresContainer(IMAGE, username="postgres", dbname="postgres", driver="asyncpg")
    try:
        # What is removed even if a start is cancelled: a container outlives this process.
        stack.push_async_callback(asyncio.to_thread, container.stop)
        await asyncio.to_thread(container.start)
    except (DockerException, TimeoutError) as error:
        return None, f"; the container engine does not provide {IMAGE} ({error})"
    return ContainerServer(container), ""


async def new_database(server: Server) -> str:
    """Make an empty database and return its name."""
    name = f"test_{uuid4().hex[:12]}"
    await execute(server, f"CREATE DATABASE \"{name}\" ENCODING 'UTF8' TEMPLATE template0")
    return name


async def execute(server: Server, *statements: str) -> None:
    """Do something as whoever runs the server."""
    connection = await asyncpg.connect(dsn(server))
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


def dsn(server: Server) -> str:
    """Return the address of the server's own database for asyncpg itself."""
    return server.url("postgres").replace("+asyncpg", "")


class PostgresDatabases:
    """`tests.databases.Databases` on a server."""

    def __init__(self, server: Server) -> None:
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
