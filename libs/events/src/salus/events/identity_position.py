"""Whether a block can have been judged by the identity position that its header names.

A header says up to which offset of the identity topic its sequencer had read. The verdicts of its rows go by
that position and by the time of each row, whatever whoever judges again has read. But the position is only
said: who holds a shard's key can name one from before a revocation, or one that the topic never had. The
times that the broker gave identity events and rows show it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from salus.ledger.block import REJECTED_PREFIX
from salus.ledger.records import Flaw, timestamp_at

BEHIND_MAX = timedelta(seconds=60)
"""A sequencer reads the identity topic after a block's last record; brokers' clocks differ by less."""
AHEAD_MAX = timedelta(minutes=5)
"""A header is dated after the identity topic was read; clocks of brokers and sequencers differ by less."""
UNSEALED_MAX = 1_000_000
"""A position so far beyond what is sealed of the identity topic is none that it ever had."""
# What is said of these rows rests on no identity event, and their times may be anybody's.
_FLAWED = frozenset(f"{REJECTED_PREFIX}{flaw}" for flaw in Flaw)

PositionCode = Literal["identity-ahead", "identity-behind"]


@dataclass(frozen=True, slots=True)
class PositionFault:
    """Why a block cannot have been judged by the position that it names."""

    code: PositionCode
    detail: str


class IdentityTimes:
    """When the broker appended the accepted events of the identity topic; they are added by ascending offset.

    Brokers' clocks differ, so a later event may have an earlier time.
    """

    def __init__(self, events: Iterable[tuple[int, int]] = ()) -> None:
        # Each has an earlier time than all after it, or a later time than all before it.
        self._earliest: list[tuple[int, int]] = []
        self._latest: list[tuple[int, int]] = []
        for offset, timestamp_ms in events:
            self.add(offset, timestamp_ms)

    def add(self, offset: int, timestamp_ms: int) -> None:
        """Take the next event: its offset, and its time in milliseconds since 1970 UTC."""
        while self._earliest and self._earliest[-1][1] >= timestamp_ms:
            self._earliest.pop()
        self._earliest.append((offset, timestamp_ms))
        if not self._latest or self._latest[-1][1] < timestamp_ms:
            self._latest.append((offset, timestamp_ms))

    def earliest_from(self, position: int) -> tuple[int, int] | None:
        """Return offset and time of the event with the earliest time at this offset or after it."""
        place = bisect_left(self._earliest, (position, -1))
        return self._earliest[place] if place < len(self._earliest) else None

    def latest_before(self, position: int) -> tuple[int, int] | None:
        """Return offset and time of the event with the latest time before this offset."""
        place = bisect_left(self._latest, (position, -1))
        return self._latest[place - 1] if place else None


def newest_judged(rows: Iterable[tuple[str, int]]) -> int | None:
    """Return the latest time of a block's rows, given by status and time, that identity events decide on."""
    return max((timestamp for status, timestamp in rows if status not in _FLAWED), default=None)


def position_fault(
    position: int, *, newest_ms: int | None, dated: datetime, times: IdentityTimes, sealed_to: int
) -> PositionFault | None:
    """Return why a block cannot have been judged by this position; None if nothing speaks against it.

    Args:
        position: the offset that its header names.
        newest_ms: what `newest_judged` says of its rows; None if it has none.
        dated: its header's time.
        times: the identity events that are known. More of them may show more.
        sealed_to: the offset after the last one of the identity topic that any known block covers.
    """
    if position > sealed_to + UNSEALED_MAX:
        detail = f"it names identity position {position}, and of that topic only {sealed_to} is sealed"
        return PositionFault("identity-ahead", detail)
    dated_ms = timestamp_at(dated)
    known = times.latest_before(position)
    if known is not None and known[1] > dated_ms + AHEAD_MAX // timedelta(milliseconds=1):
        late_s = (known[1] - dated_ms) // 1000
        detail = (
            f"it names identity position {position}, and event {known[0]} before that was appended "
            f"{late_s} s after the header's time"
        )
        return PositionFault("identity-ahead", detail)
    left_out = times.earliest_from(position)
    if left_out is None or newest_ms is None:
        return None
    if newest_ms > left_out[1] + BEHIND_MAX // timedelta(milliseconds=1):
        early_s = (newest_ms - left_out[1]) // 1000
        detail = (
            f"it names identity position {position}, which leaves out event {left_out[0]}, appended "
            f"{early_s} s before the block's newest record"
        )
        return PositionFault("identity-behind", detail)
    return None
