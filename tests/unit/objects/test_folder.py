"""A copy of a bucket in a folder reads like the bucket, and is never written to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from salus.objects import NotFoundError, RefusedError, TooLargeError
from salus.objects.folder import FolderObjects


@pytest.fixture
def folder(tmp_path: Path) -> FolderObjects:
    (tmp_path / "shard" / "0").mkdir(parents=True)
    (tmp_path / "shard" / "0" / "header").write_bytes(b"0123456789")
    (tmp_path / "shard" / "0" / "no key of ours").write_bytes(b"")
    return FolderObjects(tmp_path)


async def test_an_object_is_the_file_of_its_key(folder: FolderObjects) -> None:
    key = "shard/0/header"

    assert await folder.get(key, bytes_max=10) == b"0123456789"
    assert b"".join([piece async for piece in folder.stream(key, start=2, end=5)]) == b"234"
    assert b"".join([piece async for piece in folder.stream(key)]) == b"0123456789"
    assert (await folder.head(key)).size == 10
    with pytest.raises(TooLargeError):
        await folder.get(key, bytes_max=9)
    for missing in ("shard/0/other", "shard/0/header/below"):
        with pytest.raises(NotFoundError):
            await folder.get(missing, bytes_max=10)


@pytest.mark.parametrize("key", ["../shard/0/header", "/etc/passwd", "shard/../../x", "a b", ""])
async def test_no_key_leads_out_of_the_folder(folder: FolderObjects, key: str) -> None:
    with pytest.raises(ValueError, match="is not a key"):
        await folder.get(key, bytes_max=10)


async def test_a_listing_names_keys_and_tells_of_strays(folder: FolderObjects) -> None:
    strays: list[str] = []
    listing = folder.list("shard", on_stray=lambda stray: strays.append(stray.key))
    found = [entry.key async for entry in listing]

    assert (found, strays) == (["shard/0/header"], ["shard/0/no key of ours"])


async def test_nothing_is_written(folder: FolderObjects) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b""

    for writing in (
        folder.put("k", b""),
        folder.create("k", b""),
        folder.replace("k", b"", "e"),
        folder.put_stream("k", pieces()),
        folder.delete("k"),
        folder.destroy("k"),
    ):
        with pytest.raises(RefusedError):
            await writing
