"""The epoch of a patient's consents, which goes on as a right is taken away and voids what was decided."""

from __future__ import annotations


def next_epoch(known: int, stated: int) -> int:
    """Return the epoch after an event that takes a right away and states one.

    It goes on by one or not at all, so that no event can leave the next one no room, and one that comes twice
    moves it once.
    """
    return stated if stated == known + 1 else known
