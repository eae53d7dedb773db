"""Checks a tile log against its checkpoint, and the log's entries against the chains of headers.

Pure: whoever calls fetches the tiles. When an entry and a tile disagree, the tree above tells which of the
two is wrong, so that a finding names one object, not a pair.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from salus.ledger.block import parse_header
from salus.ledger.checkpoint import Checkpoint
from salus.ledger.errors import LedgerError, TileError
from salus.ledger.findings import Finding
from salus.ledger.merkle import hashes_of, leaf_hash, root_of
from salus.ledger.note import split_note
from salus.ledger.tiles import (
    ENTRIES,
    TILE_WIDTH,
    CompactRange,
    TileRef,
    decode_bundle,
    decode_tile,
    tile_width,
)

ReadObject = Callable[[TileRef], bytes | None]
"""Returns the bytes of a tile or bundle, or None if it is not there."""


@dataclass(frozen=True, slots=True)
class CheckedEntries:
    """Entries from index `first` on (None: cannot be read), and what was found wrong on the way to them."""

    first: int
    entries: Sequence[bytes | None]
    findings: list[Finding]


def check_log(checkpoint: Checkpoint, read: ReadObject) -> Iterator[CheckedEntries]:
    """Yield the log's entries, bundle by bundle, with everything wrong in the log's objects.

    All entries are hashed, every tile is recomputed from below and compared, and the root is compared with
    the checkpoint's, whose signature the caller has verified. The last element has no entries but the
    findings about the tree above. Memory: one bundle and 1/256 of the tree's hashes.
    """
    tree: CompactRange | None = CompactRange()
    roots: list[bytes | None] = []
    for index in range(-(-checkpoint.size // TILE_WIDTH)):
        ref = TileRef(0, index, tile_width(0, index, checkpoint.size))
        bundle_ref = TileRef(ENTRIES, index, ref.width)
        entries, problems = read_bundle(bundle_ref, read(bundle_ref))
        stored, tile_problems = read_tile_hashes(ref, read(ref))
        hashes, disagreements = _reconcile(ref, entries, stored, _Arbiter(checkpoint, read, tree))
        if ref.width == TILE_WIDTH:
            roots.append(root_of(hashes) if hashes is not None else _told_above(ref, checkpoint, read))
        tree = _extended(tree, hashes)
        shown: Sequence[bytes | None] = entries if entries is not None else [None] * ref.width
        yield CheckedEntries(index * TILE_WIDTH, shown, [*problems, *tile_problems, *disagreements])
    findings = list(_check_upper(checkpoint.size, roots, read))
    if tree is not None and tree.root() != checkpoint.root:
        findings.append(Finding("log-root", "checkpoint", "the entries do not hash to the checkpoint's root"))
    yield CheckedEntries(checkpoint.size, (), findings)


def read_bundle(ref: TileRef, data: bytes | None) -> tuple[list[bytes] | None, list[Finding]]:
    """Return the entries of a stored bundle, or why there are none."""
    if data is None:
        return None, [Finding("bundle-missing", ref.path, "the object is not there")]
    try:
        entries = decode_bundle(data)
    except TileError as error:
        return None, [Finding("bundle-wrong", ref.path, error.detail)]
    if len(entries) != ref.width:
        return None, [Finding("bundle-wrong", ref.path, f"{len(entries)} entries instead of {ref.width}")]
    return entries, []


def read_tile_hashes(ref: TileRef, data: bytes | None) -> tuple[list[bytes] | None, list[Finding]]:
    """Return the hashes that a stored tile holds, or why there are none."""
    if data is None:
        return None, [Finding("tile-missing", ref.path, "the object is not there")]
    try:
        return decode_tile(data, ref.width), []
    except TileError as error:
        return None, [Finding("tile-wrong", ref.path, error.detail)]


@dataclass(frozen=True, slots=True)
class _Arbiter:
    """Says which of two versions of a level 0 tile the rest of the log commits to."""

    checkpoint: Checkpoint
    read: ReadObject
    before: CompactRange | None

    def commits_to(self, ref: TileRef, hashes: Sequence[bytes]) -> bool:
        if ref.width == TILE_WIDTH:
            return _told_above(ref, self.checkpoint, self.read) == root_of(hashes)
        tree = _extended(self.before, hashes)
        return tree is not None and tree.root() == self.checkpoint.root


def _reconcile(
    ref: TileRef, entries: Sequence[bytes] | None, stored: list[bytes] | None, arbiter: _Arbiter
) -> tuple[list[bytes] | None, list[Finding]]:
    """Return the hashes to go on with, and each place where entries and tile do not agree."""
    if entries is None:
        return stored, []
    computed = hashes_of(entries)
    if stored is None or computed == stored:
        return computed, []
    bundle_is_wrong = arbiter.commits_to(ref, stored) and not arbiter.commits_to(ref, computed)
    code, wrong = (
        ("bundle-wrong", TileRef(ENTRIES, ref.index, ref.width)) if bundle_is_wrong else ("tile-wrong", ref)
    )
    findings = [
        Finding(code, f"{wrong.path} entry {ref.index * TILE_WIDTH + i}", "entry and tile do not agree")
        for i, (one, other) in enumerate(zip(computed, stored, strict=True))
        if one != other
    ]
    return (stored if bundle_is_wrong else computed), findings


def _extended(tree: CompactRange | None, hashes: Sequence[bytes] | None) -> CompactRange | None:
    """Return the tree with these leaves, or None once a leaf is unknown."""
    if tree is None or hashes is None:
        return None
    longer = CompactRange(tree.size, tree.hashes)
    longer.extend(hashes)
    return longer


def _told_above(ref: TileRef, checkpoint: Checkpoint, read: ReadObject) -> bytes | None:
    """Return what the stored tile above says of a full tile, if it says anything."""
    level, index = ref.level + 1, ref.index // TILE_WIDTH
    above = TileRef(level, index, tile_width(level, index, checkpoint.size))
    hashes, _ = read_tile_hashes(above, read(above))
    return None if hashes is None else hashes[ref.index % TILE_WIDTH]


def _check_upper(size: int, roots: list[bytes | None], read: ReadObject) -> Iterator[Finding]:
    """Compare the tiles above level 0 with the roots of the full tiles below them."""
    level = 1
    while roots:
        above: list[bytes | None] = []
        for index in range(-(-len(roots) // TILE_WIDTH)):
            ref = TileRef(level, index, tile_width(level, index, size))
            stored, problems = read_tile_hashes(ref, read(ref))
            yield from problems
            expected = roots[index * TILE_WIDTH : (index + 1) * TILE_WIDTH]
            for place, (one, other) in enumerate(zip(expected, stored or (), strict=False)):
                if one is not None and one != other:
                    yield Finding("tile-wrong", f"{ref.path} hash {place}", "not the hash of the tile below")
            if ref.width == TILE_WIDTH:
                known = [one for one in expected if one is not None]
                above.append(root_of(known) if len(known) == TILE_WIDTH else None)
        roots, level = above, level + 1


@dataclass(slots=True)
class AnchoringChecker:
    """Checks that the log's entries are the headers of the chains: all, in order, each once.

    `chains` maps a shard's origin to the leaf hashes of the header notes in the archive, by height. Headers
    beyond the last anchored one are not a fault: they have not been anchored yet.
    """

    chains: Mapping[str, Sequence[bytes | None]]
    anchored: dict[str, int] = field(default_factory=dict)

    def add(self, index: int, entry: bytes | None) -> list[Finding]:
        """Check the entry at this index of the log."""
        place = f"log entry {index}"
        if entry is None:
            return []
        try:
            header = parse_header(split_note(entry)[0])
        except LedgerError as error:
            return [Finding("entry-unknown", place, str(error))]
        chain = self.chains.get(header.origin)
        if chain is None:
            return [Finding("entry-unknown", place, f"no shard is called {header.origin}")]
        findings = []
        expected = self.anchored.get(header.origin, 0)
        if header.height != expected:
            detail = f"{header.origin} height {header.height}, where {expected} is next"
            findings.append(Finding("entry-order", place, detail))
        self.anchored[header.origin] = max(expected, header.height + 1)
        stored = chain[header.height] if header.height < len(chain) else None
        if stored != leaf_hash(entry):
            detail = f"the archive holds another header, or none, of {header.origin} height {header.height}"
            findings.append(Finding("entry-wrong", place, detail))
        return findings
