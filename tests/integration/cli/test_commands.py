"""The commands of stories are forks: what they say, and how they end, is what a process of its own would."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest
from tests.commands import Salus

from salus.devkit.processes import start_time
from salus.devkit.waiting import until

ASKED = (("--version",), ("party", "nonsense"), ("catalogue", "list"), ("ledger", "query", "select 1"))


async def test_a_forked_command_says_and_ends_as_a_process_of_its_own(tmp_path: Path) -> None:
    salus = Salus(tmp_path / "nothing", {"COLUMNS": "60"})
    for words in ASKED:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "salus.cli", *words),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **salus.environment, "SALUS_STATE": str(salus.state)},
        )
        out, err = await process.communicate()
        forked = await salus(*words)

        assert (forked.code, forked.out, forked.err) == (process.returncode, out.decode(), err.decode())

    # Nobody ever writes to it.
    os.mkfifo(tmp_path / "pipe")
    killed = await salus.begin("approve", tmp_path / "pipe")
    os.kill(killed.pid, signal.SIGKILL)
    assert (await killed.said()).code == -signal.SIGKILL
    abandoned = await salus.begin("approve", tmp_path / "pipe")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(abandoned.said(), 0.1)
    assert await until(lambda: start_time(abandoned.pid) is None, deadline_s=60)
