"""A projection: which events come to which aggregates, and how. It is pure, and folds by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Any, Generic, TypeVar

import msgspec

from salus.events.catalogue import Catalogue
from salus.events.envelope import Envelope
from salus.events.event_types import EventData

S = TypeVar("S", bound=msgspec.Struct)


def by_subject(subject: str, _: EventData) -> str | None:
    """Name an aggregate by its events' `subject`."""
    return subject


@dataclass(frozen=True)
class Contract(Generic[S]):
    """The fold of one topic into aggregates of one kind, each named by the events' `subject`.

    `evolve` is pure and total: it takes every event of the topic and returns the state unchanged for
    those that do not concern it. `state()` without arguments is the state before any event.
    `aggregate` names the aggregates otherwise, given `subject` and data; None: the event concerns none of
    this kind. Commands are executed on aggregates that are named by `subject` only.
    """

    kind: str
    topic: str
    state: type[S]
    evolve: Callable[[S, EventData], S]
    aggregate: Callable[[str, EventData], str | None] = by_subject

    @cached_property
    def _decoder(self) -> msgspec.json.Decoder[S]:
        return msgspec.json.Decoder(self.state)

    def decode(self, raw: bytes) -> S:
        """Return a state as it was stored."""
        return self._decoder.decode(raw)


def digest_of(contracts: Iterable[Contract[Any]], catalogue: Catalogue) -> bytes:
    """Return the SHA-256 of what a fold can read and keep: events, their envelope, and the states.

    A fold of another digest passes over events that this one reads, or leaves states that it cannot read.
    """
    kept = sorted(
        (contract.kind, contract.topic, msgspec.json.encode(msgspec.json.schema(contract.state)))
        for contract in contracts
    )
    return sha256(repr((catalogue.digest, Envelope.__struct_fields__, kept)).encode()).digest()
