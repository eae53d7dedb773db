"""Which (source, id) pairs were accepted lately: the window in which duplicates are recognised.

`native/duplicate_window.c` of salus-ledger does the work, with the interpreter lock released. Without that
library Python does the same, pair by pair.
"""

from __future__ import annotations

import ctypes
import secrets
from collections import deque
from dataclasses import dataclass
from typing import Protocol

from salus.ledger.hashing import ASTRAY, LIBRARY, hash_each, lanes
from salus.ledger.records import Cells

# The numbers change with the arguments, as in `salus.ledger.hashing`.
FUNCTIONS = ("salus_pair_prints_1", "salus_admit_pairs_1", "salus_knows_pair_1")
# The pair is kept as this many bytes of its SHA-256. That any two of a million pairs have the same ones has a
# chance of 2^-80, and to bring it about for somebody else's id takes a second preimage.
FINGERPRINT_BYTES = 15
PAIRS_MAX = 1 << 31
# Two 128-bit factors that say which slot a pair belongs to, and the number of the first pair.
SEED_BYTES = 36
# With fewer, the chains of a slot are longer: one a pair costs 40 ns more an event.
SLOTS_A_PAIR = 2
SLOT_BYTES = 4
ENTRY_BYTES = 20


def fingerprints(sources: Cells, ids: Cells) -> bytes:
    """Return what stands for each pair of source and id, joined; a cell that is not there counts as empty.

    It is of the hash of both, parted by a line feed, which no DID can hold.

    Raises:
        ValueError: columns of different length, or with cells that are not within their data.
    """
    if len(sources) != len(ids):
        raise ValueError(f"{len(sources)} sources and {len(ids)} ids are no pairs")
    if _library is not None and lanes() > 1:
        return _library.fingerprints(sources, ids)
    pairs = zip(sources, ids, strict=True)
    hashes = hash_each(b"", [b"%b\n%b" % (source or b"", id_ or b"") for source, id_ in pairs])
    return b"".join([digest[:FINGERPRINT_BYTES] for digest in hashes])


class Recent(Protocol):
    """The pairs that came last, up to a size. One caller at a time."""

    def __len__(self) -> int: ...
    def __contains__(self, fingerprint: bytes) -> bool: ...
    def admit(self, fingerprints: bytes) -> bytes:
        """Add each pair that is not there, in order, forgetting the oldest; 1 for each added one, else 0."""

    def keep(self, count: int) -> None:
        """Forget all but the last `count` pairs."""


class DuplicateWindow:
    """The last `size` accepted pairs of a shard, but none from more than `blocks` blocks ago.

    Only blocks that accepted something count: what is refused, of which anybody can send any amount, makes
    no pair older. It is counted in accepted leaves and in such blocks and in nothing else, so that a verifier
    who reads the same blocks has the same window. The bound on blocks bounds how many bodies a start reads.
    It takes 28 bytes for each of `size` pairs from the beginning on; without the compiled library, about
    110 for each pair that is in it.
    """

    def __init__(self, size: int, blocks: int, recent: Recent | None = None) -> None:
        if not 1 <= size <= PAIRS_MAX or blocks < 1:
            raise ValueError(f"a window holds at least one block, and one pair to {PAIRS_MAX}")
        self.size = size
        self.blocks = blocks
        self._recent = new_recent(size) if recent is None else recent
        self._admitted = 0
        # How many pairs had been admitted when each block began; the last is the block in the making.
        self._begins = deque([0], maxlen=blocks)

    def __len__(self) -> int:
        return len(self._recent)

    def __contains__(self, fingerprint: bytes) -> bool:
        return fingerprint in self._recent

    def admit(self, fingerprints: bytes) -> bytes:
        """Remember joined fingerprints of accepted leaves, forgetting the oldest.

        Returns:
            One byte for each: 1, or 0 if it is a duplicate.
        """
        fresh = self._recent.admit(fingerprints)
        self._admitted += fresh.count(1)
        return fresh

    def end_block(self) -> None:
        """Begin the next block, forgetting the one that is too long ago, unless this one accepted nothing."""
        if self._admitted == self._begins[-1]:
            return
        self._begins.append(self._admitted)
        self._recent.keep(self._admitted - self._begins[0])


@dataclass(frozen=True, slots=True)
class WindowSize:
    """How far back duplicates are recognised: whichever ends first."""

    pairs: int = 1_000_000
    blocks: int = 10_000

    def new(self) -> DuplicateWindow:
        """Return an empty window of this size."""
        return DuplicateWindow(self.pairs, self.blocks)


# What docs/ledger-format.md says where an operator says nothing else.
WINDOW_OF_THE_FORMAT = WindowSize()


class _Column(ctypes.Structure):
    """Cells, which must outlive it, as `duplicate_window.c` sees them."""

    _fields_ = (("data", ctypes.c_char_p), ("size", ctypes.c_uint64), ("places", ctypes.c_void_p))


