"""Temporary folders go with their process, or with the next one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from salus.crypto.scratch_folders import scratch_folder

USER = """
import pathlib, sys
from salus.crypto.scratch_folders import scratch_folder
with scratch_folder("salus-x-", place=pathlib.Path(sys.argv[1])) as folder:
    (folder / "data").write_text("much")
    print(folder, flush=True)
    sys.stdin.read()
"""


def begun(place: Path) -> tuple[subprocess.Popen[str], Path]:
    """Start another process that uses a folder; return it and the folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", USER, str(place)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_a_folder_is_private_and_gone_with_all_that_is_in_it(tmp_path: Path) -> None:
    with scratch_folder("salus-x-", place=tmp_path) as folder:
        (folder / "below").mkdir()
        mode = folder.stat().st_mode & 0o777

    assert mode == 0o700
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_removed_by_the_next_one(tmp_path: Path) -> None:
    """Some 200 folders of killed runs lay in /tmp."""
    process, left = begun(tmp_path)
    with process:
        process.kill()
    assert (left / "data").exists()

    with scratch_folder("salus-x-", place=tmp_path) as folder:
        assert list(tmp_path.iterdir()) == [folder]


def test_what_a_running_process_uses_is_left_alone(tmp_path: Path) -> None:
    process, used = begun(tmp_path)
    with process:
        with scratch_folder("salus-x-", place=tmp_path):
            assert (used / "data").read_text() == "much"
        process.communicate("")

    assert list(tmp_path.iterdir()) == []


def test_what_is_kept_or_was_made_by_others_stays(tmp_path: Path) -> None:
    (tmp_path / "salus-x-of-somebody").mkdir()
    (tmp_path / "other").mkdir()
    with scratch_folder("salus-x-", place=tmp_path, keep=True) as kept:
        (kept / "log").write_text("why")
    with scratch_folder("salus-x-", place=tmp_path):
        pass

    assert {path.name for path in tmp_path.iterdir()} == {"salus-x-of-somebody", "other", kept.name}
    assert [path.name for path in kept.iterdir()] == ["log"]
