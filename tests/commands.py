"""The `salus` command in stories: each is a process, forked from one that has imported it already.

An import takes most of what a command takes, and a story has many. What tests the process itself (Ctrl-C,
`salus up`, the demo) runs `python -m salus.cli` as users do, as does all of
tests/integration/devkit/test_lifecycle.py.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from salus.cli.exits import Exit

ROOT = Path(__file__).parents[1]
# Libraries that start threads when they are imported do not, in the server alone.
WITHOUT_THREADS = {"OPENBLAS_NUM_THREADS": "1", "JE_ARROW_MALLOC_CONF": "background_thread:false"}
ANSWER_BYTES_MAX = 100


@dataclass(frozen=True)
class Said:
    """What a command said, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it said, where that is JSON."""
        assert self.out, f"exit {self.code}: {self.err}"
        return json.loads(self.out)


@dataclass(frozen=True)
class Salus:
    """`salus` on a machine with this state folder, and with an environment of its own beside the test's."""

    state: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    async def __call__(self, *words: str | Path) -> Said:
        """Run a command."""
        command = await self.begin(*words)
        return await command.said()

    async def required(self, *words: str | Path) -> Said:
        """Run a command that has to succeed."""
        said = await self(*words)
        assert said.code == Exit.OK, f"{words}: {said.err}"
        return said

    async def begin(self, *words: str | Path) -> Command:
        """Start a command."""
        environment = {**os.environ, **self.environment, "SALUS_STATE": str(self.state)}
        # What is read when something is imported is read by a server with the same environment.
        late = ("SALUS_", "PYTEST_")
        imported = {name: value for name, value in environment.items() if not name.startswith(late)}
        request = {"words": [*map(str, words)], "environment": environment, "folder": str(Path.cwd())}
        return await _server(imported).start(json.dumps(request).encode())


@dataclass(frozen=True)
class Command:
    """A command that runs."""

    pid: int
    stdout: asyncio.StreamReader
    stderr: asyncio.StreamReader
    _report: socket.socket

    async def said(self) -> Said:
        """Return what it says from now on, once it has ended."""
        with self._report:
            out, err = await asyncio.gather(self.stdout.read(), self.stderr.read())
            code = await asyncio.get_running_loop().sock_recv(self._report, ANSWER_BYTES_MAX)
        return Said(int(code), out.decode(), err.decode())


class CommandServer:
    """tests/command_server.py as a process, which ends with this one."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.command_server", str(theirs.fileno())],
                cwd=ROOT,
                env={**environment, **WITHOUT_THREADS},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )

    async def start(self, request: bytes) -> Command:
        """Have a command forked."""
        (out, out_end), (err, err_end) = os.pipe(), os.pipe()
        stdout, stderr = await _reader(out), await _reader(err)
        report, report_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        report.setblocking(False)
        with report_end:
            socket.send_fds(self._control, [request], [out_end, err_end, report_end.fileno()])
        for file in (out_end, err_end):
            os.close(file)
        pid = await asyncio.get_running_loop().sock_recv(report, ANSWER_BYTES_MAX)
        assert pid, "the process that forks commands has ended: its stderr says why"
        return Command(int(pid), stdout, stderr, report)

    def end(self) -> None:
        """End the server; a command that still runs is ended once its `Command` is gone."""
        self._control.close()
        self._process.wait()


async def _reader(pipe: int) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, os.fdopen(pipe, "rb", 0))
    return reader


_servers: dict[frozenset[tuple[str, str]], CommandServer] = {}


def _server(environment: Mapping[str, str]) -> CommandServer:
    """Return the server with an environment; it is started when it is first needed."""
    key = frozenset(environment.items())
    if key not in _servers:
        _servers[key] = CommandServer(environment)
    return _servers[key]


def end_servers() -> None:
    """End what was started."""
    while _servers:
        _servers.popitem()[1].end()
