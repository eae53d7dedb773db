"""The process that `tests.commands` forks `salus` commands from: `python -m tests.command_server DESCRIPTOR`.

It imports once what takes most of a command's start, and is then asked over the socket with that descriptor.
A request is JSON (the words, the environment, the folder) with three descriptors: what becomes stdout and
stderr, and a socket on which the pid is told, and how the command ended. The server ends with the socket.
"""

from __future__ import annotations

import gc
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import salus.cli

REQUEST_BYTES_MAX = 1 << 20
# What commands import on their way.
IMPORTED_LATE = (
    "importlib.metadata",
    "salus.devkit.kafka_rights",
    "salus.objects",
    "salus.runtime.kafka_settings",
)
# The program itself, which each command runs anew, and what brings DuckDB: that complains on stderr if nobody
# collects it at the end, and a command collects nothing that was there when it began.
NOT_IMPORTED = ("salus.cli.__main__", "salus.cli.ledger", "salus.cli.querying")


@dataclass(frozen=True)
class Request:
    """What is to run, and where."""

    words: list[str]
    environment: dict[str, str]
    folder: str
    stdout: int
    stderr: int


def preload() -> None:
    """Import the commands; a fork copies one thread, so nothing may have started another."""
    modules = [name for _, name, _ in pkgutil.walk_packages(salus.cli.__path__, "salus.cli.")]
    for name in (*modules, *IMPORTED_LATE):
        if name not in NOT_IMPORTED:
            import_module(name)
    threads = [file.read_text().strip() for file in Path("/proc/self/task").glob("*/comm")]
    if len(threads) > 1:
        raise RuntimeError(f"an import has started threads: {threads}")
    gc.freeze()


def next_request(control: socket.socket) -> Request:
    """Return in the process that is to be the command: a fork of a keeper, itself a fork of the server."""
    # The kernel forgets the keepers that end: nobody waits for them.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        content, files, _, _ = socket.recv_fds(control, REQUEST_BYTES_MAX, 3)
        if not content:
            os._exit(0)
        if os.fork() == 0:
            control.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            stdout, stderr, report = files
            fork(socket.socket(fileno=report), (stdout, stderr))
            return Request(**json.loads(content), stdout=stdout, stderr=stderr)
        for file in files:
            os.close(file)


def fork(report: socket.socket, files: tuple[int, int]) -> None:
    """Return in a fork; elsewhere tell how it ends, and end it once whoever asked for it is gone."""
    if (pid := os.fork()) == 0:
        report.close()
        return
    for file in files:
        os.close(file)
    report.send(str(pid).encode())
    ended = os.pidfd_open(pid)
    if ended not in select.select([ended, report.fileno()], [], [])[0]:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    with suppress(BrokenPipeError):
        report.send(str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def become(request: Request) -> None:
    """Run the command as `python -m salus.cli` does in a process of its own, in a session of its own."""
    os.setsid()
    for number, file in ((1, request.stdout), (2, request.stderr)):
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(request.environment)
    os.chdir(request.folder)
    sys.path[0] = request.folder
    sys.argv = ["salus", *request.words]
    runpy.run_module("salus.cli", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    preload()
    become(next_request(socket.socket(fileno=int(sys.argv[1]))))
