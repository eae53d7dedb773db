"""For what a sealed field is sealed: one event, so that whoever may read one opens no other's in its name."""

from __future__ import annotations

from salus.events.contexts.consent import GlassBroken
from salus.events.envelope import Event
from salus.events.event_types import EventData, type_of


def sealing_context(
    kind: type[EventData],
    *,
    source: str,
    id: str,  # noqa: A002  # the CloudEvents attribute's name
    object: str | None = None,  # noqa: A002  # the catalogue's name
) -> str:
    """Return the context for which a field of an event is sealed (docs/sealing.md).

    It holds all by which a right to read is decided: the event's type, source and id, and the object that
    its data names, if any. For the words of an emergency (`GlassBroken`) the source is the principal and
    the id is empty, since they are sealed before the service makes the event.
    """
    return "\n".join((type_of(kind).name, source, id, object or ""))


def records_of(event: Event) -> tuple[str, ...]:
    """Return the records under whose names a right to read an event's sealed fields is given, its own first.

    They are all in the context: the rest of an event that somebody shows may be his invention.
    """
    named = getattr(event.data, "object", None)
    own = None if isinstance(event.data, GlassBroken) else event.envelope.id
    return tuple(name for name in (own, named) if name is not None)


def context_of(event: Event) -> str:
    """Return the context in which an event's sealed fields open."""
    data, envelope = event.data, event.envelope
    if isinstance(data, GlassBroken):
        return sealing_context(GlassBroken, source=data.principal, id="", object=data.object)
    named = getattr(data, "object", None)
    return sealing_context(type(data), source=envelope.source, id=envelope.id, object=named)
