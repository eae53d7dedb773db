"""What identity needs from the world."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Protocol

from salus.contracts.keyset import KeysetPage
from salus.contracts.queues import Queues
from salus.events.contexts.identity import PartyKind
from salus.events.event_types import EventData
from salus.events.keyring import KeyRing
from salus.identity.domain import PartyState


class Parties(Protocol):
    """The folded parties; every answer includes all that was published before the question."""

    async def state(self, aggregate: str) -> PartyState:
        """Return one party; the empty state if it is not registered."""

    async def states(self, aggregates: Collection[str]) -> dict[str, PartyState]:
        """Return those of these parties that are registered, by DID."""

    async def execute(self, aggregate: str, decide: Callable[[PartyState], EventData]) -> EventData:
        """Decide, publish and return once the event has taken effect.

        Raises:
            Refusal: the contract says no.
            ProblemError: 409 `conflict`, another command was first.
        """


@dataclass(frozen=True)
class PartyFilter:
    """Which parties are listed: of that kind, that role and that member, as far as they are given."""

    kind: PartyKind | None = None
    role: str | None = None
    member: str | None = None


class PartyList(Protocol):
    """The list of the folded parties; every answer includes all that was published before the question."""

    async def page(self, wanted: PartyFilter, *, after: str | None, limit: int) -> KeysetPage:
        """Return rows with the `did` of the next parties that a filter lets through; raises CursorError."""


class Ring(Protocol):
    """The key ring that signatures are judged by."""

    async def catch_up(self) -> KeyRing:
        """Return the ring with everything that has been published until now."""


@dataclass(frozen=True)
class World:
    """Everything of the outside that a handler uses."""

    parties: Parties
    listed: PartyList
    ring: Ring
    queues: Queues = field(default_factory=Queues)
