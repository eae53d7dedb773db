"""Runs the commands that a benchmark consists of."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path


def output_of(command: Sequence[str], *, cwd: Path | None = None, temporary: str | None = None) -> str | None:
    """Run to the end and return what was written to stdout; None if it failed, which it has told.

    With `temporary`, that is the folder for what it keeps only while it runs.

    Raises:
        SystemExit: Ctrl-C; the command has ended, too.
    """
    environment = os.environ | ({"TMPDIR": temporary} if temporary else {})
    process = subprocess.Popen(command, cwd=cwd, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        written, _ = process.communicate()
    except KeyboardInterrupt:
        # It had the Ctrl-C, too, and is stopping what it started.
        process.send_signal(signal.SIGINT)
        process.wait()
        raise SystemExit(130) from None
    return written if process.returncode == 0 else None
