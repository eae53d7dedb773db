"""The AsyncAPI 3.0 document: what an integrator's own tools read about topics, keys, headers and events."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import msgspec

from salus.events.catalogue import Catalogue
from salus.events.envelope import CONTENT_TYPE, VALUE_BYTES_MAX, Envelope
from salus.events.errors import Reason
from salus.events.event_types import EXTENSIBLE, EventType, growing
from salus.events.fields import Sealed, portable
from salus.ledger.records import SIGNATURE_HEADER
from salus.ledger.signature_header import HEADER_BYTES_MAX, HEADER_PATTERN

FILE_NAME = "asyncapi.json"
WORD_CHARS_MAX = 256
"""As long as a word of a list that may grow can be."""
_KAFKA_BINDING = "0.5.0"
_SCHEMAS = "#/components/schemas/"


def document(catalogue: Catalogue) -> bytes:
    """Return the document as JSON, in the order of the catalogue."""
    entries = sorted(catalogue.types(), key=lambda entry: (entry.topic, entry.name))
    topics = {topic: list(group) for topic, group in groupby(entries, key=lambda entry: entry.topic)}
    content = {
        "asyncapi": "3.0.0",
        "info": _info(),
        "defaultContentType": CONTENT_TYPE,
        "servers": {"network": _server()},
        "channels": {_channel_name(topic): _channel(topic, group) for topic, group in topics.items()},
        "operations": _operations(topics),
        "components": {
            "messages": {entry.name: _message(entry) for entry in entries},
            "schemas": _schemas(entries),
        },
        "x-salus-reasons": {reason.value: reason.meaning for reason in Reason},
    }
    return msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n"


def _info() -> dict[str, Any]:
    return {
        "title": "Salus events",
        "version": "1",
        "description": (
            "CloudEvents 1.0 in structured JSON mode, each with a signature in a Kafka header. "
            "Generated from the event catalogue; docs/integrators.md says how to sign and what is refused."
        ),
        "license": {"name": "Apache-2.0"},
    }


def _server() -> dict[str, Any]:
    return {
        "host": "{bootstrap}",
        "protocol": "kafka",
        "variables": {
            "bootstrap": {
                "default": "localhost:9092",
                "description": "`kafka.bootstrap` of `salus status --json`, or what your operator says.",
            }
        },
    }


def _channel_name(topic: str) -> str:
    """Return how programs call a topic: `salus.clinical.events` is ClinicalEvents."""
    return "".join(part.capitalize() for part in topic.removeprefix("salus.").split("."))


def _channel(topic: str, entries: list[EventType]) -> dict[str, Any]:
    return {
        "address": topic,
        "title": topic,
        "messages": {entry.name: {"$ref": f"#/components/messages/{entry.name}"} for entry in entries},
        "bindings": {"kafka": {"topic": topic, "bindingVersion": _KAFKA_BINDING}},
    }


def _operations(topics: dict[str, list[EventType]]) -> dict[str, Any]:
    operations = {}
    for topic, entries in topics.items():
        name = _channel_name(topic)
        channel = {"$ref": f"#/channels/{name}"}
        operations[f"read{name}"] = {
            "action": "receive",
            "channel": channel,
            "summary": "Anyone in the network may read.",
        }
        if any(entry.is_of_members for entry in entries):
            operations[f"publish{name}"] = {
                "action": "send",
                "channel": channel,
                "summary": "Members publish; what is refused becomes a rejected leaf with its reason.",
            }
    return operations


def _message(entry: EventType) -> dict[str, Any]:
    return {
        "name": entry.name,
        "title": entry.data.__name__,
        "summary": entry.summary,
        "contentType": CONTENT_TYPE,
        "headers": {"$ref": f"{_SCHEMAS}Headers"},
        "payload": {"$ref": f"{_SCHEMAS}{_event_name(entry)}"},
        "bindings": {
            "kafka": {
                "key": {"type": "string", "description": "The event's `subject`, in UTF-8."},
                "bindingVersion": _KAFKA_BINDING,
            }
        },
        "x-salus-owner": entry.owner,
        "x-salus-retention": entry.retention.value,
        "x-salus-subject": entry.subject_field,
        "x-salus-value-bytes-max": VALUE_BYTES_MAX,
    }


def _event_name(entry: EventType) -> str:
    return f"{entry.data.__name__}Event"


def _schemas(entries: list[EventType]) -> dict[str, Any]:
    """Return every schema by name: a whole event for each type, its data, and what they are made of.

    Generators make a class of each object and each list of words, and invent a name where there is none.
    """
    _, parts = msgspec.json.schema_components(
        [Envelope, *(entry.data for entry in entries)], ref_template=_SCHEMAS + "{name}"
    )
    schemas = {name: _portable(part) for name, part in parts.items()}
    envelope = schemas.pop(Envelope.__name__)
    envelope["properties"] = {
        name: _hoisted(value, name, {}) for name, value in envelope["properties"].items()
    }
    schemas[Sealed.__name__]["x-salus-sealed"] = True
    named: dict[str, Any] = {"Headers": _headers()}
    own = _classes_of_members(entries)
    for name, schema in schemas.items():
        for field, value in schema["properties"].items():
            kind = value if name in own else _extensible(value)
            schema["properties"][field] = _hoisted(kind, f"{name}{field.title().replace('_', '')}", named)
    events = {_event_name(entry): _event(entry, envelope, named) for entry in entries}
    return {**named, **schemas, **events}


def _event(entry: EventType, envelope: dict[str, Any], named: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a whole event, in one piece: many generators cannot make a class of an `allOf`."""
    name = _event_name(entry)
    schemas = [entry.dataschema, *sorted(entry.older_dataschemas)]
    own = {
        "type": {"type": "string", "const": entry.name},
        "dataschema": _hoisted({"type": "string", "enum": schemas}, f"{name}Dataschema", named),
        "data": {"$ref": f"{_SCHEMAS}{entry.data.__name__}"},
    }
    return {
        **envelope,
        "title": name,
        "description": entry.summary,
        "properties": {**envelope["properties"], **own},
    }


