"""Checks the log bucket: checkpoint, head, and every tile and bundle, byte for byte, against each other.

An entry stands in the log three times: as bytes in its bundle, as a hash in its tile, and as a header in the
archive. Where bundle and tile disagree, the shard's signature on the entry says which of them is wrong.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from salus.archive.errors import HeadError
from salus.archive.head import HEAD_BYTES_MAX, HEAD_KEY, Head, open_head
from salus.archive.log import CHECKPOINT_KEY, parse_tile_path, tile_bytes_max
from salus.archive.report import Counts, Finding, stray_note
from salus.ledger.block import open_header
from salus.ledger.check_log import read_bundle, read_tile_hashes
from salus.ledger.checkpoint import Checkpoint, open_checkpoint
from salus.ledger.errors import LedgerError
from salus.ledger.findings import Finding as LedgerFinding
from salus.ledger.key_periods import Keys
from salus.ledger.merkle import hashes_of, leaf_hash, root_of
from salus.ledger.note import NOTE_BYTES_MAX
from salus.ledger.tiles import ENTRIES, TILE_HEIGHT, TILE_WIDTH, TileRef, tile_width, tiles_of
from salus.objects import NotFoundError, ObjectStore, Stray, TooLargeError

READS_AT_ONCE = 16
_PLACE = re.compile(rb"([^ \n]+)/block/(0|[1-9][0-9]{0,18})\n")

_IDENTITY = re.compile(rb"\nidentity ([^ \n]+) ")

Place = tuple[str, int]
"""A shard's origin and a height."""


@dataclass(slots=True)
class LogState:
    """What the log is, as far as it could be established.

    `hashes[i]` is the leaf hash of entry i, None if nothing whole says what it is; `places[i]` says which
    header it says that it is (no signature is looked at), None if its bytes cannot be read. `identities` are
    the places of those whose blocks, by the same bytes, hold records of the identity topic.
    """

    size: int = 0
    checkpoint: Checkpoint | None = None
    note: bytes = b""
    head: Head | None = None
    hashes: list[bytes | None] = field(default_factory=list)
    places: list[Place | None] = field(default_factory=list)
    identities: set[Place] = field(default_factory=set)
    findings: list[Finding] = field(default_factory=list)
    counts: Counts = field(default_factory=Counts)


