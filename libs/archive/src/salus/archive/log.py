"""Reads the tile log: checkpoint, tiles, entries and proofs, out of the log bucket (c2sp.org/tlog-tiles)."""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable

from salus.archive.errors import DamagedError, MissingError
from salus.ledger.errors import TileError
from salus.ledger.merkle import HASH_SIZE
from salus.ledger.note import NOTE_BYTES_MAX
from salus.ledger.tiles import (
    ENTRIES,
    ENTRY_BYTES_MAX,
    LEVEL_MAX,
    TILE_WIDTH,
    ReadTile,
    TileRef,
    decode_bundle,
    encode_bundle,
    entries_path,
    inclusion_proof,
    tile_width,
    tiles_for_inclusion,
)
from salus.objects import NotFoundError, ObjectStore, TooLargeError

CHECKPOINT_KEY = "checkpoint"
# 8 KiB each for tiles; entry bundles are not cached.
TILES_CACHED_MAX = 1024
TILES_AT_ONCE = 16
_TILE = re.compile(
    r"tile/(?P<level>entries|0|[1-9][0-9]?)/(?P<n>(?:x[0-9]{3}/){0,6}[0-9]{3})(?:\.p/(?P<w>[1-9][0-9]{0,2}))?"
)


class LogReader:
    """The log bucket, read only; nothing it returns has been verified against a checkpoint."""

    def __init__(self, objects: ObjectStore, *, tiles_cached_max: int = TILES_CACHED_MAX) -> None:
        self._objects = objects
        self._tiles_cached_max = tiles_cached_max
        self._tiles: OrderedDict[TileRef, bytes] = OrderedDict()

    async def checkpoint(self) -> bytes | None:
        """Return the published checkpoint note, or None before the first; raises DamagedError."""
        try:
            return await self._objects.get(CHECKPOINT_KEY, bytes_max=NOTE_BYTES_MAX)
        except NotFoundError:
            return None
        except TooLargeError as error:
            raise DamagedError(CHECKPOINT_KEY, str(error)) from None

    async def tile(self, ref: TileRef) -> bytes:
        """Return a tile or bundle; one that gave way to the full tile is cut out of that.

        Raises:
            DamagedError: it is missing, or of the wrong length.
        """
        cached = self._tiles.get(ref)
        if cached is not None:
            self._tiles.move_to_end(ref)
            return cached
        data = await self._fetch(ref)
        if ref.level != ENTRIES:
            if len(data) != ref.width * HASH_SIZE:
                raise DamagedError(ref.path, f"{len(data)} bytes instead of {ref.width} hashes")
            self._remember(ref, data)
        return data

    def forget(self, refs: Iterable[TileRef]) -> None:
        """Read these tiles anew next time: what they led to was not what was signed."""
        for ref in refs:
            self._tiles.pop(ref, None)

    async def tiles(self, refs: Iterable[TileRef]) -> ReadTile:
        """Fetch these tiles and return the function by which `salus.ledger.tiles` reads them."""
        wanted = list(dict.fromkeys(refs))
        limit = asyncio.Semaphore(TILES_AT_ONCE)

        async def one(ref: TileRef) -> bytes:
            async with limit:
                return await self.tile(ref)

        found = dict(zip(wanted, await asyncio.gather(*map(one, wanted)), strict=True))
        return lambda level, index, width: found[TileRef(level, index, width)]

    async def inclusion_path(self, *, index: int, size: int) -> list[bytes]:
        """Return the path of entry `index` in the tree of `size` entries.

        Raises:
            DamagedError: a tile is missing or malformed.
        """
        return inclusion_proof(index, size, await self.tiles(tiles_for_inclusion(index, size)))

    async def entries(self, start: int, end: int) -> AsyncIterator[bytes]:
        """Yield the entries from `start` up to `end`, which must not be beyond a published size.

        Raises:
            DamagedError: a bundle is missing, malformed or of the wrong length.
        """
        for index in range(start // TILE_WIDTH, -(-end // TILE_WIDTH)):
            width = tile_width(ENTRIES, index, end)
            first = index * TILE_WIDTH
            path = entries_path(index, width)
            try:
                bundle = decode_bundle(await self.tile(TileRef(ENTRIES, index, width)))
            except TileError as error:
                raise DamagedError(path, error.detail) from None
            if len(bundle) != width:
                raise DamagedError(path, f"{len(bundle)} entries instead of {width}")
            for entry in bundle[max(start - first, 0) :]:
                yield entry

    async def _fetch(self, ref: TileRef) -> bytes:
        data = await self._get(ref)
        if data is None and ref.width < TILE_WIDTH:
            full = TileRef(ref.level, ref.index, TILE_WIDTH)
            whole = await self._get(full)
            data = None if whole is None else cut_tile(full, whole, ref.width)
        if data is None:
            raise MissingError(ref.path, "the tile is missing")
        return data

    async def _get(self, ref: TileRef) -> bytes | None:
        try:
            return await self._objects.get(ref.path, bytes_max=tile_bytes_max(ref))
        except NotFoundError:
            return None
        except TooLargeError as error:
            raise DamagedError(ref.path, str(error)) from None

    def _remember(self, ref: TileRef, data: bytes) -> None:
        self._tiles[ref] = data
        while len(self._tiles) > self._tiles_cached_max:
            self._tiles.popitem(last=False)


def tile_bytes_max(ref: TileRef) -> int:
    """Return how large a tile or bundle of this width is at most."""
    return ref.width * (HASH_SIZE if ref.level != ENTRIES else 2 + ENTRY_BYTES_MAX)


def cut_tile(ref: TileRef, data: bytes, width: int) -> bytes:
    """Return the partial tile or bundle of `width` out of a wider one.

    Raises:
        DamagedError: a bundle cannot be decoded.
    """
    if ref.level != ENTRIES:
        return data[: width * HASH_SIZE]
    try:
        return encode_bundle(decode_bundle(data)[:width])
    except TileError as error:
        raise DamagedError(ref.path, error.detail) from None


def parse_tile_path(path: str) -> TileRef | None:
    """Return the tile that a path names, `tile/L/N[.p/W]`, or None if it is not in the one form of those."""
    match = _TILE.fullmatch(path)
    if match is None:
        return None
    level = ENTRIES if match["level"] == "entries" else int(match["level"])
    index = int(match["n"].replace("x", "").replace("/", ""))
    width = int(match["w"] or TILE_WIDTH)
    if level > LEVEL_MAX or width > TILE_WIDTH or (match["w"] and width == TILE_WIDTH):
        return None
    ref = TileRef(level, index, width)
    return ref if ref.path == path else None