class _Window(ctypes.Structure):
    _fields_ = (
        ("entries", ctypes.c_void_p),
        ("slots", ctypes.c_void_p),
        ("size", ctypes.c_uint64),
        ("slots_count", ctypes.c_uint64),
        ("seed", ctypes.c_uint64 * 4),
        ("position", ctypes.c_uint64),
        ("count", ctypes.c_uint64),
        ("next", ctypes.c_uint32),
    )


class Library:
    """The compiled functions; they release the interpreter lock while they run."""

    def __init__(self, path: str = LIBRARY) -> None:
        """Raise OSError or AttributeError if the library is not there or not of this version."""
        library = ctypes.CDLL(path)
        address, count = ctypes.c_void_p, ctypes.c_uint64
        self._print, self.admit, self.knows = (library[name] for name in FUNCTIONS)
        self._print.argtypes = [address, address, count, address]
        self.admit.argtypes = [address, ctypes.c_char_p, count, address]
        self.admit.restype = None
        self.knows.argtypes = [address, ctypes.c_char_p]

    def fingerprints(self, sources: Cells, ids: Cells) -> bytes:
        """Return what `fingerprints` does."""
        out = ctypes.create_string_buffer(FINGERPRINT_BYTES * len(ids))
        columns = (
            _Column(cells.data, len(cells.data), cells.places.buffer_info()[0]) for cells in (sources, ids)
        )
        if self._print(*map(ctypes.byref, columns), len(ids), out):
            raise ValueError(ASTRAY)
        return out.raw


class CompiledRecent:
    """Recent pairs in memory of one size, all of which is taken at once.

    Whoever chooses ids could choose many that belong to one slot, so that each takes long to look up; but
    where a pair belongs depends on a seed of this process, which nobody outside knows.
    """

    def __init__(self, library: Library, size: int, seed: bytes | None = None) -> None:
        """Hold up to `size` pairs; `seed` are SEED_BYTES random bytes."""
        seed = secrets.token_bytes(SEED_BYTES) if seed is None else seed
        self._library = library
        slots_bytes = SLOT_BYTES * SLOTS_A_PAIR * size
        self._memory = bytearray(slots_bytes + ENTRY_BYTES * size)
        slots = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        # The system gives a page only when something is written to it.
        ctypes.memset(slots, 0, len(self._memory))
        self._window = _Window(
            entries=slots + slots_bytes,
            slots=slots,
            size=size,
            slots_count=SLOTS_A_PAIR * size,
            seed=(ctypes.c_uint64 * 4).from_buffer_copy(seed),
            next=int.from_bytes(seed[32:], "little"),
        )
        self._at = ctypes.byref(self._window)

    def __len__(self) -> int:
        return int(self._window.count)

    def __contains__(self, fingerprint: bytes) -> bool:
        return len(fingerprint) == FINGERPRINT_BYTES and bool(self._library.knows(self._at, fingerprint))

    def admit(self, fingerprints: bytes) -> bytes:  # noqa: D102  # the protocol's
        rows = _rows_of(fingerprints)
        fresh = ctypes.create_string_buffer(rows)
        self._library.admit(self._at, fingerprints, rows, fresh)
        return fresh.raw

    def keep(self, count: int) -> None:  # noqa: D102
        self._window.count = min(self._window.count, count)


class PlainRecent:
    """Recent pairs without the library."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._order: deque[bytes] = deque()
        self._known: set[bytes] = set()

    def __len__(self) -> int:
        return len(self._order)

    def __contains__(self, fingerprint: bytes) -> bool:
        return fingerprint in self._known

    def admit(self, fingerprints: bytes) -> bytes:  # noqa: D102  # the protocol's
        begins = range(0, FINGERPRINT_BYTES * _rows_of(fingerprints), FINGERPRINT_BYTES)
        return bytes(self._admit(fingerprints[at : at + FINGERPRINT_BYTES]) for at in begins)

    def _admit(self, fingerprint: bytes) -> bool:
        if fingerprint in self._known:
            return False
        self.keep(self._size - 1)
        self._known.add(fingerprint)
        self._order.append(fingerprint)
        return True

    def keep(self, count: int) -> None:  # noqa: D102
        for _ in range(len(self._order) - count):
            self._known.discard(self._order.popleft())


def _rows_of(fingerprints: bytes) -> int:
    rows, rest = divmod(len(fingerprints), FINGERPRINT_BYTES)
    if rest:
        raise ValueError(f"{len(fingerprints)} bytes are not fingerprints of {FINGERPRINT_BYTES}")
    return rows


def new_recent(size: int) -> Recent:
    """Return what remembers so many pairs on this machine."""
    return PlainRecent(size) if _library is None else CompiledRecent(_library, size)


def load(path: str = LIBRARY) -> Library | None:
    """Return the library; None if it is not there."""
    try:
        return Library(path)
    except (OSError, AttributeError):
        return None


_library = load()
