"""Running the tools that fetch and build: Maven, Go, a container engine."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from collections.abc import Mapping, Sequence

from salus.devkit.errors import BuildError
from salus.devkit.narration import Narrator
from salus.devkit.processes import LOG_TAIL_LINES

ENGINE_ANSWER_S_MAX = 5.0


def missing(*names: str) -> list[str]:
    """Return those of the programs that are not on the PATH."""
    return [name for name in names if shutil.which(name) is None]


async def run_tool(  # noqa: PLR0913  # a command, its surroundings, and how it is watched
    what: str,
    command: Sequence[str],
    narrator: Narrator,
    *,
    env: Mapping[str, str] | None = None,
    timeout_s: float = 1800.0,
    umask: int = -1,
) -> str:
    """Run a tool to its end, telling how many lines it has written and for how long it has run.

    `umask` is ours unless another one is given. Its process group ends with us, also on Ctrl-C.

    Raises:
        BuildError: it failed or took too long; the message carries the end of its output.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, **(env or {})},
        start_new_session=True,
        umask=umask,
    )
    output: list[str] = []
    try:
        async with asyncio.timeout(timeout_s):
            await _follow(process, what, output, narrator)
            code = await process.wait()
    except TimeoutError:
        code = None
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    if code != 0:
        why = f"took longer than {timeout_s:.0f} s" if code is None else f"failed with exit code {code}"
        raise BuildError(f"{what} {why}:\n" + "\n".join(output[-LOG_TAIL_LINES:]))
    return "\n".join(output)


async def _follow(
    process: asyncio.subprocess.Process, what: str, output: list[str], narrator: Narrator
) -> None:
    if process.stdout is None:
        raise BuildError(f"{what} has no output to follow")
    began = time.monotonic()
    reading = asyncio.ensure_future(process.stdout.readline())
    try:
        while True:
            done, _ = await asyncio.wait({reading}, timeout=1.0)
            narrator.update(f"{what}: {time.monotonic() - began:.0f} s, {len(output)} lines of output")
            if not done:
                continue
            line = reading.result()
            if not line:
                return
            output.append(line.decode(errors="replace").rstrip())
            reading = asyncio.ensure_future(process.stdout.readline())
    finally:
        reading.cancel()


async def engine_answers() -> bool:
    """Say whether a container engine's daemon answers, without waiting long for one that does not."""
    if missing("docker"):
        return False
    process = await asyncio.create_subprocess_exec(
        "docker",
        "info",
        "--format",
        "{{.ServerVersion}}",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(ENGINE_ANSWER_S_MAX):
            output, _ = await process.communicate()
    except TimeoutError:
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        return False
    return process.returncode == 0 and bool(output.strip())
