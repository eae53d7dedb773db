"""What is known about an event type, its schema included, and how a class is declared as the data of one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any, Literal, dataclass_transform

import msgspec

from salus.events.fields import Sealed, portable
from salus.events.patient_rights import Somebody

SCHEMA_DIALECT = "https://json-schema.org/draft/2020-12/schema"
EXTENSIBLE = "x-salus-extensible"
"""Says in a schema, with `enum`, that later releases may know more words: readers take others for text."""


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
class EventData(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """Base of the data of every event."""


@dataclass(frozen=True)
class EventType:
    """A catalogue entry: the type's name, its class, owner, topic and schema.

    `owner` says who may sign it: `MEMBER`, `OPERATOR`, or the role of the one service that owns the fact.

    `subject_field` names the field of the data that the envelope's `subject` repeats, if there is one. An
    event that `changes` its subject names the version that it expects, and no other event does; `claims`
    tells which names an event claims on its topic, for ever; an event that `accompanies` stands beside
    another one of the same request. What follows from these is `salus.events.effect`.

    A type that a member brought is owned by `MEMBER` or by that member's DID, and has an `objection`: it says
    what the type's JSON Schema is against in data that its class takes, or None.

    By these `salus.events.accountability` judges its request: an `unasked` one may be stated though nobody
    asked; a `transfer` may have begun long before; a `report` gives nobody anything, so a key that ended
    meanwhile does not hide it; for one with `operators` so many of them must have asked
    (`salus.events.governance`); `asker` says whether who asks, as it was when the event was appended, may.
    """

    name: str
    data: type[EventData]
    owner: str
    retention: Retention
    topic: str
    subject_field: str | None
    # Makes the schema, which takes longer than all else of a class; most of a process's types need none.
    make_schema: Callable[[], bytes] = field(compare=False, repr=False)
    older_dataschemas: frozenset[str]
    changes: bool
    claims: Callable[[Any], tuple[str, ...]] | None = field(compare=False, repr=False)
    accompanies: bool
    unasked: bool
    transfer: bool
    report: bool
    operators: Literal[0, 1, 2]
    decoder: msgspec.json.Decoder[EventData] = field(compare=False)
    objection: Callable[[Any], str | None] | None = field(default=None, compare=False, repr=False)
    asker: Callable[[Any, Somebody], bool] | None = field(default=None, compare=False, repr=False)

    @cached_property
    def schema(self) -> bytes:
        """The file whose SHA-256 is in `dataschema`; made when it is first asked for."""
        return self.make_schema()

    @cached_property
    def dataschema(self) -> str:
        """What events of the type say of their schema."""
        return dataschema_of(self.name, self.schema)

    @property
    def summary(self) -> str:
        """The sentence that says what is now true."""
        return " ".join((self.data.__doc__ or "").split())

    @property
    def is_of_members(self) -> bool:
        """Tell whether members state it, all of them or one."""
        return self.owner == MEMBER or self.owner.startswith("did:")


_DECLARED = "__event_type__"


def dataschema_of(name: str, schema: bytes) -> str:
    """Return the `dataschema` of events of that type and schema file: it names the file by its digest."""
    return f"urn:salus:schema:{name}:sha256:{hashlib.sha256(schema).hexdigest()}"


def schema_of(cls: type[EventData], about: dict[str, str | bool | None]) -> bytes:
    """Return the JSON Schema (2020-12) of an event's data, in the one form whose digest names it.

    Only what decides about events is in it: titles and descriptions are left out, so that a better sentence
    does not make another schema. Sealed fields carry `x-salus-sealed`, lists of words `x-salus-extensible`.
    """
    schema = {
        "$schema": SCHEMA_DIALECT,
        "$id": f"urn:salus:schema:{about['type']}",
        "x-salus": about,
        **_bare(msgspec.json.schema(cls)),
    }
    return schema_file(schema)


def schema_file(schema: Any) -> bytes:
    """Return a JSON Schema as its file has it: the one form whose digest is in `dataschema`."""
    return msgspec.json.format(msgspec.json.encode(schema, order="sorted"), indent=2) + b"\n"


def sealed_definition() -> dict[str, Any]:
    """Return the schema of a sealed value, as each schema that has one defines `Sealed`."""
    definition: dict[str, Any] = _bare(msgspec.json.schema(Sealed))["$defs"]["Sealed"]
    return definition


def _bare(schema: Any) -> Any:
    """Return the schema without titles and descriptions; sealed fields and lists of words are marked."""
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
    bare = growing(bare)
    return {**bare, "x-salus-sealed": True} if _is_sealed(schema) else bare


def growing(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema of the release, marked if it is a list of words: that may grow."""
    return {**schema, EXTENSIBLE: True} if "enum" in schema else schema


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


def declare(entry: EventType) -> None:
    """Make the entry's class the data of that type; raises ValueError if it is of one already."""
    if _DECLARED in entry.data.__dict__:
        raise ValueError(f"{entry.data.__name__} is the data of {type_of(entry.data).name}")
    setattr(entry.data, _DECLARED, entry)
