"""A real PostgreSQL for tests: a server of its own in a temporary folder, and an empty database a test.

Use the fixture `postgres` of tests/integration/conftest.py; its value is the URL of the database.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from salus.devkit.free_ports import HOST, free_ports
from salus.devkit.waiting import until

DEBIAN_FOLDERS = "/usr/lib/postgresql"
USER = "postgres"
START_S_MAX = 60.0


def _program(name: str) -> str | None:
    """Return the newest program of that name; Debian keeps those of the server off the PATH."""
    of_debian = sorted(Path(DEBIAN_FOLDERS).glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    return str(of_debian[-1]) if of_debian else shutil.which(name)


def _require(name: str) -> str:
    """Return the program; skips where there is none, but never in CI."""
    if (found := _program(name)) is not None:
        return found
    if os.environ.get("CI"):
        pytest.fail(f"CI needs PostgreSQL: {name} is not installed")
    pytest.skip(f"{name} is not installed (Debian: postgresql)")


@dataclass
class PostgresServer:
    """A running server; the tests share it and have databases of their own."""

    port: int
    databases: list[str] = field(default_factory=list)

    async def database(self) -> str:
        """Make an empty database and return its URL."""
        return self.url(await self.new_database())

    async def new_database(self) -> str:
        """Make an empty database and return its name."""
        name = f"test_{uuid4().hex[:12]}"
        await self.execute(f"CREATE DATABASE \"{name}\" ENCODING 'UTF8' TEMPLATE template0")
        self.databases.append(name)
        return name

    async def execute(self, *statements: str) -> None:
        """Do something as whoever runs the server."""
        connection = await asyncpg.connect(self.dsn("postgres"))
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    def url(self, database: str) -> str:
        """Return the address for services."""
        return f"postgresql+asyncpg://{USER}@{HOST}:{self.port}/{database}"

    def dsn(self, database: str) -> str:
        """Return the address for asyncpg itself."""
        return f"postgresql://{USER}@{HOST}:{self.port}/{database}"

    async def answers(self) -> bool:
        """Tell whether it takes connections."""
        try:
            connection = await asyncpg.connect(self.dsn("postgres"), timeout=2)
        except (OSError, asyncpg.PostgresError, TimeoutError):
            return False
        await connection.close()
        return True


class PostgresDatabases:
    """`tests.databases.Databases` on a server."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self._named: dict[str, str] = {}

    async def url(self, name: str) -> str:
        """Return the URL of a database."""
        if name not in self._named:
            self._named[name] = await self._server.new_database()
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
        await self._server.execute(f'DROP DATABASE IF EXISTS "{target}" WITH (FORCE)', ended, made)


def _as_user() -> dict[str, str]:
    """Return how to start a program as a user that the server accepts: it refuses to run as root."""
    if os.getuid() != 0:
        return {}
    try:
        pwd.getpwnam(USER)
    except KeyError:
        pytest.skip(f"there is no user {USER} to run the server as")
    return {"user": USER}


@contextmanager
def running_server() -> Iterator[PostgresServer]:
    """Start a server that trusts this machine, and stop it afterwards."""
    initdb, postgres = _require("initdb"), _require("postgres")
    folder = Path(tempfile.mkdtemp(prefix="salus-postgres-"))
    user = _as_user()
    if user:
        shutil.chown(folder, USER)
    data, (port,) = folder / "data", free_ports(1)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.STDOUT, "cwd": folder}
    make = [initdb, "-D", str(data), "-U", USER, "--auth=trust", "--no-sync", "-E", "UTF8", "--locale=C"]
    subprocess.run(make, check=True, timeout=START_S_MAX, **user, **quiet)  # type: ignore[call-overload]
    options = (f"listen_addresses={HOST}", f"port={port}", f"unix_socket_directories={folder}", "fsync=off")
    settings = [argument for option in options for argument in ("-c", option)]
    process = subprocess.Popen([postgres, "-D", str(data), *settings], **user, **quiet)  # type: ignore[call-overload]
    try:
        yield PostgresServer(port)
    finally:
        # At once: what it holds is thrown away.
        process.send_signal(signal.SIGQUIT)
        process.wait(START_S_MAX)
        shutil.rmtree(folder, ignore_errors=True)


async def wait_until_ready(server: PostgresServer) -> None:
    """Return once it takes connections."""
    assert await until(server.answers, deadline_s=START_S_MAX), "PostgreSQL did not start"
