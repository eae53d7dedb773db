"""Event types that members bring, for tests: schemas, and the facts by which they join."""

from __future__ import annotations

from typing import Any

from tests.asking import UNASKED

from salus.events.contexts.identity import EventTypeActivated, EventTypeProposed, EventTypeWithdrawn
from salus.events.event_types import dataschema_of, schema_file
from salus.events.fields import Pseudonym, portable
from salus.events.type_definition import with_sealed
from salus.events.type_names import prefix_of

HOSPITAL = "did:web:hospital.example"
_PATTERN: Any = Pseudonym
PSEUDONYM = {"type": "string", "maxLength": 45, "pattern": portable(_PATTERN.__metadata__[0].pattern)}
SEALED = {"$ref": "#/$defs/Sealed", "x-salus-sealed": True}
WARD = {"type": "string", "maxLength": 8, "pattern": "^[A-Z]{1,4}([.][0-9]+)?$"}


def schema_of(
    member: str = HOSPITAL,
    *,
    fact: str = "bed-occupied.v1",
    about: dict[str, Any] | None = None,
    fields: dict[str, Any] | None = None,
    required: tuple[str, ...] = ("patient", "ward"),
    more: dict[str, Any] | None = None,
    **changes: Any,
) -> dict[str, Any]:
    """Return the schema of an event type of this member; with further `fields`, and `more` keywords."""
    name = f"{prefix_of(member)}.{fact}"
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:salus:schema:{name}",
        "description": "A bed of a ward is occupied.",
        "x-salus": {
            "type": name,
            "owner": member,
            "topic": "salus.clinical.events",
            "key": "subject",
            "subject": "patient",
            "retention": "record",
            "changes": False,
            **(about or {}),
        },
        "type": "object",
        "additionalProperties": False,
        "required": list(required),
        "properties": {
            "patient": PSEUDONYM,
            "ward": WARD,
            "beds": {"type": "integer", "minimum": 0, "maximum": 9},
            **(fields or {}),
        },
    }
    return dict(with_sealed({**schema, **changes, **(more or {})}))


def name_of(schema: dict[str, Any]) -> str:
    """Return the type that a schema names."""
    return str(schema["x-salus"]["type"])


def dataschema(schema: dict[str, Any]) -> str:
    """Return the `dataschema` of a schema."""
    return dataschema_of(name_of(schema), schema_file(schema))


def proposed(schema: dict[str, Any], member: str = HOSPITAL) -> EventTypeProposed:
    """Return the fact that a schema is proposed."""
    return EventTypeProposed(name_of(schema), member, schema_file(schema).decode(), request=UNASKED)


def activated(schema: dict[str, Any]) -> EventTypeActivated:
    """Return the fact that a schema is activated."""
    return EventTypeActivated(name_of(schema), dataschema(schema), request=UNASKED)


def withdrawn(schema: dict[str, Any]) -> EventTypeWithdrawn:
    """Return the fact that a type is withdrawn."""
    return EventTypeWithdrawn(name_of(schema), request=UNASKED)
