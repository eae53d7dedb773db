"""A projection: which events come to which aggregates, and how. It is pure, and folds by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Any, Generic, TypeVar

import msgspec

from salus.contracts.table_projection import TableProjection
from salus.events.catalogue import Catalogue
from salus.events.envelope import Envelope, Event
from salus.events.event_types import EventData

S = TypeVar("S", bound=msgspec.Struct)


def by_subject(subject: str, _: EventData) -> str | None:
    """Name an aggregate by its events' `subject`."""
    return subject


@dataclass(frozen=True)
class Contract(Generic[S]):
    """The fold of one topic into aggregates of one kind, each named by the events' `subject`.

    `evolve` is pure and total: it takes every event of the topic and returns the state unchanged for
    those that do not concern it. `state()` without arguments is the state before any event, or else what
    `initial` makes of the aggregate's name.
    `aggregate` names the aggregates otherwise, given `subject` and data: one, several, or None if the event
    concerns none of this kind. Commands are executed on aggregates that are named by `subject` only.
    `events` are the only ones that concern it: of others `aggregate` and `evolve` are not asked.
    `with_event` keeps in a state which event changed it, given its envelope: for what leads to a receipt, and
    no rule may go by it. `tables` are kept of the aggregates' states. Raise `version` when the same events
    come to other states or rows: all is folded anew then.
    """

    kind: str
    topic: str
    state: type[S]
    evolve: Callable[[S, EventData], S]
    aggregate: Callable[[str, EventData], str | tuple[str, ...] | None] = by_subject
    events: frozenset[type[EventData]] | None = None
    initial: Callable[[str], S] | None = None
    with_event: Callable[[S, Envelope], S] | None = None
    tables: tuple[TableProjection[S], ...] = ()
    version: int = 1

    def takes(self, kind: type[EventData]) -> bool:
        """Tell whether events with data of this class may concern an aggregate."""
        return self.events is None or kind in self.events

    def aggregates(self, subject: str, data: EventData) -> tuple[str, ...]:
        """Return the names of the aggregates that an event concerns, each once."""
        named = self.aggregate(subject, data) if self.takes(type(data)) else None
        if named is None:
            return ()
        return (named,) if isinstance(named, str) else tuple(dict.fromkeys(named))

    def after(self, state: S, event: Event) -> S:
        """Return the state after an event that has taken effect."""
        after = self.evolve(state, event.data)
        if self.with_event is None or after == state:
            return after
        return self.with_event(after, event.envelope)

    def before(self, aggregate: str) -> S:
        """Return the state of an aggregate before any event."""
        return self.state() if self.initial is None else self.initial(aggregate)

    @cached_property
    def _decoder(self) -> msgspec.json.Decoder[S]:
        return msgspec.json.Decoder(self.state)

    def decode(self, raw: bytes) -> S:
        """Return a state as it was stored."""
        return self._decoder.decode(raw)


def tables_of(contracts: Iterable[Contract[Any]]) -> list[TableProjection[Any]]:
    """Return the tables that contracts declare."""
    return [projection for contract in contracts for projection in contract.tables]


def digest_of(
    contracts: Iterable[Contract[Any]], catalogue: Catalogue, reactors: Iterable[tuple[str, str]] = ()
) -> bytes:
    """Return the SHA-256 of what a fold can read and keep: events, states, tables, obligations.

    Of each reactor that is its name and its contract's kind.

    A fold of another digest passes over events that this one reads, or leaves states that it cannot read.
    """
    kept = sorted(
        (
            contract.kind,
            contract.topic,
            contract.version,
            msgspec.json.encode(msgspec.json.schema(contract.state)),
            [projection.definition for projection in contract.tables],
        )
        for contract in contracts
    )
    parts = (catalogue.digest, Envelope.__struct_fields__, kept, sorted(reactors))
    return sha256(repr(parts).encode()).digest()
