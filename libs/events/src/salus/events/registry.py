"""The register of event types: what is known about each, and how a class joins it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar, dataclass_transform

import msgspec

from salus.events.fields import portable

SCHEMA_DIALECT = "https://json-schema.org/draft/2020-12/schema"


class Owner(StrEnum):
    """Who may sign a type: any member, any operator of the network, or the one service that owns the fact."""

    MEMBER = "member"
    OPERATOR = "operator"
    IDENTITY = "identity"
    CONSENT = "consent"
    STORAGE = "storage"
    SEQUENCER = "sequencer"
    ANCHORING = "anchoring"
    AUDIT = "audit"


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

    `schema` is the file whose SHA-256 is in `dataschema`. `subject_field` names the field of the data that
    the envelope's `subject` repeats, if there is one. An event that `changes` its subject names the version
    that it expects, and no other event does; `claims` tells which names an event claims on its topic, for
    ever; an event that `accompanies` stands beside another one of the same request. What follows from these
    is `salus.events.effect`.
    """

    name: str
    data: type[EventData]
    owner: Owner
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


_BY_NAME: dict[str, EventType] = {}
_BY_CLASS: dict[type, EventType] = {}
_T = TypeVar("_T", bound=type[EventData])
_NAME = re.compile(r"salus\.([a-z]+)\.[a-z-]+\.v[1-9][0-9]*")


def event(  # noqa: PLR0913  # what the catalogue says of a type
    name: str,
    *,
    owner: Owner,
    retention: Retention,
    topic: str | None = None,
    subject_field: str | None = None,
    older_dataschemas: frozenset[str] = frozenset(),
    changes: bool = False,
    claims: Callable[[Any], tuple[str, ...]] | None = None,
    accompanies: bool = False,
) -> Callable[[_T], _T]:
    """Register a class as the data of the event type `name`, `salus.<context>.<fact>.v<n>`.

    An event whose `subject_field` differs from its envelope's subject is refused. `older_dataschemas` are
    the `dataschema` values of releases before an optional field was added. `changes`, `claims` and
    `accompanies` are as in `EventType`.
    """
    match = _NAME.fullmatch(name)
    if match is None or name in _BY_NAME:
        raise ValueError(f"{name} is not of the form salus.<context>.<fact>.v<n>, or is taken")

    def register(cls: _T) -> _T:
        if subject_field is not None and subject_field not in cls.__struct_fields__:
            raise ValueError(f"{name} has no field {subject_field}")
        about = {
            "type": name,
            "owner": owner.value,
            "topic": topic or f"salus.{match[1]}.events",
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
            topic=topic or f"salus.{match[1]}.events",
            subject_field=subject_field,
            schema=schema,
            dataschema=dataschema_of(name, schema),
            older_dataschemas=older_dataschemas,
            changes=changes,
            claims=claims,
            accompanies=accompanies,
            decoder=msgspec.json.Decoder(cls),
        )
        _BY_NAME[name] = _BY_CLASS[cls] = entry
        return cls

    return register


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


def all_types() -> list[EventType]:
    """Return every catalogued type, by name."""
    return [_BY_NAME[name] for name in sorted(_BY_NAME)]


def type_named(name: str) -> EventType | None:
    """Return the type of that name, if the network has it."""
    return _BY_NAME.get(name)


def type_of(data: EventData | type[EventData]) -> EventType:
    """Return the type that this data, or class of data, belongs to.

    Raises:
        LookupError: the class is not in the catalogue.
    """
    cls = data if isinstance(data, type) else type(data)
    try:
        return _BY_CLASS[cls]
    except KeyError:
        raise LookupError(f"{cls.__name__} is not in the catalogue") from None
