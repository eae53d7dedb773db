"""Whom a consent or a prohibition is about: a party, or all who hold a role at a member. Pure.

A role at a member is nobody's list: who holds it is what the key ring says when somebody asks, so whoever
gets the role is meant from then on, and whoever loses it is not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple, Protocol, get_args

RecipientRole = Literal["clinician", "researcher"]
"""The roles in which a person uses what is granted to the member that it acts for."""
RECIPIENT_ROLES: frozenset[str] = frozenset(get_args(RecipientRole))


class Recipient(NamedTuple):
    """A party; with a role, the persons who hold that role and act for the party, which is a member then."""

    did: str
    role: str | None = None

    def __str__(self) -> str:
        """Return it in words."""
        return self.did if self.role is None else f"every {self.role} of {self.did}"


class _Somebody(Protocol):
    @property
    def did(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def roles(self) -> frozenset[str]: ...
    @property
    def member(self) -> str | None: ...


def recipients_of(who: _Somebody) -> frozenset[Recipient]:
    """Return each recipient that somebody is: itself, its member, and what it is in its roles there.

    A member's own key and its devices hold no role there: they are in no role's recipient.
    """
    return frozenset(_recipients_of(who))


def _recipients_of(who: _Somebody) -> Iterator[Recipient]:
    yield Recipient(who.did)
    if who.member is None:
        return
    yield Recipient(who.member)
    if who.kind == "person":
        for role in who.roles & RECIPIENT_ROLES:
            yield Recipient(who.member, role)
