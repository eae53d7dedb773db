from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from salus.devkit.cache import cache_dir, cached, is_cached
from salus.devkit.errors import BuildError, DevkitError
from salus.devkit.narration import SilentNarrator


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


async def test_two_builders_at_once_build_once():
    builds = 0

    async def build(folder: Path) -> None:
        nonlocal builds
        builds += 1
        await asyncio.sleep(0)
        (folder / "made").write_text("whole")

    both = (cached("kafka", "1", build, SilentNarrator()), cached("kafka", "1", build, SilentNarrator()))
    first, second = await asyncio.gather(*both)

    assert builds == 1
    assert first == second == cache_dir() / "kafka" / "1"
    assert (first / "made").read_text() == "whole"


async def test_a_build_that_fails_leaves_nothing_and_can_be_tried_again():
    async def fail(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise BuildError("no")

    async def build(folder: Path) -> None:
        (folder / "whole").write_text("whole")

    with pytest.raises(BuildError):
        await cached("minio", "1", fail, SilentNarrator())
    assert not is_cached("minio", "1")

    found = await cached("minio", "1", build, SilentNarrator())

    assert [path.name for path in found.iterdir()] == ["whole"]
    assert [path.name for path in found.parent.iterdir() if path.is_dir()] == ["1"]


async def test_another_version_is_built_anew():
    async def build(folder: Path) -> None:
        (folder / "whole").touch()

    first = await cached("minio", "1", build, SilentNarrator())
    second = await cached("minio", "2", build, SilentNarrator())

    assert first != second


async def test_a_cache_that_cannot_be_made_is_said_in_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))

    async def build(folder: Path) -> None:
        raise AssertionError(folder)

    with pytest.raises(DevkitError, match=r"cache folder .* cannot be made"):
        await cached("minio", "1", build, SilentNarrator())
