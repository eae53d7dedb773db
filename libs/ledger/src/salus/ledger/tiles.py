"""C2SP tlog-tiles: paths, bundles, growing a log, and proofs out of tiles (c2sp.org/tlog-tiles).

Pure: tiles come in through a function `read_tile(level, index, width)` and go out as a dictionary of paths
and bytes. Level -1 (`ENTRIES`) means entry bundles. A caller that can only read asynchronously asks
`tiles_for_…` first, fetches those, and passes a dictionary's lookup.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from salus.ledger.errors import TileError
from salus.ledger.merkle import EMPTY_ROOT, HASH_SIZE, hashes_of, levels_of, node_hash, root_of

TILE_HEIGHT = 8
TILE_WIDTH = 256
ENTRIES = -1
ENTRY_BYTES_MAX = 65_535
LEVEL_MAX = 63

ReadTile = Callable[[int, int, int], bytes]
"""(level, index, width) -> the tile's bytes; level -1 means an entry bundle."""


@dataclass(frozen=True, slots=True, order=True)
class TileRef:
    """Which tile: level (-1: entry bundle), index within the level, and width (256: a full tile)."""

    level: int
    index: int
    width: int

    @property
    def path(self) -> str:
        """The tile's path under the log's prefix."""
        return tile_path(self.level, self.index, self.width)


