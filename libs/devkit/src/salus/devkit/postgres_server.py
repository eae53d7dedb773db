"""One PostgreSQL server out of Debian's package, in a folder of its own, on a free loopback port.

Services can do with SQLite, so `salus up` starts none: tests and benchmarks do.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import stat
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from salus.crypto.scratch_folders import scratch_folder
from salus.devkit.errors import BuildError, MissingToolError, StartError
from salus.devkit.free_ports import HOST, free_ports
from salus.devkit.narration import SilentNarrator
from salus.devkit.processes import Place, ProcessRecord, is_alive, send, spawn, stop
from salus.devkit.tools import run_tool
from salus.devkit.waiting import until

DEBIAN_FOLDERS = "/usr/lib/postgresql"
USER = "postgres"
PROGRAMS = ("initdb", "postgres", "createdb", "pg_isready")
START_S_MAX = 60.0
SHARED_PLACE = Path("/tmp")  # noqa: S108  # the folder in it is made new, and private


class PostgresServer:
    """A running server, which trusts whoever is on this machine and keeps nothing when it ends."""

    def __init__(self, port: int, process: ProcessRecord) -> None:
        self.port = port
        self.process = process

    def url(self, database: str) -> str:
        """Return the address of a database, as services take it."""
        return f"postgresql+asyncpg://{USER}@{HOST}:{self.port}/{database}"

    async def create(self, database: str) -> str:
        """Make an empty database and return its address."""
        await self._ask("createdb", "-T", "template0", "-E", "UTF8", database)
        return self.url(database)

    async def answers(self) -> bool:
        """Tell whether it takes connections, or has ended."""
        try:
            await self._ask("pg_isready", "-q")
        except BuildError:
            return not is_alive(self.process)
        return True

    async def _ask(self, program: str, *arguments: str) -> None:
        where = ["-h", HOST, "-p", str(self.port), "-U", USER]
        await run_tool(program, [_require(program), *where, *arguments], SilentNarrator())


def missing_postgres() -> list[str]:
    """Return the programs, and the user, that the server needs and that are missing."""
    programs = [name for name in PROGRAMS if _program(name) is None]
    return programs if os.getuid() != 0 or _user() else [*programs, f"a user {USER}"]


@asynccontextmanager
async def running_postgres(*, synced: bool = False) -> AsyncIterator[PostgresServer]:
    """Start a server, and stop it and remove its data when the context is left.

    It refuses to run as root: then it runs as the user that Debian's package made. Only if it is `synced`
    is what it commits on the disk.

    Raises:
        MissingToolError: PostgreSQL is not installed.
        StartError: it does not take connections in time.
    """
    if missing_postgres():
        raise MissingToolError(f"PostgreSQL is not installed: {', '.join(missing_postgres())} is missing")
    with scratch_folder("salus-postgres-", place=_place()) as folder:
        if user := _user():
            os.chown(folder, user.pw_uid, user.pw_gid)
        server = await _started(folder, fsync="on" if synced else "off")
        try:
            if not (await until(server.answers, deadline_s=START_S_MAX) and is_alive(server.process)):
                raise StartError("postgres", "does not take connections", log_tail=server.process.log_tail())
            yield server
        finally:
            # At once: what it holds is thrown away.
            send(server.process, signal.SIGQUIT)
            await until(lambda: not is_alive(server.process), deadline_s=START_S_MAX)
            await stop(server.process)


def _place() -> Path:
    """Return where temporary files are, unless the server's user could not enter a folder on the way."""
    place = Path(tempfile.gettempdir())
    enterable = all(folder.stat().st_mode & stat.S_IXOTH for folder in (place, *place.parents))
    return place if _user() is None or enterable else SHARED_PLACE


async def _started(folder: Path, *, fsync: str) -> PostgresServer:
    data, (port,) = folder / "data", free_ports(1)
    made = ["-D", str(data), "-U", USER, "--auth=trust", "--no-sync", "-E", "UTF8", "--locale=C"]
    await run_tool("initdb", [*_as_user(), _require("initdb"), *made], SilentNarrator())
    options = (
        f"listen_addresses={HOST}",
        f"port={port}",
        f"unix_socket_directories={folder}",
        f"fsync={fsync}",
    )
    settings = [argument for option in options for argument in ("-c", option)]
    command = [*_as_user(), _require("postgres"), "-D", str(data), *settings]
    place = Place(folder, folder / "logs", detached=False)
    return PostgresServer(port, spawn("postgres", command, place, env=os.environ))


def _as_user() -> list[str]:
    """Return what to begin a command with, so that it is run as a user that the server accepts."""
    user = _user()
    if user is None:
        return []
    # The signal that ends it with its parent is forgotten as the user changes.
    ids = [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--pdeathsig=QUIT"]
    return ["setpriv", *ids, "--"]


def _user() -> pwd.struct_passwd | None:
    """Return whom to run the server as; nobody else than us if we are not root, or there is no such user."""
    if os.getuid() != 0:
        return None
    try:
        return pwd.getpwnam(USER)
    except KeyError:
        return None


def _program(name: str) -> str | None:
    """Return the newest program of that name; Debian keeps those of the server off the PATH."""
    of_debian = sorted(Path(DEBIAN_FOLDERS).glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    return str(of_debian[-1]) if of_debian else shutil.which(name)


def _require(name: str) -> str:
    found = _program(name)
    if found is None:
        raise MissingToolError(f"PostgreSQL is not installed: there is no {name}")
    return found
