"""The tests of `examples/coldchain` stand by themselves; the real parts are in tests/integration/examples."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[3] / "examples" / "coldchain"


def test_the_examples_own_tests_pass_where_nothing_of_this_repository_is_beside_them(tmp_path: Path) -> None:
    places = {"PYTHONPATH": str(EXAMPLE / "src"), "HYPOTHESIS_STORAGE_DIRECTORY": str(tmp_path)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "."]

    done = subprocess.run(command, cwd=EXAMPLE, env=os.environ | places, capture_output=True, check=False)

    assert done.returncode == 0, done.stdout.decode()