def _classes_of_members(entries: list[EventType]) -> set[str]:
    """Return the names of the schemas that members wrote: they say themselves which words may be more."""
    own = [entry.data for entry in entries if entry.objection is not None]
    return set(msgspec.json.schema_components(own)[1]) - {Sealed.__name__}


def _extensible(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a field of the release's types: its list of words is one that may grow."""
    if "items" in schema:
        return {**schema, "items": _extensible(schema["items"])}
    return growing(schema)


def _hoisted(schema: dict[str, Any], name: str, named: dict[str, Any]) -> dict[str, Any]:
    """Return the schema with its list of words moved to `named`, under `name`.

    Programs that are made from a list of words take no other, so one that may grow is text to them.
    """
    if "items" in schema:
        return {**schema, "items": _hoisted(schema["items"], name, named)}
    if "enum" not in schema:
        return schema
    if schema.get(EXTENSIBLE):
        about = {key: value for key, value in schema.items() if key not in {"enum", EXTENSIBLE}}
        return {**about, "type": "string", "maxLength": WORD_CHARS_MAX, "x-extensible-enum": schema["enum"]}
    if len(schema["enum"]) == 1:
        return {"type": "string", "const": schema["enum"][0]}
    named[name] = {"title": name, "type": "string", "enum": schema["enum"]}
    return {"$ref": f"{_SCHEMAS}{name}"}


def _portable(schema: Any) -> Any:
    """Return a schema in the subset that generators of every language take.

    A field that may be left out is not also null: all writers leave it out, and readers of the ledger that
    meet a null take it for left out. Generators would make an anonymous union of it, and of an empty list as
    a default they make no program.
    """
    if isinstance(schema, list):
        return [_portable(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: _portable(value) for key, value in schema.items() if key != "default"}
    match made:
        case {"anyOf": [dict(only), {"type": "null"}] | [{"type": "null"}, dict(only)]}:
            made = {**{key: value for key, value in made.items() if key != "anyOf"}, **only}
        case {"type": "integer"}:
            made["format"] = "int64"
        case {"pattern": str(pattern)}:
            made["pattern"] = portable(pattern)
    if isinstance(description := made.get("description"), str):
        made["description"] = " ".join(description.split())
    return made


def _headers() -> dict[str, Any]:
    return {
        "title": "Headers",
        "type": "object",
        "required": [SIGNATURE_HEADER],
        "properties": {
            SIGNATURE_HEADER: {
                "type": "string",
                "pattern": f"^{HEADER_PATTERN}$",
                "maxLength": HEADER_BYTES_MAX,
                "description": "v1 METHOD INDEX/SIZE SIGNATURE [PATH]; see docs/integrators.md.",
            },
            "content-type": {"type": "string", "const": CONTENT_TYPE},
            "traceparent": {"type": "string", "description": "W3C Trace Context; optional."},
        },
    }
