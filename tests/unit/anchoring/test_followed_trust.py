"""Scrubbing goes by the network file as it is now, and by the one before while that cannot be read."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from salus.anchoring.__main__ import FollowedTrust
from salus.devkit.network import NetworkFolder, Plan


def test_a_network_file_that_is_being_written_does_not_end_scrubbing(tmp_path: Path) -> None:
    """Case L1, sibling: one look at half a file ended the task."""
    folder = NetworkFolder(tmp_path)
    folder.create(Plan())
    settings = SimpleNamespace(network_file=folder.file)
    trust = FollowedTrust(cast("Any", SimpleNamespace(settings=settings, shards={})))
    before = trust.now()
    whole = folder.file.read_bytes()

    for half in (b"", whole[:100], b"[]"):
        folder.file.write_bytes(half)
        assert trust.now() == before
    folder.file.unlink()
    assert trust.now() == before

    folder.file.write_bytes(whole)
    folder.add_shard(1)
    assert set(trust.now().shard_keys) == {0, 1}
