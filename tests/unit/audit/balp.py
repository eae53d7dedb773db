"""A small checker of FHIR profiles: enough of StructureDefinition differentials to hold BALP's musts.

It reads cardinalities, patterns, required bindings and slices by `type` or `$this`, following base profiles.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "data" / "fhir" / "balp"
Json = dict[str, Any]


def _load(kind: str) -> dict[str, Json]:
    found = (json.loads(path.read_bytes()) for path in (FOLDER / "profiles").glob(f"{kind}-*.json"))
    return {definition["url"]: definition for definition in found}


PROFILES = _load("StructureDefinition")
_VALUE_SETS = _load("ValueSet")


def violations(resource: Json, profile: str) -> list[str]:
    """Return what of the profile does not hold for a resource, and of the profiles it is based on."""
    definition = PROFILES[profile]
    found = []
    if definition["baseDefinition"] in PROFILES:
        found = violations(resource, definition["baseDefinition"])
    elements = definition["differential"]["element"]
    for element in elements:
        found += _check(resource, element, definition)
    return found


def _check(resource: Json, element: Json, definition: Json) -> list[str]:
    path, _, _ = element["id"].partition(".")
    steps = element["id"].split(".")[1:]
    assert path == "AuditEvent"
    if not steps or "extension" in element["id"]:
        return []
    found = []
    for parent in _parents(resource, steps[:-1], definition):
        values = _select(parent, steps[-1], _slices(definition))
        found += _cardinality(element, values)
        for value in values:
            found += _value(element, value)
        if element.get("slicing", {}).get("rules") == "closed":
            found += _closed(element, values, definition)
    return found


def _parents(resource: Json, steps: list[str], definition: Json) -> list[Any]:
    parents: list[Any] = [resource]
    for step in steps:
        parents = [child for parent in parents for child in _select(parent, step, _slices(definition))]
    return parents


def _slices(definition: Json) -> dict[str, Json]:
    """Return by slice name the element whose pattern tells a member of the slice from the others."""
    slices: dict[str, Json] = {}
    base = PROFILES.get(definition["baseDefinition"])
    if base is not None:
        slices |= _slices(base)
    for element in definition["differential"]["element"]:
        name = element["id"]
        if name.count(":") == 1 and (name.endswith(".type") or name.count(".") == 1):
            key = name.removeprefix("AuditEvent.").removesuffix(".type")
            if _pattern(element) is not None or "binding" in element:
                slices[key] = element
    return slices


def _select(parent: Any, step: str, slices: dict[str, Json]) -> list[Any]:
    field, _, _slice = step.partition(":")
    value = parent.get(field) if isinstance(parent, dict) else None
    values = value if isinstance(value, list) else [] if value is None else [value]
    if not _slice or step not in slices:
        return values
    element = slices[step]
    by_type = element["id"].endswith(".type")
    return [item for item in values if not _value(element, item.get("type") if by_type else item)]


def _pattern(element: Json) -> Any:
    return next((value for name, value in element.items() if name.startswith("pattern")), None)


def _cardinality(element: Json, values: list[Any]) -> list[str]:
    low, high = element.get("min", 0), element.get("max", "*")
    if len(values) < low or (high != "*" and len(values) > int(high)):
        return [f"{element['id']}: {len(values)} of {low}..{high}"]
    return []


def _value(element: Json, value: Any) -> list[str]:
    pattern = _pattern(element)
    if pattern is not None and not _matches(pattern, value):
        return [f"{element['id']}: not as the pattern"]
    binding = element.get("binding", {})
    if binding.get("strength") == "required" and not _bound(binding["valueSet"], value):
        return [f"{element['id']}: not of {binding['valueSet']}"]
    return []


def _matches(pattern: Any, value: Any) -> bool:
    if isinstance(pattern, dict):
        return isinstance(value, dict) and all(
            _matches(want, value.get(key)) for key, want in pattern.items()
        )
    if isinstance(pattern, list):
        return isinstance(value, list) and all(any(_matches(want, got) for got in value) for want in pattern)
    return bool(pattern == value)


def _bound(url: str, value: Any) -> bool:
    codings = value.get("coding", [value]) if isinstance(value, dict) else []
    return any(
        include["system"] == coding.get("system")
        and ("concept" not in include or coding.get("code") in {c["code"] for c in include["concept"]})
        for include in _VALUE_SETS[url]["compose"]["include"]
        for coding in codings
    )


def _closed(element: Json, values: list[Any], definition: Json) -> list[str]:
    field = element["id"].removeprefix("AuditEvent.")
    slices = _slices(definition)
    members = [
        item
        for key in slices
        if key.startswith(f"{field}:")
        for item in _select({field: values}, key, slices)
    ]
    return [f"{element['id']}: outside every slice" for value in values if value not in members]
