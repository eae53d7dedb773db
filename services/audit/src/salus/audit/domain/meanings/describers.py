"""Who describes data of which class: each event type has one function, with `@describes`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from salus.audit.domain.entry import Facts
from salus.events.event_types import EventData

Describer = Callable[[Any], Facts]
_T = TypeVar("_T", bound=Describer)
_DESCRIBERS: dict[type[EventData], Describer] = {}


def describes(cls: type[EventData]) -> Callable[[_T], _T]:
    """Register the describer of a class of event data."""

    def register(describer: _T) -> _T:
        _DESCRIBERS[cls] = describer
        return describer

    return register


def facts_of(data: EventData) -> Facts | None:
    """Return what this data says, if the trail knows its class."""
    describer = _DESCRIBERS.get(type(data))
    return None if describer is None else describer(data)


def short(did: str) -> str:
    """Return a DID or pseudonym short enough for a sentence; the full one is in the entry's fields."""
    return did if len(did) <= 24 else f"{did[:13]}…{did[-6:]}"
