"""The demo as a user runs it: the command, its exit code, what it says, and that it leaves nothing behind."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PATIENTS = ROOT / "examples" / "patients"
DEMO_S_MAX = 280


@dataclass(frozen=True)
class Played:
    """What one run of the demo with a few patients said, and where its files are."""

    told: subprocess.CompletedProcess[str]
    state: Path


def salus(state: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "salus.cli", *arguments],
        env={**os.environ, "SALUS_STATE": str(state), "COLUMNS": "140"},
        capture_output=True,
        text=True,
        timeout=DEMO_S_MAX,
        check=False,
    )


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    folder = tmp_path_factory.mktemp("demo")
    patients = folder / "patients"
    patients.mkdir()
    for name in ("Adrian", "Bernardo", "Concepción"):
        (file,) = PATIENTS.glob(f"{name}*.json.gz")
        shutil.copy(file, patients)
    state = folder / "state"
    return Played(salus(state, "demo", "--patients", str(patients)), state)


def processes_of(folder: Path) -> list[str]:
    """Return the command lines of every process that mentions the folder in its command or environment."""
    found = []
    for process in Path("/proc").iterdir():
        if not process.name.isdigit() or int(process.name) == os.getpid():
            continue
        try:
            told = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        except (FileNotFoundError, PermissionError, ProcessLookupError):
            continue
        if str(folder).encode() in told:
            found.append((process / "cmdline").read_bytes().decode(errors="replace"))
    return found


def test_the_demo_shows_all_it_tells_and_leaves_nothing_behind(played: Played) -> None:
    told = played.told

    assert told.returncode == 0, told.stdout[-3000:] + told.stderr[-3000:]
    for chapter in range(1, 11):
        assert f"{chapter} · " in told.stdout
    for claim in (
        "the very next read is refused",
        "the emergency read is allowed",
        "fsck names that block",
        "verify names that object and segment",
        "her record is gone for everyone",
        "and all proofs still verify",
    ):
        assert claim in told.stdout
    assert "Measured in this run" in told.stdout
    assert processes_of(played.state) == []


def test_a_receipt_of_the_demo_verifies_with_nothing_running(played: Played, tmp_path: Path) -> None:
    folder = played.state / "demo"
    changed = tmp_path / "event.json"
    changed.write_bytes((folder / "event.json").read_bytes().replace(b"fhir+json", b"fhir+xmlx"))
    receipt = [str(folder / "receipt.salus"), "--policy", str(folder / "network.json")]

    verified = salus(played.state, "verify", *receipt, "--event", str(folder / "event.json"))
    refused = salus(played.state, "verify", *receipt, "--event", str(changed))

    assert verified.returncode == 0, verified.stderr
    assert refused.returncode == 1
    assert "event-digest" in refused.stdout + refused.stderr
