"""A bounded context: the part of the catalogue that one module declares."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, TypeVar

import msgspec

from salus.events.event_types import EventData, EventType, Retention, Role, declare, schema_of
from salus.events.patient_rights import Somebody
from salus.events.signed_request import VALUES_MAX, Asks, Form

_F = TypeVar("_F", bound=Asks)
_T = TypeVar("_T", bound=type[EventData])
_CONTEXT = re.compile(r"[a-z]+")
_FACT = re.compile(r"[a-z-]+\.v[1-9][0-9]*")
_ROLE = re.compile(r"[a-z][a-z-]{0,63}")
# The package of the release's contexts: they hold in every network from its beginning.
OWN_PACKAGE = "salus-events"


class Context:
    """A bounded context: the event types of one subject, the topic that they belong on, roles and requests.

    Its module makes one and declares its types with `event`, its roles with `role`, the requests that make
    events with `form`, and which request asks for which event with `asked`. `sealed` tells whether the
    sequencer turns its topics into blocks; of its own announcements it does not.
    """

    def __init__(self, name: str, *, sealed: bool = True) -> None:
        """Begin a context whose types are named `salus.<name>.<fact>.v<n>`."""
        # Below `salus.ext` are the names of members' own types.
        if _CONTEXT.fullmatch(name) is None or name == "ext":
            raise ValueError(f"{name} is not a context's name: letters from a to z, and not ext")
        self.name = name
        # Which package brings it.
        self.package = OWN_PACKAGE
        self.topic = f"salus.{name}.events"
        self.sealed = sealed
        self.types: list[EventType] = []
        self.roles: list[Role] = []
        self.forms: list[Form] = []
        self.asks: dict[type[EventData], Asks] = {}

    def role(self, name: str, kind: Literal["service", "person"], meaning: str) -> str:
        """Declare a role that parties of this kind may hold, and return its name."""
        if _ROLE.fullmatch(name) is None or any(role.name == name for role in self.roles):
            raise ValueError(f"{name} is not a role's name, or is taken")
        self.roles.append(Role(name, kind, meaning))
        return name

    def event(  # noqa: PLR0913  # what the catalogue says of a type
        self,
        name: str,
        *,
        owner: str,
        retention: Retention,
        topic: str | None = None,
        subject_field: str | None = None,
        older_dataschemas: frozenset[str] = frozenset(),
        changes: bool = False,
        claims: Callable[[Any], tuple[str, ...]] | None = None,
        accompanies: bool = False,
        unasked: bool = False,
        transfer: bool = False,
        report: bool = False,
        operators: Literal[0, 1, 2] = 0,
        asker: Callable[[Any, Somebody], bool] | None = None,
    ) -> Callable[[_T], _T]:
        """Declare a class as the data of the event type `name`; its topic is the context's by default.

        An event whose `subject_field` differs from its envelope's subject is refused. `older_dataschemas` are
        the `dataschema` values of releases before an optional field was added. The others are as in
        `EventType`.
        """
        prefix = f"salus.{self.name}."
        taken = any(entry.name == name for entry in self.types)
        if taken or not name.startswith(prefix) or _FACT.fullmatch(name.removeprefix(prefix)) is None:
            raise ValueError(f"{name} is not of the form {prefix}<fact>.v<n>, or is taken")

        def register(cls: _T) -> _T:
            if subject_field is not None and subject_field not in cls.__struct_fields__:
                raise ValueError(f"{name} has no field {subject_field}")
            about = {
                "type": name,
                "owner": owner,
                "topic": topic or self.topic,
                "key": "subject",
                "subject": subject_field,
                "retention": retention.value,
                "changes": changes,
            }
            entry = EventType(
                name=name,
                data=cls,
                owner=owner,
                retention=retention,
                topic=topic or self.topic,
                subject_field=subject_field,
                make_schema=partial(schema_of, cls, about),
                older_dataschemas=older_dataschemas,
                changes=changes,
                claims=claims,
                accompanies=accompanies,
                unasked=unasked,
                transfer=transfer,
                report=report,
                operators=operators,
                decoder=msgspec.json.Decoder(cls),
                asker=asker,
            )
            declare(entry)
            self.types.append(entry)
            return cls

        return register

    def form(
        self,
        method: str,
        *path: str | None,
        body_bytes_max: int | None,
        query: frozenset[str] = frozenset(),
        values_max: int = VALUES_MAX,
    ) -> None:
        """Declare a request that makes an event, as in `Form`; None in the path is any segment."""
        self.forms.append(Form(method, path, body_bytes_max, query, values_max))

    def asked(self, *kinds: type[EventData]) -> Callable[[_F], _F]:
        """Declare the function that tells whether a request asks for data of these classes.

        What the service adds of its own, as an id or an epoch, is not compared.
        """

        def register(asks: _F) -> _F:
            self.asks.update(dict.fromkeys(kinds, asks))
            return asks

        return register
