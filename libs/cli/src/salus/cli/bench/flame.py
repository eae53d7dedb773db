"""Records where a process spends its time, with py-spy, as a flame graph."""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from salus.cli.exits import CommandError, Exit

SAMPLES_PER_S = 100
SECONDS_MAX = 3600
WRITING_S_MAX = 60.0


def find_py_spy(wanted: Path | None) -> str:
    """Return the program, or nothing if no flame graph is wanted.

    Raises:
        CommandError: it is not installed.
    """
    if wanted is None:
        return ""
    beside = Path(sys.executable).with_name("py-spy")
    found = str(beside) if beside.exists() else shutil.which("py-spy")
    if found is None:
        raise CommandError(Exit.USAGE, "flame graphs need py-spy: pip install 'salus-cli[bench]'")
    return found


@asynccontextmanager
async def flame_graph(py_spy: str, pid: int, path: Path | None) -> AsyncIterator[None]:
    """Record the process while the context lasts; it is slowed down a little meanwhile.

    Raises:
        CommandError: the system does not let us look into another process (ptrace).
    """
    if path is None:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    command = [
        *(py_spy, "record", "--pid", str(pid), "--output", str(path), "--threads", "--subprocesses"),
        *("--nonblocking", "--rate", str(SAMPLES_PER_S), "--duration", str(SECONDS_MAX)),
    ]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    try:
        yield
    finally:
        if process.returncode is None:
            # On SIGINT it writes what it has.
            process.send_signal(signal.SIGINT)
        said = b""
        try:
            async with asyncio.timeout(WRITING_S_MAX):
                _, said = await process.communicate()
        except TimeoutError:
            process.kill()
            await process.wait()
    _require_graph(path, " ".join(command), said.decode(errors="replace"))


def _require_graph(path: Path, command: str, said: str) -> None:
    """See that there is a graph, and give it a title that does not name places on this machine."""
    if not path.exists():
        raise CommandError(Exit.NO, f"py-spy wrote nothing: {said[-300:]}")
    graph = path.read_text().replace(command, "A sequencer while it drains a backlog")
    path.write_text(graph.replace(sys.executable, "python"))
