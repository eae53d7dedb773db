"""Which fields of an event are sealed, and to whose key: that of the subject, and of nobody else."""

from __future__ import annotations

from functools import cache
from typing import get_args

import msgspec

from salus.events.event_types import EventData
from salus.events.fields import Sealed


@cache
def sealed_fields(kind: type[EventData]) -> tuple[str, ...]:
    """Return the names of the fields of a class of data that are sealed."""
    fields = msgspec.structs.fields(kind)
    return tuple(field.name for field in fields if Sealed in {field.type, *get_args(field.type)})


def sealed_in(data: EventData) -> dict[str, Sealed]:
    """Return what is sealed in an event's data, by field."""
    values = {name: getattr(data, name) for name in sealed_fields(type(data))}
    return {name: value for name, value in values.items() if value is not None}


def sealed_to_another(data: EventData, *, subject: str) -> str | None:
    """Return the first field that is sealed to a key that is none of the subject's."""
    if not sealed_fields(type(data)):
        return None
    for name, sealed in sealed_in(data).items():
        if sealed.key.partition("#")[0] != subject:
            return name
    return None
