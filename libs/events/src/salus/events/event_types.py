"""What is known about an event type, and how a class becomes the data of one, in its context."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, TypeVar, dataclass_transform

import msgspec

from salus.events.fields import portable

SCHEMA_DIALECT = "https://json-schema.org/draft/2020-12/schema"


# Who owns a type, and so may sign it, is the role of the one service that owns the fact, or one of these.
MEMBER = "member"
"""Any member, and whoever acts for one."""
OPERATOR = "operator"
"""Any operator of the network; also the name of that role."""


@dataclass(frozen=True, slots=True)
class Role:
    """A role that parties of one kind may hold; `meaning` says in words what it is for."""

    name: str
    kind: Literal["service", "person"]
    meaning: str


class Retention(StrEnum):
    """How long an event's sealed content should stay readable; the event itself stays for ever."""

    RECORD = "record"
    ACCESS = "access"
    NETWORK = "network"


@dataclass_transform(frozen_default=True, field_specifiers=(msgspec.field,))
class EventData(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Base of the data of every event."""


@dataclass(frozen=True)
class EventType:
    """A catalogue entry: the type's name, its class, owner, topic and schema.

    `owner` says who may sign it: `MEMBER`, `OPERATOR`, or the role of the one service that owns the fact.

    `schema` is the file whose SHA-256 is in `dataschema`. `subject_field` names the field of the data that
    the envelope's `subject` repeats, if there is one. An event that `changes` its subject names the version
    that it expects, and no other event does; `claims` tells which names an event claims on its topic, for
    ever; an event that `accompanies` stands beside another one of the same request. What follows from these
    is `salus.events.effect`.
    """

    name: str
    data: type[EventData]
    owner: str
    retention: Retention
    topic: str
    subject_field: str | None
    schema: bytes = field(repr=False)
    dataschema: str
    older_dataschemas: frozenset[str]
    changes: bool
    claims: Callable[[Any], tuple[str, ...]] | None = field(compare=False, repr=False)
    accompanies: bool
    decoder: msgspec.json.Decoder[EventData] = field(compare=False)

    @property
    def summary(self) -> str:
        """The sentence that says what is now true."""
        return " ".join((self.data.__doc__ or "").split())


_T = TypeVar("_T", bound=type[EventData])
_CONTEXT = re.compile(r"[a-z]+")
_FACT = re.compile(r"[a-z-]+\.v[1-9][0-9]*")
_ROLE = re.compile(r"[a-z][a-z-]{0,63}")
_DECLARED = "__event_type__"


class Context:
    """A bounded context: the event types of one subject, the topic that they belong on, and roles.

    Its module makes one and declares its types with `event` and its roles with `role`. `sealed` tells whether
    the sequencer turns its topics into blocks; of its own announcements it does not.
    """

    def __init__(self, name: str, *, sealed: bool = True) -> None:
        """Begin a context whose types are named `salus.<name>.<fact>.v<n>`."""
        if _CONTEXT.fullmatch(name) is None:
            raise ValueError(f"{name} is not a context's name: letters from a to z")
        self.name = name
        self.topic = f"salus.{name}.events"
        self.sealed = sealed
        self.types: list[EventType] = []
        self.roles: list[Role] = []

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
    ) -> Callable[[_T], _T]:
        """Declare a class as the data of the event type `name`; its topic is the context's by default.

        An event whose `subject_field` differs from its envelope's subject is refused. `older_dataschemas` are
        the `dataschema` values of releases before an optional field was added. `changes`, `claims` and
        `accompanies` are as in `EventType`.
        """
        prefix = f"salus.{self.name}."
        taken = any(entry.name == name for entry in self.types)
        if taken or not name.startswith(prefix) or _FACT.fullmatch(name.removeprefix(prefix)) is None:
            raise ValueError(f"{name} is not of the form {prefix}<fact>.v<n>, or is taken")

        def declare(cls: _T) -> _T:
            if subject_field is not None and subject_field not in cls.__struct_fields__:
                raise ValueError(f"{name} has no field {subject_field}")
            if _DECLARED in cls.__dict__:
                raise ValueError(f"{cls.__name__} is the data of {type_of(cls).name}")
            about = {
                "type": name,
                "owner": owner,
                "topic": topic or self.topic,
                "key": "subject",
                "subject": subject_field,
                "retention": retention.value,
                "changes": changes,
            }
            schema = _schema(cls, about)
            entry = EventType(
                name=name,
                data=cls,
                owner=owner,
                retention=retention,
                topic=topic or self.topic,
                subject_field=subject_field,
                schema=schema,
                dataschema=dataschema_of(name, schema),
                older_dataschemas=older_dataschemas,
                changes=changes,
                claims=claims,
                accompanies=accompanies,
                decoder=msgspec.json.Decoder(cls),
            )
            setattr(cls, _DECLARED, entry)
            self.types.append(entry)
            return cls

        return declare


def dataschema_of(name: str, schema: bytes) -> str:
    """Return the `dataschema` of events of that type and schema file: it names the file by its digest."""
    return f"urn:salus:schema:{name}:sha256:{hashlib.sha256(schema).hexdigest()}"


def _schema(cls: type[EventData], about: dict[str, str | bool | None]) -> bytes:
    """Return the JSON Schema (2020-12) of an event's data, in the one form whose digest names it.

    Only what decides about events is in it: titles and descriptions are left out, so that a better sentence
    does not make another schema. Sealed fields carry `x-salus-sealed`.
    """
    schema = {
        "$schema": SCHEMA_DIALECT,
        "$id": f"urn:salus:schema:{about['type']}",
        "x-salus": about,
        **_bare(msgspec.json.schema(cls)),
    }
    return msgspec.json.format(msgspec.json.encode(schema, order="sorted"), indent=2) + b"\n"


def _bare(schema: Any) -> Any:
    """Return the schema without titles and descriptions, and with its sealed fields marked."""
    if isinstance(schema, list):
        return [_bare(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    bare = {
        # Under `properties` and `$defs` the keys are names, so a field may well be called `title`.
        key: {name: _bare(part) for name, part in value.items()}
        if key in {"properties", "$defs"}
        else _bare(value)
        for key, value in schema.items()
        if key not in {"title", "description"}
    }
    if isinstance(pattern := schema.get("pattern"), str):
        bare["pattern"] = portable(pattern)
    return {**bare, "x-salus-sealed": True} if _is_sealed(schema) else bare


def _is_sealed(schema: dict[str, Any]) -> bool:
    refs = [schema, *schema.get("anyOf", ())]
    return any(part.get("$ref") == "#/$defs/Sealed" for part in refs)


def type_of(data: EventData | type[EventData]) -> EventType:
    """Return the type that this data, or class of data, was declared as.

    Raises:
        LookupError: the class is the data of no event type.
    """
    cls = data if isinstance(data, type) else type(data)
    try:
        found: EventType = cls.__dict__[_DECLARED]
    except KeyError:
        raise LookupError(f"{cls.__name__} is the data of no event type") from None
    return found
