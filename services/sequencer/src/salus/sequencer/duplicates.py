"""Which (source, id) pairs were accepted lately: the window in which duplicates are recognised."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

from salus.ledger.hashing import hash_each

# The pair is kept as this many bytes of its SHA-256. A false duplicate among a million pairs has a
# chance of 2^-80 a record, and to bring one about for somebody else's id takes a second preimage.
FINGERPRINT_BYTES = 15


def fingerprints(pairs: Iterable[tuple[bytes, bytes]]) -> list[bytes]:
    """Return what stands for each pair of source and id; a line feed parts them, which no DID can hold."""
    hashes = hash_each(b"", [b"%b\n%b" % pair for pair in pairs])
    return [digest[:FINGERPRINT_BYTES] for digest in hashes]


class DuplicateWindow:
    """The last `size` accepted pairs of a shard, but none from more than `blocks` blocks ago.

    It is counted in accepted leaves and in blocks and in nothing else, so that a verifier who reads the
    same blocks has the same window. The bound on blocks bounds how many objects a start has to read back.
    About 110 bytes an entry.
    """

    def __init__(self, size: int, blocks: int) -> None:
        if size < 1 or blocks < 1:
            raise ValueError("a window holds at least one pair and one block")
        self.size = size
        self.blocks = blocks
        self._order: deque[bytes] = deque()
        self._known: set[bytes] = set()
        # How many pairs of each block are in the window; the last is the block in the making.
        self._counts: deque[int] = deque([0])

    def __len__(self) -> int:
        return len(self._order)

    def __contains__(self, pair: bytes) -> bool:
        return pair in self._known

    def admit(self, pairs: Sequence[bytes]) -> list[bool]:
        """Remember pairs of accepted leaves, forgetting the oldest; False for each that is a duplicate."""
        fresh = set(pairs)
        if len(fresh) < len(pairs) or not self._known.isdisjoint(fresh):
            return [self._admit(pair) for pair in pairs]
        self._known |= fresh
        self._order.extend(pairs)
        self._counts[-1] += len(pairs)
        for _ in range(len(self._order) - self.size):
            self._forget_oldest()
        return [True] * len(pairs)

    def _admit(self, pair: bytes) -> bool:
        if pair in self._known:
            return False
        if len(self._order) == self.size:
            self._forget_oldest()
        self._known.add(pair)
        self._order.append(pair)
        self._counts[-1] += 1
        return True

    def end_block(self) -> None:
        """Begin the next block, forgetting the one that is too long ago."""
        self._counts.append(0)
        if len(self._counts) > self.blocks:
            for _ in range(self._counts[0]):
                self._forget_oldest()
            self._counts.popleft()

    def _forget_oldest(self) -> None:
        self._known.discard(self._order.popleft())
        oldest = next(i for i, count in enumerate(self._counts) if count)
        self._counts[oldest] -= 1
