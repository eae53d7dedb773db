"""The AsyncAPI 3.0 document: what an integrator's own tools read about topics, keys, headers and events."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import msgspec

from salus.events.catalogue import all_types
from salus.events.envelope import CONTENT_TYPE, VALUE_BYTES_MAX, Envelope
from salus.events.errors import Reason
from salus.events.fields import Sealed
from salus.events.registry import EventType, Owner
from salus.ledger.records import SIGNATURE_HEADER
from salus.ledger.signature_header import HEADER_BYTES_MAX, HEADER_PATTERN

FILE_NAME = "asyncapi.json"
_KAFKA_BINDING = "0.5.0"


def document() -> bytes:
    """Return the document as JSON, in the order of the catalogue."""
    entries = sorted(all_types(), key=lambda entry: (entry.topic, entry.name))
    channels = {topic: list(group) for topic, group in groupby(entries, key=lambda entry: entry.topic)}
    content = {
        "asyncapi": "3.0.0",
        "info": _info(),
        "defaultContentType": CONTENT_TYPE,
        "servers": {"network": _server()},
        "channels": {topic: _channel(topic, group) for topic, group in channels.items()},
        "operations": _operations(channels),
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


def _channel(topic: str, entries: list[EventType]) -> dict[str, Any]:
    return {
        "address": topic,
        "messages": {entry.name: {"$ref": f"#/components/messages/{entry.name}"} for entry in entries},
        "bindings": {"kafka": {"topic": topic, "bindingVersion": _KAFKA_BINDING}},
    }


def _operations(channels: dict[str, list[EventType]]) -> dict[str, Any]:
    operations = {}
    for topic, entries in channels.items():
        channel = {"$ref": f"#/channels/{topic}"}
        operations[f"read {topic}"] = {
            "action": "receive",
            "channel": channel,
            "summary": "Anyone in the network may read.",
        }
        if entries[0].owner is Owner.MEMBER:
            operations[f"publish {topic}"] = {
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
        "headers": {"$ref": "#/components/schemas/headers"},
        "payload": {
            "allOf": [
                {"$ref": "#/components/schemas/envelope"},
                {
                    "type": "object",
                    "properties": {
                        "type": {"const": entry.name},
                        "dataschema": {"enum": [entry.dataschema, *sorted(entry.older_dataschemas)]},
                        "data": {"$ref": f"#/components/schemas/{entry.name}"},
                    },
                },
            ]
        },
        "bindings": {
            "kafka": {
                "key": {"type": "string", "description": "The event's `subject`, in UTF-8."},
                "bindingVersion": _KAFKA_BINDING,
            }
        },
        "x-salus-owner": entry.owner.value,
        "x-salus-retention": entry.retention.value,
        "x-salus-subject": entry.subject_field,
        "x-salus-value-bytes-max": VALUE_BYTES_MAX,
    }


def _schemas(entries: list[EventType]) -> dict[str, Any]:
    kinds: list[type[msgspec.Struct]] = [Envelope, *(entry.data for entry in entries)]
    found, parts = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    names = ["envelope", *(entry.name for entry in entries)]
    # The classes themselves go by the name of their event type; what they are made of, by class name.
    roots = {kind.__name__: name for kind, name in zip(kinds, names, strict=True)}
    schemas = {roots.get(name, name): part for name, part in parts.items()}
    assert all("$ref" in root for root in found)  # noqa: S101  # so every class is among the parts
    schemas[Sealed.__name__]["x-salus-sealed"] = True
    return {"headers": _headers(), **schemas}


def _headers() -> dict[str, Any]:
    return {
        "type": "object",
        "required": [SIGNATURE_HEADER],
        "properties": {
            SIGNATURE_HEADER: {
                "type": "string",
                "pattern": f"^{HEADER_PATTERN}$",
                "maxLength": HEADER_BYTES_MAX,
                "description": "v1 METHOD INDEX/SIZE SIGNATURE [PATH]; see docs/integrators.md.",
            },
            "content-type": {"const": CONTENT_TYPE},
            "traceparent": {"type": "string", "description": "W3C Trace Context; optional."},
        },
    }
