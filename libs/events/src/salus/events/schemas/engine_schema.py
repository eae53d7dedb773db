"""The JSON Schema that an engine judges by: made of what was looked at, and of nothing else.

A schema of a member's is a text that two programs read: the look at it, and the engine. What is handed to the
engine is therefore written here, of a schema without faults, with the keywords and references that the look
knows. What it costs is known before, by its patterns and words.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from salus.events.event_types import SCHEMA_DIALECT

_KEPT = (
    "type",
    "enum",
    "const",
    "minLength",
    "maxLength",
    "pattern",
    "minimum",
    "maximum",
    "minItems",
    "maxItems",
)


def engine_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an engine is given of a schema that has no faults; times and titles are not its matter."""
    defs = {name: _part(part) for name, part in schema.get("$defs", {}).items()}
    return {"$schema": SCHEMA_DIALECT, **({"$defs": defs} if defs else {}), **_part(schema)}


def _part(part: Mapping[str, Any]) -> dict[str, Any]:
    if "$ref" in part:
        return {"$ref": part["$ref"]}
    if "anyOf" in part:
        return {"anyOf": [_part(choice) for choice in part["anyOf"]]}
    made = {key: part[key] for key in _KEPT if key in part}
    if "properties" in part:
        made["properties"] = {name: _part(field) for name, field in part["properties"].items()}
        made["required"] = [*part.get("required", ())]
        made["additionalProperties"] = False
    if "items" in part:
        made["items"] = _part(part["items"])
    return made
