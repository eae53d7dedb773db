"""The catalogue: the event types and roles that a network knows, composed of contexts."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from copy import copy
from functools import cached_property
from hashlib import sha256
from itertools import product

from salus.events.context import OWN_PACKAGE, Context
from salus.events.event_types import MEMBER, OPERATOR, EventData, EventType, Role, type_of
from salus.events.signed_request import Asked, Asks, Form, excess_of


class Catalogue:
    """The event types, roles and requests of some contexts: a value; two do not know of each other.

    It does not change: a type that a context gains later is in no catalogue that was made before.
    """

    def __init__(self, contexts: Iterable[Context]) -> None:
        """Raise ValueError if contexts do not fit together.

        Names of contexts and roles and the topics are each of one context, and a type's owner is known.
        """
        self._by_name: dict[str, EventType] = {}
        self._roles: dict[str, Role] = {}
        self._sealed: set[str] = set()
        self._asks: dict[type[EventData], Asks] = {}
        self._forms: dict[tuple[str, str, int], list[Form]] = {}
        belongs: dict[str, Context] = {}
        self._contexts = tuple(contexts)
        for context in self._contexts:
            names = [f"context {context.name}", *(f"role {role.name}" for role in context.roles)]
            for name in (*names, *{entry.topic for entry in context.types}):
                if name in belongs:
                    raise ValueError(f"{name} of {_origin(context)} is of {_origin(belongs[name])} already")
                belongs[name] = context
            self._by_name.update((entry.name, entry) for entry in context.types)
            self._roles.update((role.name, role) for role in context.roles)
            self._asks.update(context.asks)
            for owner, form in product({entry.owner for entry in context.types}, context.forms):
                self._forms.setdefault((owner, form.method, len(form.path)), []).append(form)
            self._sealed.update(entry.topic for entry in context.types if context.sealed)
        owners = {MEMBER, OPERATOR, *self.roles_of("service")}
        for entry in self._by_name.values():
            if entry.owner not in owners:
                raise ValueError(f"{entry.name}: no service has the role {entry.owner}")

    def joining(self) -> dict[str, Context]:
        """Return the contexts that packages beside the release bring, by each role of a service of theirs."""
        return {
            role.name: context
            for context in self._contexts
            if context.package != OWN_PACKAGE
            for role in context.roles
            if role.kind == "service"
        }

    def without(self, contexts: Collection[Context]) -> Catalogue:
        """Return a catalogue of the other contexts, but for those whose types a service of these states."""
        others = [context for context in self._contexts if context not in contexts]
        roles = {role.name for context in others for role in context.roles if role.kind == "service"}
        owners = {MEMBER, OPERATOR, *roles}
        bereft = [context for context in others if any(entry.owner not in owners for entry in context.types)]
        return self.without([*contexts, *bereft]) if bereft else Catalogue(others)

    def with_types(self, types: Iterable[EventType]) -> Catalogue:
        """Return a catalogue that has these types of members as well, each in place of one of its name."""
        joined = copy(self)
        joined.__dict__.pop("digest", None)
        joined._by_name = self._by_name | {entry.name: entry for entry in types}  # noqa: SLF001  # it is its own copy
        return joined

    def types(self) -> list[EventType]:
        """Return every type, by name."""
        return [self._by_name[name] for name in sorted(self._by_name)]

    def type_named(self, name: str) -> EventType | None:
        """Return the type of that name, if the catalogue has it."""
        return self._by_name.get(name)

    def package_of(self, name: str) -> str | None:
        """Return the package that brings a type; None of members' own."""
        found = (c.package for c in self._contexts for entry in c.types if entry.name == name)
        return next(found, None)

    def topics_of_members(self) -> list[str]:
        """Return the topics that members publish to: what they bring of their own belongs there."""
        return sorted({entry.topic for entry in self._by_name.values() if entry.owner == MEMBER})

    def input_topics(self) -> list[str]:
        """Return the topics that the sequencer turns into blocks: all but its own announcements."""
        return sorted(self._sealed)

    def roles(self) -> list[Role]:
        """Return every role, those of services first, in the order of the contexts."""
        return sorted(self._roles.values(), key=lambda role: role.kind != "service")

    def roles_of(self, kind: str) -> frozenset[str]:
        """Return the names of the roles that parties of this kind may hold."""
        return frozenset(role.name for role in self._roles.values() if role.kind == kind)

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of what verdicts depend on: types by their schemas, old ones included, and roles."""
        types = [(entry.dataschema, sorted(entry.older_dataschemas)) for entry in self.types()]
        roles = sorted((role.name, role.kind) for role in self._roles.values())
        return sha256(repr((types, roles)).encode()).digest()

    def form_of(self, asked: Asked, *, service: str) -> Form | None:
        """Return the form of a request to a service; None if it is none that makes an event."""
        forms = self._forms.get((service, asked.method, len(asked.path)), ())
        for form in forms:
            if asked.is_(form.method, *form.path):
                return form
        return None

    def asks_for(self, asked: Asked, data: EventData) -> bool:
        """Tell whether the request asks for what this data states, and for nothing else."""
        asks, form = self._asks.get(type(data)), self.form_of(asked, service=type_of(data).owner)
        return asks is not None and form is not None and excess_of(asked, form) is None and asks(asked, data)

    def may_be_asked(self, data: type[EventData]) -> bool:
        """Tell whether there is a request that asks for data of this class."""
        return data in self._asks


def _origin(context: Context) -> str:
    return f"{context.name} ({context.package})"
