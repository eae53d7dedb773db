"""Child processes that can be found again, stopped for sure, and never left behind.

A *foreground* process dies with its parent (Linux: PR_SET_PDEATHSIG). A *detached* one lives on and is
stopped later, perhaps by another invocation, by its recorded pid; the start time is recorded with it so
that a pid which the system has given to another program since is left alone.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from salus.crypto.private_files import UMASK, make_private_folder, open_private
from salus.devkit.waiting import until

STOP_GRACE_S = 12.0
LOG_TAIL_LINES = 25
LOG_TAIL_BYTES = 64 * 1024

# Runs in the child, between fork and exec, in a fresh interpreter: a preexec_fn would run Python code in
# a fork of a threaded process, which may deadlock. argv: parent's pid, then the command.
_DIE_WITH_PARENT = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent died first")
os.execvp(sys.argv[2], sys.argv[2:])
"""

_own: dict[int, subprocess.Popen[bytes]] = {}
"""Children of this process, by pid: a dead child stays a zombie until its parent asks for it."""
_detached: set[int] = set()
"""Those of them that outlive this process."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a process keeps its files and its log, and whether it outlives this one."""

    folder: Path
    logs: Path
    detached: bool

    def below(self, name: str) -> Place:
        """Return the place of one process among others."""
        return Place(self.folder / name, self.logs, self.detached)


def _end_children() -> None:
    """End the foreground processes that nobody stopped, where the system does not do it for us."""
    for pid, child in _own.items():
        if child.poll() is not None:
            continue
        if pid in _detached:
            # It lives on as it should: without a code Python would warn that nobody waited for it.
            child.returncode = 0
            continue
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        child.wait()


atexit.register(_end_children)


class ProcessRecord(msgspec.Struct, frozen=True):
    """A started process, as written to run.json."""

    name: str
    pid: int
    started: str
    log: str

    def log_tail(self) -> str:
        """Return the last lines of its log."""
        return tail(Path(self.log))


def tail(path: Path, lines: int = LOG_TAIL_LINES) -> str:
    """Return the last lines of a file; nothing if there is no file."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - LOG_TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.removesuffix("\n").split("\n")[-lines:])


def spawn(name: str, command: Sequence[str], place: Place, *, env: Mapping[str, str]) -> ProcessRecord:
    """Start a program in its own process group, with its output appended to `<logs>/<name>.log`.

    Call it from the main thread: a foreground child dies with the thread that started it.
    """
    make_private_folder(place.folder)
    make_private_folder(place.logs)
    log = place.logs / f"{name}.log"
    dies_with_us = not place.detached and sys.platform == "linux"
    prefix = [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid())] if dies_with_us else []
    with open_private(log, os.O_APPEND) as output:
        process = subprocess.Popen(  # noqa: S603  # the commands are this package's own
            [*prefix, *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**env},
            cwd=place.folder,
            start_new_session=True,
            umask=UMASK,
        )
    _own[process.pid] = process
    if place.detached:
        _detached.add(process.pid)
    return ProcessRecord(name=name, pid=process.pid, started=start_time(process.pid) or "", log=str(log))


def start_time(pid: int) -> str | None:
    """Return a text that differs between two processes which had the same pid, or None if there is none."""
    stat = Path(f"/proc/{pid}/stat")
    if stat.exists():
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return None
        return None if fields[0] in "ZX" else f"{_boot_id()}/{fields[19]}"
    ps = shutil.which("ps")
    if Path("/proc/self/stat").exists() or ps is None:
        return None
    command = [ps, "-o", "lstart=", "-p", str(pid)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  # fixed arguments
    return answer.stdout.strip() or None


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8]


def is_alive(record: ProcessRecord) -> bool:
    """Say whether this very process still runs."""
    child = _own.get(record.pid)
    if child is not None:
        return child.poll() is None
    return start_time(record.pid) == record.started


def exit_code(record: ProcessRecord) -> int | None:
    """Return the exit code of a child that ended, None while it runs or when it is not our child."""
    child = _own.get(record.pid)
    return None if child is None else child.poll()


def send(record: ProcessRecord, signum: int) -> None:
    """Send a signal to the process and its group; nothing happens if it is gone."""
    if is_alive(record):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(record.pid, signum)


async def stop(record: ProcessRecord, *, grace_s: float = STOP_GRACE_S) -> None:
    """Ask the process to end, and make it end when it has not after `grace_s` seconds."""
    send(record, signal.SIGTERM)
    if not await until(lambda: not is_alive(record), deadline_s=grace_s):
        send(record, signal.SIGKILL)
        await until(lambda: not is_alive(record), deadline_s=grace_s)
    _own.pop(record.pid, None)
