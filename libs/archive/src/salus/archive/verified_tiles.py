"""Tiles and bundles of the log as a checkpoint covers them, hashed up to its root before they are kept."""

from __future__ import annotations

from collections import OrderedDict

from salus.archive.errors import DamagedError
from salus.archive.log import TILES_CACHED_MAX, LogReader
from salus.ledger.checkpoint import Checkpoint
from salus.ledger.errors import TileError
from salus.ledger.merkle import HASH_SIZE, hashes_of, root_of
from salus.ledger.tiles import (
    ENTRIES,
    TILE_WIDTH,
    TileRef,
    decode_bundle,
    decode_tile,
    root_at,
    tile_width,
    tiles_for_root,
)

# What was in memory may be from before a repair, so it is read a second time.
LOOKS_MAX = 2


class VerifiedTiles:
    """Reads through a LogReader, and keeps tiles of hashes once they are verified; the log only grows."""

    def __init__(self, log: LogReader, *, tiles_cached_max: int = TILES_CACHED_MAX) -> None:
        self._log = log
        self._tiles_cached_max = tiles_cached_max
        self._verified: OrderedDict[TileRef, bytes] = OrderedDict()

    async def tile(self, ref: TileRef, under: Checkpoint) -> bytes:
        """Return a tile or bundle that is no wider than in the checkpoint's tree (`is_covered`).

        Raises:
            DamagedError: it is missing, or not the one that the checkpoint covers.
        """
        if ref.level == ENTRIES:
            return await self._bundle(ref, under)
        wide = TileRef(ref.level, ref.index, tile_width(ref.level, ref.index, under.size))
        return (await self._hashes(wide, under))[: ref.width * HASH_SIZE]

    async def _bundle(self, ref: TileRef, under: Checkpoint) -> bytes:
        leaves = await self.tile(TileRef(0, ref.index, ref.width), under)
        data = await self._log.tile(ref)
        try:
            entries = decode_bundle(data)
        except TileError as error:
            raise DamagedError(ref.path, error.detail) from None
        if b"".join(hashes_of(entries)) != leaves:
            raise DamagedError(ref.path, "its entries are not those that the checkpoint covers")
        return data

    async def _hashes(self, ref: TileRef, under: Checkpoint) -> bytes:
        """Return a tile as wide as it is in the checkpoint's tree."""
        known = self._verified.get(ref)
        if known is not None:
            self._verified.move_to_end(ref)
            return known
        if ref.width < TILE_WIDTH:
            await self._verify_edge(under)
            return self._verified[ref]
        above, place = divmod(ref.index, TILE_WIDTH)
        parent = TileRef(ref.level + 1, above, tile_width(ref.level + 1, above, under.size))
        expected = (await self._hashes(parent, under))[place * HASH_SIZE : (place + 1) * HASH_SIZE]
        for _ in range(LOOKS_MAX):
            data = await self._log.tile(ref)
            if root_of(decode_tile(data, ref.width)) == expected:
                self._remember(ref, data)
                return data
            self._log.forget([ref])
        raise DamagedError(ref.path, "its hashes are not those that the checkpoint covers")

    async def _verify_edge(self, under: Checkpoint) -> None:
        """Verify the tiles that are not full, which together make the root."""
        refs = tiles_for_root(under.size)
        for _ in range(LOOKS_MAX):
            read = await self._log.tiles(refs)
            if root_at(under.size, read) == under.root:
                for ref in refs:
                    self._remember(ref, read(ref.level, ref.index, ref.width))
                return
            self._log.forget(refs)
        paths = ", ".join(ref.path for ref in refs)
        raise DamagedError(refs[0].path, f"the checkpoint's root is not that of {paths}")

    def _remember(self, ref: TileRef, data: bytes) -> None:
        self._verified[ref] = data
        while len(self._verified) > self._tiles_cached_max:
            self._verified.popitem(last=False)


def is_covered(ref: TileRef, size: int) -> bool:
    """Tell whether a tree of that size has the tile at least as wide."""
    return ref.width <= tile_width(ref.level, ref.index, size)
