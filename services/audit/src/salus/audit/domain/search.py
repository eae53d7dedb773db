"""What may be asked of the trail, by whom, and how a long answer is read page by page."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as BinasciiError
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime

from salus.audit.domain.entry import TrailEntry

PAGE_ENTRIES_MAX = 200
SEES_ALL = frozenset({"operator", "audit"})
OVERSEES = frozenset({"soc-analyst", "privacy-officer"})


class CursorError(ValueError):
    """The cursor is not one that the trail gave."""


@dataclass(frozen=True, slots=True)
class Visibility:
    """What a caller may see: everything, or what names her, her member or her pseudonyms.

    `stewards` are the members whose patients' entries she may see.
    """

    everything: bool = False
    actors: frozenset[str] = frozenset()
    members: frozenset[str] = frozenset()
    patients: frozenset[str] = frozenset()
    stewards: frozenset[str] = frozenset()

    def shows(self, entry: TrailEntry, *, steward: str | None) -> bool:
        """Tell whether an entry may be shown, given its patient's steward; the store asks the same in SQL."""
        return (
            self.everything
            or entry.actor in self.actors
            or entry.facts.party in self.actors
            or entry.facts.approver in self.actors
            or entry.member in self.members
            or entry.facts.patient in self.patients
            or steward in self.stewards
        )


def visibility_of(
    *, did: str, kind: str, roles: AbstractSet[str], member: str | None, pseudonyms: AbstractSet[str]
) -> Visibility:
    """Return what a party sees: oversight all, a patient her own record, a member what its people did.

    Who does not hold the role patient any more is no patient here, whatever she was linked to.

    A member makes its own analysts and officers, so these see what its people did and what was done with
    its patients' data; those who act for no member oversee the whole network.
    """
    oversees = bool(roles & OVERSEES)
    if roles & SEES_ALL or (oversees and member is None):
        return Visibility(everything=True)
    own = frozenset({did}) if kind == "member" else frozenset[str]()
    overseen = frozenset({member}) if oversees and member is not None else frozenset[str]()
    return Visibility(
        actors=frozenset({did}),
        members=own | overseen,
        patients=frozenset(pseudonyms) if "patient" in roles else frozenset(),
        stewards=overseen,
    )


@dataclass(frozen=True, slots=True)
class Question:
    """A search: everything given must hold. `before` and `after` are positions in the trail, exclusive.

    `since` and `until` go by when the broker appended the record, which no author chooses; a stated time may
    be any.
    """

    who: str | None = None
    patient: str | None = None
    action: str | None = None
    type: str | None = None
    object: str | None = None
    outcome: str | None = None
    # With outcome `success`: also what was done without a right.
    is_done: bool = False
    # A key, and since when it was in other hands: what it signed and was appended from then on.
    in_doubt: str | None = None
    doubted_since: datetime | None = None
    since: datetime | None = None
    until: datetime | None = None
    stated_since: datetime | None = None
    stated_until: datetime | None = None
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