class LogChecker:
    """Checks one log bucket; `verifiers` are the shards' by origin."""

    def __init__(
        self,
        objects: ObjectStore,
        log_key: Keys,
        verifiers: Mapping[str, Keys],
        on_tiles: Callable[[int, int], None],
    ) -> None:
        self._objects = objects
        self._log_key = log_key
        self._verifiers = verifiers
        self._on_tiles = on_tiles
        self._state = LogState()
        self._limit = asyncio.Semaphore(READS_AT_ONCE)

    async def check(self) -> LogState:
        """Return the state of the log with everything that is wrong with it; raises ObjectsError.

        The checkpoint is read first, so what a running log adds meanwhile is beyond it and left alone.
        """
        state = self._state
        await self._read_checkpoint()
        await self._read_head()
        state.size = state.checkpoint.size if state.checkpoint else state.head.size if state.head else 0
        listed = await self._list()
        self._require_all(listed)
        groups = -(-state.size // TILE_WIDTH)
        for start in range(0, groups, READS_AT_ONCE):
            some = range(start, min(start + READS_AT_ONCE, groups))
            for hashes, places in await asyncio.gather(*(self._group(n, listed) for n in some)):
                state.hashes += hashes
                state.places += places
        await self._check_objects(listed)
        self._check_root()
        self._check_entries_of_head()
        state.counts.log_entries = state.size
        return state

    async def _read_checkpoint(self) -> None:
        try:
            note = await self._get(CHECKPOINT_KEY, NOTE_BYTES_MAX)
        except TooLargeError as error:
            self._wrong("checkpoint-unreadable", CHECKPOINT_KEY, str(error))
            return
        if note is None:
            self._wrong("checkpoint-unreadable", CHECKPOINT_KEY, "there is no checkpoint")
            return
        try:
            self._state.checkpoint = open_checkpoint(note, self._log_key)[0]
            self._state.note = note
        except LedgerError as error:
            self._wrong("checkpoint-unreadable", CHECKPOINT_KEY, str(error))

    async def _read_head(self) -> None:
        try:
            data = await self._get(HEAD_KEY, HEAD_BYTES_MAX)
        except TooLargeError as error:
            self._wrong("head-wrong", HEAD_KEY, str(error))
            return
        if data is None:
            self._wrong("head-missing", HEAD_KEY, "there is no head; anchoring cannot go on")
            return
        try:
            self._state.head = head = open_head(data, self._log_key)
        except HeadError as error:
            self._wrong("head-wrong", HEAD_KEY, str(error))
            return
        shown = self._state.checkpoint
        if shown is None:
            return
        if head.size < shown.size or (head.size == shown.size and head.root_hash != shown.root):
            self._wrong("head-wrong", HEAD_KEY, "the published checkpoint is not of the head's log")
        elif head.size > shown.size:
            detail = f"the head is at {head.size}; anchoring has yet to publish"
            self._state.findings.append(_note("checkpoint-behind", CHECKPOINT_KEY, detail))

    async def _list(self) -> dict[tuple[int, int], list[int]]:
        """Return the widths that exist of each (level, index)."""
        listed: dict[tuple[int, int], list[int]] = defaultdict(list)

        def note_stray(stray: Stray) -> None:
            self._state.findings.append(stray_note("log", stray))

        async for entry in self._objects.list("tile", on_stray=note_stray):
            ref = parse_tile_path(entry.key)
            if ref is None:
                self._state.findings.append(_note("unknown-object", entry.key, "not the path of a tile"))
            else:
                listed[ref.level, ref.index].append(ref.width)
        return listed

    def _require_all(self, listed: Mapping[tuple[int, int], list[int]]) -> None:
        """Every tile that the checkpoint stands on is there, or the full one that replaced it."""
        size = self._state.size
        bundles = [TileRef(ENTRIES, n, tile_width(ENTRIES, n, size)) for n in range(-(-size // TILE_WIDTH))]
        for ref in (*bundles, *tiles_of(size)):
            widths = listed.get((ref.level, ref.index), [])
            if ref.width not in widths and TILE_WIDTH not in widths:
                kind = "bundle" if ref.level == ENTRIES else "tile"
                self._wrong(f"{kind}-missing", ref.path, f"there is no such object, and size {size} needs it")

    async def _group(
        self, n: int, listed: Mapping[tuple[int, int], list[int]]
    ) -> tuple[list[bytes | None], list[Place | None]]:
        """Establish up to 256 entries from their bundle and their tile."""
        width = tile_width(ENTRIES, n, self._state.size)
        entries = await self._entries(n, width, listed.get((ENTRIES, n), []))
        tile = await self._tile(n, width, listed.get((0, n), []))
        hashes: list[bytes | None] = []
        places: list[Place | None] = []
        for entry, in_tile in zip(entries, tile, strict=True):
            true = self._true(entry, in_tile)
            hashes.append(true)
            whole = entry is not None and leaf_hash(entry) == true
            places.append(place := _place(entry) if whole and entry is not None else None)
            if whole and place is None:
                path = TileRef(ENTRIES, n, width).path
                self._wrong("entry-wrong", path, f"entry {n * TILE_WIDTH + len(places) - 1} is no header")
            if place is not None and entry is not None and _holds_identities(entry):
                self._state.identities.add(place)
        return hashes, places

    def _true(self, entry: bytes | None, in_tile: bytes | None) -> bytes | None:
        if entry is None or (in_tile is not None and leaf_hash(entry) == in_tile):
            return in_tile
        return leaf_hash(entry) if self._is_signed(entry) else in_tile

    def _is_signed(self, entry: bytes) -> bool:
        place = _place(entry)
        verifier = self._verifiers.get(place[0]) if place else None
        if verifier is None:
            return False
        try:
            open_header(entry, verifier)
        except LedgerError:
            return False
        return True

    async def _entries(self, n: int, width: int, widths: list[int]) -> list[bytes | None]:
        for wide in _widest_first(width, widths):
            ref = TileRef(ENTRIES, n, wide)
            bundle, _ = read_bundle(ref, await self._tile_of(ref))
            if bundle is not None:
                return list(bundle[:width])
        return [None] * width

    async def _tile(self, n: int, width: int, widths: list[int]) -> list[bytes | None]:
        for wide in _widest_first(width, widths):
            ref = TileRef(0, n, wide)
            hashes, _ = read_tile_hashes(ref, await self._tile_of(ref))
            if hashes is not None:
                return list(hashes[:width])
        return [None] * width

    async def _check_objects(self, listed: Mapping[tuple[int, int], list[int]]) -> None:
        """Compare every tile and bundle that is there, of whatever width, with the established hashes."""
        levels = self._levels()
        refs = [TileRef(level, n, w) for (level, n), widths in sorted(listed.items()) for w in widths]
        for start in range(0, len(refs), READS_AT_ONCE):
            some = refs[start : start + READS_AT_ONCE]
            for ref, data in zip(some, await asyncio.gather(*map(self._tile_of, some)), strict=True):
                if data is not None:
                    self._check_object(ref, data, levels)
            self._on_tiles(start + len(some), len(refs))
        self._state.counts.tiles = len(refs)

    def _levels(self) -> list[list[bytes | None]]:
        """Return the hashes of each level of tiles; a hash over an unknown one is unknown."""
        levels = [self._state.hashes]
        while len(levels[-1]) >= TILE_WIDTH:
            below = levels[-1]
            levels.append(
                [
                    root_of([h for h in below[i : i + TILE_WIDTH] if h is not None])
                    if None not in below[i : i + TILE_WIDTH]
                    else None
                    for i in range(0, len(below) - TILE_WIDTH + 1, TILE_WIDTH)
                ]
            )
        return levels

    def _check_object(self, ref: TileRef, data: bytes, levels: list[list[bytes | None]]) -> None:
        start = ref.index * TILE_WIDTH
        hashes = levels[max(ref.level, 0)] if max(ref.level, 0) < len(levels) else []
        expected = hashes[start : start + ref.width]
        found, problems = _hashes_of(ref, data)
        for problem in problems:
            self._wrong(problem.code, ref.path, problem.detail)
        wrong = [
            start + i
            for i, (a, b) in enumerate(zip(found, expected, strict=False))
            if b is not None and a != b
        ]
        if wrong and ref.level == ENTRIES:
            self._wrong("bundle-wrong", ref.path, f"entry {_some(wrong)} is not the one in the log")
        elif wrong:
            spans = 1 << (TILE_HEIGHT * ref.level)
            which = _some([i * spans for i in wrong])
            self._wrong("tile-wrong", ref.path, f"the hash of the entries from {which} on is wrong")

    def _check_root(self) -> None:
        state = self._state
        known = [h for h in state.hashes if h is not None]
        if state.checkpoint is None or len(known) != state.size:
            return
        if root_of(known) != state.checkpoint.root:
            self._wrong("log-root", CHECKPOINT_KEY, "the log's entries do not lead to the signed root")

    def _check_entries_of_head(self) -> None:
        """The entries that the head brings are those of the log, as far as the log is established."""
        head, hashes = self._state.head, self._state.hashes
        if head is None:
            return
        brought = hashes_of([entry.encode() for entry in head.entries])
        wrong = [
            index
            for index, (a, b) in enumerate(zip(hashes[head.size_before :], brought, strict=False))
            if a is not None and a != b
        ]
        if wrong:
            which = _some([head.size_before + index for index in wrong])
            self._wrong("head-wrong", HEAD_KEY, f"it brings another entry {which} than the log has")

    async def _tile_of(self, ref: TileRef) -> bytes | None:
        """Return a tile or bundle; of one that is too large nothing, which is found wrong like any other."""
        try:
            return await self._get(ref.path, tile_bytes_max(ref))
        except TooLargeError:
            return b""

    async def _get(self, key: str, bytes_max: int) -> bytes | None:
        """Return an object, None if there is none; raises TooLargeError."""
        async with self._limit:
            try:
                return await self._objects.get(key, bytes_max=bytes_max)
            except NotFoundError:
                return None

    def _wrong(self, code: str, key: str, detail: str) -> None:
        finding = Finding(severity="error", code=code, bucket="log", key=key, detail=detail)
        self._state.findings.append(finding)


def _hashes_of(ref: TileRef, data: bytes) -> tuple[list[bytes], list[LedgerFinding]]:
    """Return the hashes that an object holds, none if it has not the form of what its path says."""
    if ref.level != ENTRIES:
        hashes, problems = read_tile_hashes(ref, data)
        return hashes or [], problems
    entries, problems = read_bundle(ref, data)
    return hashes_of(entries or ()), problems


def _place(entry: bytes) -> Place | None:
    match = _PLACE.match(entry)
    # One string for each shard, not one for each entry.
    return (sys.intern(match[1].decode(errors="replace")), int(match[2])) if match else None


def _holds_identities(entry: bytes) -> bool:
    """Tell whether a header's range of the identity topic is not empty."""
    topic = _IDENTITY.search(entry)
    ranges = (
        re.finditer(rb"\nrange %b [0-9]+ ([0-9]+) ([0-9]+)" % re.escape(topic[1]), entry) if topic else ()
    )
    return any(r[1] != r[2] for r in ranges)


def _widest_first(width: int, widths: list[int]) -> list[int]:
    """Return the widths that hold what is wanted; a full tile may have replaced them since the listing."""
    return sorted({TILE_WIDTH, *(w for w in widths if w >= width)}, reverse=True)


def _some(numbers: list[int]) -> str:
    more = f" and {len(numbers) - 1} more" if len(numbers) > 1 else ""
    return f"{numbers[0]}{more}"


def _note(code: str, key: str, detail: str) -> Finding:
    return Finding(severity="info", code=code, bucket="log", key=key, detail=detail)
