"""A projection: which events come to which aggregates, and how. It is pure, and folds by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, TypeVar

import msgspec

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
