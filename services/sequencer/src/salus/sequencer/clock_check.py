"""Compares this machine's clock with others before a block is dated by it: a header's time stays for ever.

There are three clocks: ours, the object store's (the `Date` of its answers) and the broker's, which a record
that was appended a moment ago shows. A block is dated if one of the others agrees with ours, so a wrong clock
elsewhere does not stop a shard that has fresh records. The store is asked once a minute; from there its time
is counted on by the monotonic clock, which nobody sets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from salus.ledger.records import Records, appended_at
from salus.sequencer.ports import Archive, Clock

# Clocks that are kept by NTP differ by less, and the store's time has whole seconds.
CLOCK_OFF_MAX = timedelta(seconds=60)
STORE_TIME_AGE_MS_MAX = 60_000
LOOK_AGAIN_MS = 1000


def clock_off(now: datetime, *, store: datetime | None, parts: Sequence[Records]) -> timedelta | None:
    """Return by how much our clock is ahead of the store's, if no block of these records may be dated by it.

    A store that does not tell the time contradicts nobody. Records may have waited for long, so old ones
    show nothing, and the broker's clock alone stops nothing.
    """
    if store is None or abs(now - store) <= CLOCK_OFF_MAX:
        return None
    newest = max((max(part.timestamps) for part in parts if len(part)), default=None)
    if newest is not None and abs(now - appended_at(newest)) <= CLOCK_OFF_MAX:
        return None
    return now - store


def described(ahead: timedelta) -> str:
    """Return what is wrong, and what an operator does about it."""
    seconds = round(ahead.total_seconds())
    where = "ahead of" if seconds > 0 else "behind"
    return (
        f"this machine's clock is {abs(seconds)} s {where} the object store's, and no block is dated by it: "
        "set the clock that is wrong (NTP); sealing goes on by itself"
    )


@dataclass
class ClockCheck:
    """What the store said last, and when that was on the second hand."""

    _store: datetime | None = None
    _asked_ms: float | None = None

    async def look(
        self, archive: Archive, clock: Clock, parts: Sequence[Records] = ()
    ) -> tuple[datetime, timedelta | None]:
        """Return the time, and what `clock_off` says of it.

        Before it is called wrong the store is asked anew: the second hand stands still while a machine
        sleeps.
        """
        elapsed_ms = None if self._asked_ms is None else clock.monotonic_ms() - self._asked_ms
        if elapsed_ms is not None and elapsed_ms < STORE_TIME_AGE_MS_MAX:
            store = self._store and self._store + timedelta(milliseconds=elapsed_ms)
            now = clock.now()
            if clock_off(now, store=store, parts=parts) is None:
                return now, None
        self._store = await archive.time()
        self._asked_ms = clock.monotonic_ms()
        now = clock.now()
        return now, clock_off(now, store=self._store, parts=parts)