def tile_path(level: int, index: int, width: int = TILE_WIDTH) -> str:
    """Return `tile/L/N[.p/W]`, or `tile/entries/N[.p/W]` for level -1."""
    if not ENTRIES <= level <= LEVEL_MAX or index < 0 or not 1 <= width <= TILE_WIDTH:
        raise TileError("out-of-range", f"no tile of level {level}, index {index}, width {width}")
    digits = str(index)
    digits = digits.zfill(-(-len(digits) // 3) * 3)
    groups = [digits[i : i + 3] for i in range(0, len(digits), 3)]
    place = "/".join([f"x{group}" for group in groups[:-1]] + groups[-1:])
    partial = "" if width == TILE_WIDTH else f".p/{width}"
    return f"tile/{'entries' if level == ENTRIES else level}/{place}{partial}"


def entries_path(index: int, width: int = TILE_WIDTH) -> str:
    """Return `tile/entries/N[.p/W]`."""
    return tile_path(ENTRIES, index, width)


def encode_bundle(entries: Sequence[bytes]) -> bytes:
    """Return an entry bundle: each entry after its length as a big-endian uint16.

    Raises:
        TileError: `malformed-tile`, if an entry is too long or there are not 1 to 256 of them.
    """
    if not 1 <= len(entries) <= TILE_WIDTH or any(len(entry) > ENTRY_BYTES_MAX for entry in entries):
        raise TileError("malformed-tile", "not 1 to 256 entries of at most 65,535 bytes")
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


def decode_bundle(data: bytes) -> list[bytes]:
    """Return the entries of a bundle.

    Raises:
        TileError: `malformed-tile`.
    """
    entries, at = [], 0
    while at < len(data):
        end = at + 2 + int.from_bytes(data[at : at + 2], "big")
        if end > len(data):
            raise TileError("malformed-tile", "the bundle ends within an entry")
        entries.append(data[at + 2 : end])
        at = end
    if not 1 <= len(entries) <= TILE_WIDTH:
        raise TileError("malformed-tile", f"a bundle of {len(entries)} entries")
    return entries


def decode_tile(data: bytes, width: int) -> list[bytes]:
    """Return the hashes of a tile of that width.

    Raises:
        TileError: `malformed-tile`.
    """
    if len(data) != width * HASH_SIZE:
        raise TileError("malformed-tile", f"{len(data)} bytes instead of {width} hashes")
    return [data[i : i + HASH_SIZE] for i in range(0, len(data), HASH_SIZE)]


class CompactRange:
    """A growing tree of which only the O(log n) hashes of its perfect subtrees are kept, largest first."""

    def __init__(self, size: int = 0, hashes: Iterable[bytes] = ()) -> None:
        self.size = size
        self.hashes = list(hashes)
        if size < 0 or len(self.hashes) != size.bit_count() or any(len(h) != HASH_SIZE for h in self.hashes):
            raise TileError("out-of-range", f"{len(self.hashes)} hashes for a tree of {size}")

    def append(self, leaf: bytes) -> None:
        """Append one leaf hash."""
        node, size = leaf, self.size
        while size & 1:
            node = node_hash(self.hashes.pop(), node)
            size >>= 1
        self.hashes.append(node)
        self.size += 1

    def extend(self, leaves: Iterable[bytes]) -> None:
        """Append leaf hashes in order."""
        for leaf in leaves:
            self.append(leaf)

    def root(self) -> bytes:
        """Return the tree hash of all leaves so far."""
        if not self.hashes:
            return EMPTY_ROOT
        node = self.hashes[-1]
        for left in reversed(self.hashes[:-1]):
            node = node_hash(left, node)
        return node


def tile_width(level: int, index: int, size: int) -> int:
    """Return how many hashes (or entries) the tile has in a tree of that size; 0 if there is none."""
    return max(0, min(TILE_WIDTH, (size >> (TILE_HEIGHT * max(level, 0))) - index * TILE_WIDTH))


def tiles_of(size: int) -> list[TileRef]:
    """Return every tile of a tree of that size, level 0 first, without entry bundles."""
    refs: list[TileRef] = []
    level = 0
    while (wide := size >> (TILE_HEIGHT * level)) > 0:
        refs.extend(TileRef(level, n, tile_width(level, n, size)) for n in range(-(-wide // TILE_WIDTH)))
        level += 1
    return refs


def new_tiles(old_size: int, new_entries: Sequence[bytes], read_tile: ReadTile) -> dict[str, bytes]:
    """Return path and bytes of every tile and bundle to write when the log grows by these entries.

    Only the partial tiles on the old tree's right edge (`tiles_for_append`) are read. The order of the
    dictionary does not matter: all of it must be stored before a checkpoint of the new size is shown.

    Raises:
        TileError: `malformed-tile`.
    """
    if not new_entries:
        return {}
    written = {}
    kept: list[bytes] = []
    if width := old_size % TILE_WIDTH:
        kept = decode_bundle(read_tile(ENTRIES, old_size // TILE_WIDTH, width))
        if len(kept) != width:
            raise TileError("malformed-tile", f"a bundle of {len(kept)} entries instead of {width}")
    for ref, entries in _tiles_from(ENTRIES, old_size, [*kept, *new_entries]):
        written[ref.path] = encode_bundle(entries)
    fresh = hashes_of(new_entries)
    level = 0
    while fresh:
        old = old_size >> (TILE_HEIGHT * level)
        width = old % TILE_WIDTH
        kept = decode_tile(read_tile(level, old // TILE_WIDTH, width), width) if width else []
        fulls = []
        for ref, hashes in _tiles_from(level, old, kept + fresh):
            written[ref.path] = b"".join(hashes)
            if ref.width == TILE_WIDTH:
                fulls.append(root_of(hashes))
        fresh, level = fulls, level + 1
    return written


def _tiles_from(level: int, old: int, members: list[bytes]) -> Iterable[tuple[TileRef, list[bytes]]]:
    """Cut members, which begin where the tile that holds place `old` begins, into tiles."""
    for start in range(0, len(members), TILE_WIDTH):
        chunk = members[start : start + TILE_WIDTH]
        yield TileRef(level, old // TILE_WIDTH + start // TILE_WIDTH, len(chunk)), chunk


def inclusion_proof(index: int, size: int, read_tile: ReadTile) -> list[bytes]:
    """Return the inclusion path of entry `index` in the tree of that size, from its sibling up.

    Raises:
        TileError: `out-of-range` or `malformed-tile`.
    """
    return [_span_hash(span, size, read_tile) for span in _inclusion_spans(index, size)]


def consistency_proof(first: int, second: int, read_tile: ReadTile) -> list[bytes]:
    """Return the proof that the tree of size `second` extends the one of size `first` (not 0).

    Raises:
        TileError: `out-of-range` or `malformed-tile`.
    """
    return [_span_hash(span, second, read_tile) for span in _consistency_spans(first, second)]


def root_at(size: int, read_tile: ReadTile) -> bytes:
    """Return the root of the tree of that size."""
    return _span_hash((0, size), size, read_tile) if size else EMPTY_ROOT


def root_of_prefix(prefix: int, size: int, read_tile: ReadTile) -> bytes:
    """Return the root of the first `prefix` entries (not 0), out of the tiles of the tree of that size."""
    return _span_hash((0, prefix), size, read_tile)


def range_at(size: int, read_tile: ReadTile) -> CompactRange:
    """Return the compact range of the tree of that size, to append to."""
    return CompactRange(size, [_node(node, size, read_tile) for node in _nodes_of((0, size))])


def tiles_for_inclusion(index: int, size: int) -> list[TileRef]:
    """Return the tiles that `inclusion_proof` will read."""
    return needed_tiles(_inclusion_spans(index, size), size)


def tiles_for_consistency(first: int, second: int) -> list[TileRef]:
    """Return the tiles that `consistency_proof` will read."""
    return needed_tiles(_consistency_spans(first, second), second)


def tiles_for_prefix(prefix: int, size: int) -> list[TileRef]:
    """Return the tiles that `root_of_prefix` will read."""
    return needed_tiles([(0, prefix)], size)


def tiles_for_root(size: int) -> list[TileRef]:
    """Return the tiles that `root_at` and `range_at` will read."""
    return needed_tiles([(0, size)], size)


def tiles_for_append(old_size: int) -> list[TileRef]:
    """Return the tiles and the bundle that `new_tiles` will read, at most, for a log of that size."""
    refs = []
    if width := old_size % TILE_WIDTH:
        refs.append(TileRef(ENTRIES, old_size // TILE_WIDTH, width))
    level = 0
    while (old := old_size >> (TILE_HEIGHT * level)) > 0:
        if width := old % TILE_WIDTH:
            refs.append(TileRef(level, old // TILE_WIDTH, width))
        level += 1
    return refs


Span = tuple[int, int]
"""Entries from the first up to, not including, the second: a subtree of an RFC 6962 tree."""


def needed_tiles(spans: Iterable[Span], size: int) -> list[TileRef]:
    """Return the tiles out of which the hashes of these subtrees are computed, each once."""
    refs = {_tile_of(node, size): None for span in spans for node in _nodes_of(span)}
    return list(refs)


def _inclusion_spans(index: int, size: int) -> list[Span]:
    if not 0 <= index < size:
        raise TileError("out-of-range", f"entry {index} of a tree of {size}")
    spans, low, high = [], 0, size
    while high - low > 1:
        middle = low + _split(high - low)
        if index < middle:
            spans.append((middle, high))
            high = middle
        else:
            spans.append((low, middle))
            low = middle
    return spans[::-1]


def _consistency_spans(first: int, second: int) -> list[Span]:
    if not 1 <= first <= second:
        raise TileError("out-of-range", f"no consistency proof from size {first} to {second}")
    spans, low, high = [], 0, second
    while high != first:
        middle = low + _split(high - low)
        if first <= middle:
            spans.append((middle, high))
            high = middle
        else:
            spans.append((low, middle))
            low = middle
    # The verifier knows the old root itself; only a part of the old tree has to be told.
    return [*([(low, high)] if low else []), *spans[::-1]]


def _split(count: int) -> int:
    """Return the largest power of two smaller than count."""
    return 1 << ((count - 1).bit_length() - 1)


Node = tuple[int, int]
"""Height above the leaves and index at that height of a perfect subtree."""


def _nodes_of(span: Span) -> list[Node]:
    low, high = span
    nodes = []
    while low < high:
        height = (high - low).bit_length() - 1
        nodes.append((height, low >> height))
        low += 1 << height
    return nodes


def _tile_of(node: Node, size: int) -> TileRef:
    height, index = node
    level, within = divmod(height, TILE_HEIGHT)
    tile = (index << within) // TILE_WIDTH
    return TileRef(level, tile, tile_width(level, tile, size))


def _span_hash(span: Span, size: int, read_tile: ReadTile) -> bytes:
    *lefts, result = [_node(node, size, read_tile) for node in _nodes_of(span)]
    for left in reversed(lefts):
        result = node_hash(left, result)
    return result


def _node(node: Node, size: int, read_tile: ReadTile) -> bytes:
    ref = _tile_of(node, size)
    height, index = node
    within = height % TILE_HEIGHT
    levels = _levels_of_tile(read_tile(ref.level, ref.index, ref.width), ref.width)
    return levels[within][index - (ref.index * TILE_WIDTH >> within)]


@lru_cache(maxsize=128)
def _levels_of_tile(data: bytes, width: int) -> list[list[bytes]]:
    """Hash a tile up once, not again for every proof that passes through it (35 kB a tile)."""
    return levels_of(decode_tile(data, width))
