"""Which block holds a record: an index in memory, built from the log's entries, rebuilt at each start."""

from __future__ import annotations

from array import array
from bisect import bisect_right

from salus.ledger.block import Header

Partition = tuple[str, int]


class BlockIndex:
    """For each log entry its shard and height; for each partition the offsets where its blocks begin.

    Memory: 24 bytes an entry and 16 for each partition that the block advanced. Entries are added in log
    order, so the position in the log is the index.
    """

    def __init__(self) -> None:
        self._shards = array("q")
        self._heights = array("q")
        self._firsts: dict[Partition, array[int]] = {}
        self._entries: dict[Partition, array[int]] = {}
        self._next: dict[Partition, int] = {}

    def __len__(self) -> int:
        return len(self._heights)

    def add(self, shard: int, header: Header) -> None:
        """Add the next entry of the log."""
        entry = len(self._heights)
        self._shards.append(shard)
        self._heights.append(header.height)
        for r in header.ranges:
            at = (r.topic, r.partition)
            if r.first < r.next:
                firsts = self._firsts.setdefault(at, array("q"))
                # At the end, but where a partition was handed over between shards, whose headers may
                # stand in the log in any order.
                place = bisect_right(firsts, r.first)
                firsts.insert(place, r.first)
                self._entries.setdefault(at, array("q")).insert(place, entry)
            self._next[at] = max(r.next, self._next.get(at, 0))

    def add_void(self, shard: int, height: int) -> None:
        """Add the next entry of the log, which lies behind the end of its chain: it covers nothing."""
        self._shards.append(shard)
        self._heights.append(height)

    def block_at(self, entry: int) -> tuple[int, int]:
        """Return the shard and height of a log entry."""
        return self._shards[entry], self._heights[entry]

    def find(self, topic: str, partition: int, offset: int) -> int | None:
        """Return the log entry whose block covers the offset, or None if none does (yet)."""
        at = (topic, partition)
        if offset >= self._next.get(at, 0):
            return None
        place = bisect_right(self._firsts[at], offset) - 1
        return self._entries[at][place] if place >= 0 else None

    def knows(self, topic: str, partition: int) -> bool:
        """Whether any block covers that partition."""
        return (topic, partition) in self._next

    def next_offset(self, topic: str, partition: int) -> int:
        """Return the first offset of the partition that is in no anchored block yet."""
        return self._next.get((topic, partition), 0)
