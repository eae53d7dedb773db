"""Which members are suspended or expelled, and since when: their people and devices are with them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from operator import itemgetter
from typing import assert_never

from salus.events.contexts.identity import MemberExpelled, MemberReinstated, MemberSuspended
from salus.events.errors import Reason
from salus.events.parties import Party

MembershipFact = MemberSuspended | MemberReinstated | MemberExpelled
KEPT_ROLES = frozenset({"patient"})
"""What a person asks for in these roles is her own right, and not that of the member that registered her."""


class Membership(StrEnum):
    """Whether a member takes part in the network."""

    ACTIVE = "active"
    SUSPENDED = "suspended"
    EXPELLED = "expelled"

    @property
    def bar(self) -> Reason | None:
        """Return why nothing is taken from such a member; None: it is active."""
        match self:
            case Membership.ACTIVE:
                return None
            case Membership.SUSPENDED:
                return Reason.MEMBER_SUSPENDED
            case Membership.EXPELLED:
                return Reason.MEMBER_EXPELLED


def standing_after(before: Membership, fact: MembershipFact) -> Membership:
    """Return a member's standing after a fact; nothing follows an expulsion."""
    match fact:
        case _ if before is Membership.EXPELLED:
            return before
        case MemberSuspended():
            return Membership.SUSPENDED
        case MemberReinstated():
            return Membership.ACTIVE
        case MemberExpelled():
            return Membership.EXPELLED
        case _:
            assert_never(fact)


def organisation_of(party: Party) -> str:
    """Return the DID of the member that a party is or acts for; of anybody else its own."""
    return party.member or party.did


def restricted(party: Party, membership: Membership) -> Party:
    """Return a party with what its member's standing leaves it: roles of its own, and nobody to act for."""
    if membership is Membership.ACTIVE:
        return party
    return replace(party, roles=party.roles & KEPT_ROLES, member=None)


@dataclass
class Memberships:
    """The standing of members after each moment at which it changed, in order; who is not in it is active."""

    _changes: dict[str, list[tuple[datetime, Membership]]] = field(default_factory=dict)

    def apply(self, fact: MembershipFact, *, at: datetime) -> None:
        """Take a fact as it is, which counts after that moment."""
        changes = self._changes.setdefault(fact.did, [])
        # A broker's clock may be set back: what stands later on the topic does not count earlier.
        moment = max(at, changes[-1][0]) if changes else at
        changes.append((moment, standing_after(self.now(fact.did), fact)))

    def now(self, member: str) -> Membership:
        """Return a member's standing by all that is known, whatever the clocks say."""
        changes = self._changes.get(member)
        return changes[-1][1] if changes else Membership.ACTIVE

    def at(self, member: str, moment: datetime) -> Membership:
        """Return a member's standing at a moment: what changed before counts."""
        changes = self._changes.get(member)
        number = bisect_left(changes, moment, key=itemgetter(0)) if changes else 0
        return changes[number - 1][1] if changes and number else Membership.ACTIVE

    def throughout(self, member: str, first: datetime, last: datetime) -> Membership:
        """Return ACTIVE if a member was active at some moment of that time, else its last standing in it."""
        if member not in self._changes:
            return Membership.ACTIVE
        standings = [self.at(member, first), *(how for _, how in self._between(member, first, last))]
        return Membership.ACTIVE if Membership.ACTIVE in standings else standings[-1]

    def changed(self, member: str, first: datetime, last: datetime) -> list[datetime]:
        """Return when a member's standing changed from `first` on and before `last`."""
        return [moment for moment, _ in self._between(member, first, last)]

    def _between(self, member: str, first: datetime, last: datetime) -> Iterator[tuple[datetime, Membership]]:
        return (change for change in self._changes.get(member, ()) if first <= change[0] < last)
