"""Who asks for an access or gives a command, as the law knows them. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from salus.events.parties import Party
from salus.events.requests import Request


@dataclass(frozen=True)
class Actor:
    """Who asks: an authenticated party."""

    did: str
    kind: str
    roles: frozenset[str]
    member: str | None


@dataclass(frozen=True)
class Asking(Actor):
    """Who gives a command, with what they signed."""

    request: Request

    @classmethod
    def of(cls, party: Party, request: Request) -> Self:
        """Return a party that asks, in the roles in which it may: `KeyRing.caller` returns such a one."""
        return cls(party.did, party.kind, party.roles, party.member, request=request)
