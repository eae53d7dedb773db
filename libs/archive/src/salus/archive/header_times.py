"""Finds headers whose time is far from when the broker appended their records.

The sequencer's clock was wrong then, or the shard stood still. Nothing is judged by that time, but people
read it.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pyarrow.compute as pc

from salus.archive.body import decode_body
from salus.archive.report import Finding, note_of
from salus.ledger.block import Header, header_key

# Clocks are corrected by less, and a block waits for less, while all is well.
FAR = timedelta(minutes=5)
# The time of a leaf whose batch cannot be read, or was dated by its sender.
UNDATED = datetime(1970, 1, 1, tzinfo=UTC)


def time_off(header: Header, body: bytes) -> timedelta | None:
    """Return by how much a header's time is after its newest record, if it is far before or after it.

    Raises:
        BodyError: as `decode_body`.
    """
    if not header.leaves:
        return None
    newest = pc.max(decode_body(body, columns=["timestamp"])["timestamp"]).as_py()
    if newest == UNDATED:
        # The broker dated none of them, so nothing says when they were appended.
        return None
    off: timedelta = header.time - newest
    return off if abs(off) > FAR else None


class HeaderTimes:
    """Collects what is off in a run of fsck: one info a shard and direction, however many blocks it is."""

    def __init__(self) -> None:
        self._found: dict[tuple[int, bool], tuple[int, timedelta, int]] = {}

    def take(self, shard: int, off: Iterable[tuple[int, timedelta]]) -> None:
        """Take heights with by how much their headers' times are off."""
        for height, by in off:
            key = shard, by > timedelta()
            first, most, count = self._found.get(key, (height, by, 0))
            self._found[key] = min(first, height), max(most, by, key=abs), count + 1

    def notes(self) -> list[Finding]:
        """Return the infos, which name the first block of each."""
        found = []
        for (shard, is_after), (first, most, count) in sorted(self._found.items()):
            seconds = abs(int(most.total_seconds()))
            where = "after their newest record" if is_after else "before the broker appended their records"
            detail = f"{count} headers are dated up to {seconds} s {where}, this is the first of them"
            found.append(note_of("header-time", header_key(shard, first), detail, shard=shard))
        return found
