"""A tile is passed on and kept only as a checkpoint covers it, even if it was wrong once (case F17)."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from salus.archive.errors import DamagedError
from salus.archive.log import LogReader
from salus.archive.verified_tiles import VerifiedTiles, is_covered
from salus.ledger.checkpoint import Checkpoint
from salus.ledger.merkle import hashes_of, root_of
from salus.ledger.tiles import ENTRIES, TileRef, entries_path, new_tiles, tile_width, tiles_of
from salus.objects.memory import MemoryObjects

SIZES = [1, 2, 255, 256, 257, 511, 512, 513, 700, 65_536, 65_537, 66_000]


def log_of(size: int) -> tuple[MemoryObjects, Checkpoint]:
    """Return a log of that size, and its checkpoint."""
    entries = [b"%d" % n for n in range(size)]
    objects = MemoryObjects()
    for path, data in new_tiles(0, entries, lambda *_: b"").items():
        objects.plant(path, data)
    return objects, Checkpoint("log", size, root_of(hashes_of(entries)))


def all_of(size: int) -> list[TileRef]:
    bundles = [TileRef(ENTRIES, n, tile_width(ENTRIES, n, size)) for n in range(-(-size // 256))]
    return [*tiles_of(size), *bundles]


@pytest.mark.parametrize("size", SIZES)
async def test_every_tile_and_bundle_of_a_true_log_is_returned_as_it_is(size: int) -> None:
    objects, checkpoint = log_of(size)
    tiles = VerifiedTiles(LogReader(objects))
    chosen = [ref for ref in all_of(size) if size < 1000 or ref.index in {0, 1, 255, 256, 257}]

    for ref in chosen:
        assert await tiles.tile(ref, checkpoint) == objects.objects[ref.path][0]


@settings(max_examples=50, deadline=None)
@given(data=st.data(), size=st.sampled_from([2, 256, 257, 513, 700]))
def test_no_flipped_bit_is_passed_on(data: st.DataObject, size: int) -> None:
    objects, checkpoint = log_of(size)
    ref = data.draw(st.sampled_from(all_of(size)))
    right, etag = objects.objects[ref.path]
    place = data.draw(st.integers(0, len(right) - 1))
    objects.objects[ref.path] = (
        bytes([*right[:place], right[place] ^ 1 << data.draw(st.integers(0, 7)), *right[place + 1 :]]),
        etag,
    )

    async def ask() -> None:
        tiles = VerifiedTiles(LogReader(objects))
        with pytest.raises(DamagedError):
            await tiles.tile(ref, checkpoint)
        objects.objects[ref.path] = (right, etag)
        assert await tiles.tile(ref, checkpoint) == right

    asyncio.run(ask())


@pytest.mark.parametrize("size", [700, 257])
async def test_what_was_wrong_in_memory_is_read_again(size: int) -> None:
    objects, checkpoint = log_of(size)
    log = LogReader(objects)
    for ref in tiles_of(size):
        right = objects.objects[ref.path]
        objects.objects[ref.path] = (bytes(len(right[0])), "wrong")
        await log.tile(ref)
        objects.objects[ref.path] = right
    tiles = VerifiedTiles(log)

    for ref in tiles_of(size):
        assert await tiles.tile(ref, checkpoint) == objects.objects[ref.path][0]


async def test_a_narrower_tile_of_an_earlier_checkpoint_is_cut_out() -> None:
    objects, checkpoint = log_of(300)
    tiles = VerifiedTiles(LogReader(objects))

    whole = objects.objects[TileRef(0, 1, 44).path][0]
    assert await tiles.tile(TileRef(0, 1, 3), checkpoint) == whole[: 3 * 32]
    assert not is_covered(TileRef(0, 1, 45), 300)
    assert is_covered(TileRef(ENTRIES, 1, 44), 300)
    assert await tiles.tile(TileRef(ENTRIES, 0, 256), checkpoint) == objects.objects[entries_path(0)][0]
