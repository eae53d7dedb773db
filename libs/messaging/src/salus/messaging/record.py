"""What is in a topic: records at positions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import msgspec

from salus.ledger.records import Flaw

# The broker takes messages up to this size, far above what an event may have, so that an oversized record
# becomes a rejected leaf with a reason and not a mystery on the sender's side.
MESSAGE_BYTES_MAX = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Position:
    """Where a record stands: a topic, a partition and an offset."""

    topic: str
    partition: int
    offset: int


RestoredRanges = Mapping[tuple[str, int], Sequence[tuple[int, int]]]
"""By partition, what was appended again after Kafka was lost: the first offset, and the one after the last.

Records there have the time that the lost broker gave them, so who sent them again dated them. network.json
says so, and nothing that stands in a topic.
"""
NOTHING_RESTORED: RestoredRanges = MappingProxyType({})


def is_restored(restored: RestoredRanges, at: tuple[str, int], first: int, end: int) -> bool:
    """Tell whether one range has every offset of a partition from `first` on and before `end`."""
    return any(begin <= first and end <= behind for begin, behind in restored.get(at, ()))


class Record(msgspec.Struct, frozen=True, gc=False):
    """One record as the broker gave it; nothing in it has been checked.

    There are tens of thousands a second: a msgspec struct is made in a tenth of a dataclass's time, and the
    garbage collector need not look at what can hold no cycle.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    flaw: Flaw | None = None

    @property
    def at(self) -> Position:
        """The record's position."""
        return Position(self.topic, self.partition, self.offset)

    def header(self, name: str) -> bytes | None:
        """Return the last header of that name."""
        for key, value in reversed(self.headers):
            if key == name:
                return value
        return None
