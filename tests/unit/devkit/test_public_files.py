"""Files that everybody may read, and nobody else has written."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from salus.devkit.public_files import write_public


@pytest.mark.parametrize("fresh", [False, True])
def test_a_link_under_a_name_that_can_be_foreseen_is_not_followed(tmp_path: Path, *, fresh: bool) -> None:
    # A new user's case, of the red team's kind: who may write to the folder chose what was overwritten.
    victim, file = tmp_path / "victim", tmp_path / "network.json"
    victim.write_bytes(b"theirs")
    for name in (f".network.json.{os.getpid()}", ".network.json"):
        (tmp_path / name).symlink_to(victim)

    write_public(file, b"ours", fresh=fresh)

    assert (victim.read_bytes(), file.read_bytes()) == (b"theirs", b"ours")
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert len([*tmp_path.iterdir()]) == 4


def test_a_fresh_file_leaves_one_that_is_there(tmp_path: Path) -> None:
    for content in (b"first", b"second"):
        write_public(tmp_path / "a" / "file", content, fresh=True)

    assert (tmp_path / "a" / "file").read_bytes() == b"first"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["file"]
