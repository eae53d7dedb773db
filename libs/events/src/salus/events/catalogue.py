"""The catalogue: the event types that a network knows, composed of contexts."""

from __future__ import annotations

from collections.abc import Iterable

from salus.events.event_types import Context, EventType


class Catalogue:
    """The event types of some contexts: a value; two of them do not know of each other.

    It does not change: a type that a context gains later is in no catalogue that was made before.
    """

    def __init__(self, contexts: Iterable[Context]) -> None:
        """Raise ValueError if two contexts have one name, or state facts on one topic."""
        self._by_name: dict[str, EventType] = {}
        self._sealed: set[str] = set()
        context_of: dict[str, str] = {}
        names = set[str]()
        for context in contexts:
            if context.name in names:
                raise ValueError(f"two contexts are called {context.name}")
            names.add(context.name)
            for entry in context.types:
                if context_of.setdefault(entry.topic, context.name) != context.name:
                    raise ValueError(
                        f"{entry.topic} belongs to {context_of[entry.topic]}, not to {entry.name}"
                    )
                self._by_name[entry.name] = entry
                if context.sealed:
                    self._sealed.add(entry.topic)

    def types(self) -> list[EventType]:
        """Return every type, by name."""
        return [self._by_name[name] for name in sorted(self._by_name)]

    def type_named(self, name: str) -> EventType | None:
        """Return the type of that name, if the catalogue has it."""
        return self._by_name.get(name)

    def input_topics(self) -> list[str]:
        """Return the topics that the sequencer turns into blocks: all but its own announcements."""
        return sorted(self._sealed)
