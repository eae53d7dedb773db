"""The generators, each installed once from its registry by its lock file, into `.venv/salus-generators`."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PLACE = ROOT / ".venv" / "salus-generators"
SECONDS_MAX = 280


def run(command: Sequence[object], *, cwd: Path) -> str:
    """Run a tool, and return all that it said."""
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS_MAX,
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}"
    return done.stdout


def tool(name: str) -> str:
    """Return where a tool is; without it the test is skipped, but in CI."""
    found = shutil.which(name)
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{name} is not installed, and CI has to have it")
        pytest.skip(f"{name} is not installed")
    return found


def _installed(name: str, *locks: Path) -> tuple[Path, bool]:
    """Return a folder for what these locks name, and whether it has been filled already."""
    digest = hashlib.sha256(b"".join(lock.read_bytes() for lock in locks)).hexdigest()[:16]
    folder = PLACE / f"{name}-{digest}"
    return folder, (folder / "complete").exists()


@pytest.fixture(scope="session")
def node() -> Path:
    """Return the folder with our scripts and the node_modules that they need."""
    npm = tool("npm")
    scripts = sorted(HERE.glob("*.mjs"))
    locks = [HERE / "package.json", HERE / "package-lock.json"]
    folder, complete = _installed("node", *locks)
    folder.mkdir(parents=True, exist_ok=True)
    for source in [*scripts, *locks]:
        shutil.copy(source, folder)
    if not complete:
        run([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--omit=optional"], cwd=folder)
        (folder / "complete").touch()
    return folder


@pytest.fixture(scope="session")
def python() -> Path:
    """Return the folder of the programs in an environment with the generator of Python clients."""
    lock = HERE / "requirements.lock"
    folder, complete = _installed("python", lock)
    if not complete:
        uv = ROOT / ".venv" / "salus-tools" / "uv"
        run([uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, folder], cwd=ROOT)
        install: list[str | Path] = [
            uv,
            "pip",
            "install",
            "--quiet",
            "--require-hashes",
            "--requirement",
            lock,
        ]
        run([*install, "--python", folder / "bin" / "python"], cwd=ROOT)
        (folder / "complete").touch()
    return folder / "bin"
