"""An erasure that any line of a process may end is finished, and recorded once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.effort import tries
from tests.unit.storage import killed_erasure

LINES_MIN = 200
ROOT = Path(__file__).parents[3]


def killed(folder: Path, *, step: int) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, str(killed_erasure.__file__), str(folder), str(step)]
    place = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(program, capture_output=True, text=True, check=False, env=place)  # ours


# The long run kills at each line.
STEP = tries(13, long=1)


@pytest.mark.timeout(900)
def test_an_erasure_that_is_killed_at_any_line_is_finished_and_recorded_once(
    tmp_path: Path,
) -> None:
    """Case issue 13, reactors: exactly one effect through any crash."""
    done = killed(tmp_path, step=STEP)

    assert done.returncode == 0, done.stderr
    assert int(done.stdout.splitlines()[-1]) > LINES_MIN
