"""The catalogue: the event types and roles that a network knows, composed of contexts."""

from __future__ import annotations

from collections.abc import Iterable

from salus.events.event_types import MEMBER, OPERATOR, Context, EventType, Role


class Catalogue:
    """The event types and roles of some contexts: a value; two of them do not know of each other.

    It does not change: a type that a context gains later is in no catalogue that was made before.
    """

    def __init__(self, contexts: Iterable[Context]) -> None:
        """Raise ValueError if contexts do not fit together.

        Names of contexts and roles and the topics are each of one context, and a type's owner is known.
        """
        self._by_name: dict[str, EventType] = {}
        self._roles: dict[str, Role] = {}
        self._sealed: set[str] = set()
        belongs: dict[str, str] = {}
        for context in contexts:
            names = [f"context {context.name}", *(f"role {role.name}" for role in context.roles)]
            for name in (*names, *{entry.topic for entry in context.types}):
                if name in belongs:
                    raise ValueError(f"{name} of {context.name} is of {belongs[name]} already")
                belongs[name] = context.name
            self._by_name.update((entry.name, entry) for entry in context.types)
            self._roles.update((role.name, role) for role in context.roles)
            self._sealed.update(entry.topic for entry in context.types if context.sealed)
        owners = {MEMBER, OPERATOR, *self.roles_of("service")}
        for entry in self._by_name.values():
            if entry.owner not in owners:
                raise ValueError(f"{entry.name}: no service has the role {entry.owner}")

    def types(self) -> list[EventType]:
        """Return every type, by name."""
        return [self._by_name[name] for name in sorted(self._by_name)]

    def type_named(self, name: str) -> EventType | None:
        """Return the type of that name, if the catalogue has it."""
        return self._by_name.get(name)

    def input_topics(self) -> list[str]:
        """Return the topics that the sequencer turns into blocks: all but its own announcements."""
        return sorted(self._sealed)

    def roles(self) -> list[Role]:
        """Return every role, those of services first, in the order of the contexts."""
        return sorted(self._roles.values(), key=lambda role: role.kind != "service")

    def roles_of(self, kind: str) -> frozenset[str]:
        """Return the names of the roles that parties of this kind may hold."""
        return frozenset(role.name for role in self._roles.values() if role.kind == kind)
