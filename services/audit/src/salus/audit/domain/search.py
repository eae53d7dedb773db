"""What may be asked of the trail, by whom, and how a long answer is read page by page."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as BinasciiError
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime

from salus.audit.domain.entry import TrailEntry

PAGE_ENTRIES_MAX = 200
SEES_ALL = frozenset({"soc-analyst", "privacy-officer", "operator", "audit"})


class CursorError(ValueError):
    """The cursor is not one that the trail gave."""


@dataclass(frozen=True, slots=True)
class Visibility:
    """What a caller may see: everything, or what names her, her member or her pseudonyms."""

    everything: bool = False
    actors: frozenset[str] = frozenset()
    members: frozenset[str] = frozenset()
    patients: frozenset[str] = frozenset()

    def shows(self, entry: TrailEntry) -> bool:
        """Tell whether an entry may be shown; the store asks the same in SQL."""
        return (
            self.everything
            or entry.actor in self.actors
            or entry.facts.party in self.actors
            or entry.member in self.members
            or entry.facts.patient in self.patients
        )


def visibility_of(
    *, did: str, kind: str, roles: AbstractSet[str], pseudonyms: AbstractSet[str]
) -> Visibility:
    """Return what a party sees: oversight all, a patient her own record, a member what its people did."""
    if roles & SEES_ALL:
        return Visibility(everything=True)
    members = frozenset({did}) if kind == "member" else frozenset[str]()
    return Visibility(actors=frozenset({did}), members=members, patients=frozenset(pseudonyms))


@dataclass(frozen=True, slots=True)
class Question:
    """A search: everything given must hold. `before` and `after` are positions in the trail, exclusive."""

    who: str | None = None
    patient: str | None = None
    action: str | None = None
    type: str | None = None
    object: str | None = None
    outcome: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    q: str | None = None
    before: int | None = None
    after: int | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """An entry and its position in the trail, which only grows."""

    seq: int
    entry: TrailEntry


def cursor_after(found: Found) -> str:
    """Return the cursor of the page that follows this entry, newest first."""
    return urlsafe_b64encode(b"v1 %d" % found.seq).decode().rstrip("=")


def position_of(cursor: str) -> int:
    """Return the position in a cursor.

    Raises:
        CursorError: it is not one.
    """
    try:
        version, _, number = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).partition(b" ")
        position = int(number)
    except (BinasciiError, ValueError):
        raise CursorError("not a cursor of this trail") from None
    if version != b"v1" or not 0 < position < 2**63:
        raise CursorError("not a cursor of this trail")
    return position
