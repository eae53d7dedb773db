"""What the host of a contract needs from the world: Kafka's and SQL's sides of it have twins in memory."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from salus.contracts.fold_tables import Loaded, Pair
from salus.contracts.keyset import KeysetPage, KeysetQuery
from salus.events.effect import Outcome
from salus.events.event_types import EventData
from salus.messaging import Position
from salus.runtime.publishing import Stated


class Stating(Protocol):
    """Publishes a service's events; `salus.runtime.publishing.ServicePublisher` is the real one."""

    async def publish(
        self, data: EventData, *, subject: str, expected_version: int | None = None, event_id: str = ""
    ) -> Stated:
        """Return what was stated once Kafka has acknowledged it; raises DeliveryError, RejectedError."""


class OwnSigningKey(Protocol):
    """Whether a service may state facts; `salus.runtime.own_key.OwnKey` is the real one."""

    def require_for(self, subject: str) -> None:
        """Raise ProblemError 503 unless the service's key signs facts about that subject."""


class Fold(Protocol):
    """How far topics are folded, and what came of it; `salus.contracts.fold.Follower` is the real one."""

    async def catch_up(self) -> None:
        """Return once everything that is in the topics now is folded; raises MessagingError."""

    async def outcome(self, position: Position, *, value: bytes) -> Outcome:
        """Return what became of the record of that value at that position, once it is folded."""


class States(Protocol):
    """The folded aggregates; `salus.contracts.fold_store.FoldStore` is the real one, and says more."""

    async def load(self, kind: str, aggregate: str) -> Loaded | None:
        """Return an aggregate."""

    async def read_page(self, query: KeysetQuery, *, after: str | None = None, limit: int) -> KeysetPage:
        """Return a page of a declared table; raises CursorError."""

    async def load_some(self, kind: str, aggregates: Collection[str]) -> dict[str, bytes]:
        """Return these aggregates by id."""

    async def load_at(
        self, aggregates: Sequence[Pair]
    ) -> tuple[dict[tuple[str, int], int], dict[Pair, bytes]]:
        """Return positions, and the aggregates as they are there."""

    async def rows_at(
        self, aggregates: Sequence[Pair]
    ) -> tuple[dict[tuple[str, int], int], dict[Pair, Loaded]]:
        """Return positions, and the aggregates as they are there, each with its version."""

    async def load_for_command(self, kind: str, aggregate: str, *, topic: str) -> tuple[bytes | None, int]:
        """Return an aggregate and the version of its subject."""
