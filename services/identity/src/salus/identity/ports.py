"""What identity needs from the world."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Protocol

from salus.contracts.queues import Queues
from salus.events.event_types import EventData
from salus.events.keyring import KeyRing
from salus.identity.domain import PartyState
from salus.identity.party_index import PartyIndex


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


class Ring(Protocol):
    """The key ring that signatures are judged by."""

    async def catch_up(self) -> KeyRing:
        """Return the ring with everything that has been published until now."""


@dataclass(frozen=True)
class World:
    """Everything of the outside that a handler uses."""

    parties: Parties
    ring: Ring
    queues: Queues = field(default_factory=Queues)
    index: PartyIndex = field(default_factory=PartyIndex)
