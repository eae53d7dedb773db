"""The moments that consent chooses itself and tells in an event, against when it stated the event. Pure.

Who has its key could otherwise have an emergency seem to have begun on another day, or a prohibition begin
next year. The event's own time is compared with the broker's by others (`stated-late`).
"""

from __future__ import annotations

from salus.archive.lacks import LackOfRight
from salus.archive.served_requests import (
    AnyServed,
    ServedCase,
    ServedEmergency,
    ServedGrant,
    ServedProhibition,
)


def untrue_moment(served: AnyServed, *, leeway_s: float) -> LackOfRight | None:
    """Return what is said to have been, or to begin, at another time than now; so much is for clocks."""
    match served:
        case ServedEmergency():
            told, what = served.began, "an emergency access said to have begun"
        case ServedCase():
            told, what = served.opened, "a case said to have been opened"
        case ServedGrant():
            told, what = served.begins, "a consent that named no beginning, and begins"
        case ServedProhibition():
            told, what = served.begins, "a prohibition that named no beginning, and begins"
        case _:
            return None
    if told is None or abs(told - served.time) <= leeway_s:
        return None
    return LackOfRight(f"{what} at another time than it was stated")
