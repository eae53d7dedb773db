"""The subset of JSON Schema that event schemas keep to: all of ours do, and what is beyond it is named."""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.events.test_released_schemas import RELEASED

from salus.events.contexts import CATALOGUE
from salus.events.event_types import EXTENSIBLE, EventType
from salus.events.schemas import subset
from salus.events.schemas.subset import faults_of

GOOD: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "$id": "urn:salus:schema:salus.trials.visited.v1",
    "$ref": "#/$defs/Visit",
    "$defs": {
        "Visit": {
            "type": "object",
            "additionalProperties": False,
            "required": ["id"],
            "properties": {
                "id": {"type": "string", "maxLength": 9, "pattern": "^[a-z]+$"},
                "kind": {"enum": ["first", "last"]},
                "at": {"type": "string", "format": "date-time"},
                "note": {"anyOf": [{"type": "string", "maxLength": 9}, {"type": "null"}], "default": None},
                "parts": {"type": "array", "maxItems": 9, "items": {"$ref": "#/$defs/Part"}},
            },
        },
        "Part": {
            "type": "object",
            "additionalProperties": False,
            "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 9}, "yes": {"type": "boolean"}},
        },
    },
}


def fields(schema: dict[str, Any], name: str = "Visit") -> dict[str, Any]:
    found: dict[str, Any] = schema["$defs"][name]["properties"]
    return found


def visit(schema: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = schema["$defs"]["Visit"]
    return found


BEYOND: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "another dialect": (
        lambda s: s.update({"$schema": "http://json-schema.org/draft-07/schema#"}),
        "$.$schema",
    ),
    "no object": (lambda s: s.update({"$ref": "#/$defs/Nothing"}), "$: the data"),
    "further fields": (lambda s: visit(s).pop("additionalProperties"), "$: additionalProperties"),
    "a field that is nowhere": (lambda s: visit(s)["required"].append("x"), "$: required"),
    "a field of another name": (lambda s: fields(s).update({"Éa": {"type": "boolean"}}), "$: a field's name"),
    "any value": (lambda s: fields(s).update(id=True), "$.id: it is no object"),
    "no type": (lambda s: fields(s).update(id={}), "$.id: type"),
    "two types": (lambda s: fields(s)["id"].update(type=["string", "null"]), "$.id: type"),
    "a number with a fraction": (lambda s: fields(s).update(id={"type": "number"}), "$.id: type"),
    "a text without end": (lambda s: fields(s)["id"].pop("maxLength"), "$.id: maxLength"),
    "a bound that is no number": (lambda s: fields(s)["id"].update(maxLength=True), "$.id: maxLength"),
    "a list without end": (lambda s: fields(s)["parts"].pop("maxItems"), "$.parts: maxItems"),
    "items of any kind": (lambda s: fields(s)["parts"].pop("items"), "$.parts[]: it is no object"),
    "a whole number without bound": (lambda s: fields(s, "Part")["n"].pop("maximum"), "$.parts[].n: maximum"),
    "look-around": (lambda s: fields(s)["id"].update(pattern="^(?!a)$"), "$.id: pattern"),
    "a back reference": (lambda s: fields(s)["id"].update(pattern=r"^(a)\1$"), "$.id: pattern"),
    "a group that repeats": (lambda s: fields(s)["id"].update(pattern="^(a+)+$"), "$.id: pattern"),
    "a pattern of a part": (lambda s: fields(s)["id"].update(pattern="[a-z]"), "$.id: pattern"),
    "a pattern that is none": (lambda s: fields(s)["id"].update(pattern="^[$"), "$.id: pattern"),
    "a format": (lambda s: fields(s)["id"].update(format="email"), "$.id: format"),
    "words that are no texts": (lambda s: fields(s).update(kind={"enum": [1]}), "$.kind: words"),
    "too many words": (
        lambda s: fields(s).update(kind={"enum": [f"w{n}" for n in range(257)]}),
        "$.kind: words",
    ),
    "a text that may grow": (
        lambda s: fields(s)["id"].update({EXTENSIBLE: True}),
        "$.id: x-salus-extensible",
    ),
    "a list that may grow or not": (
        lambda s: fields(s).update(kind={"enum": ["a"], EXTENSIBLE: "yes"}),
        "$.kind: x-salus-extensible",
    ),
    "two kinds": (lambda s: fields(s)["note"]["anyOf"].append({"type": "boolean"}), "$.note: anyOf"),
    "a keyword": (lambda s: fields(s)["id"].update({"not": {}}), "$.id: not is not"),
    "a condition": (lambda s: visit(s).update({"if": {}}), "$: if is not"),
    "another file": (
        lambda s: fields(s).update(id={"$ref": "https://x.example/s"}),
        "$.id: $ref leads to no definition of this file: 'https://x.example/s'",
    ),
    "a circle": (
        lambda s: fields(s, "Part").update(n={"$ref": "#/$defs/Visit"}),
        "$.parts[].n: $ref leads in a",
    ),
    "too many fields": (
        lambda s: fields(s).update({f"f{n}": {"type": "boolean"} for n in range(256)}),
        "$: 261 fields",
    ),
}


@pytest.mark.parametrize("entry", CATALOGUE.types(), ids=lambda entry: entry.name)
def test_every_schema_of_the_catalogue_is_in_the_subset(entry: EventType) -> None:
    assert faults_of(json.loads(entry.schema), size=len(entry.schema)) == []


def test_what_is_in_the_subset_has_no_faults() -> None:
    assert faults_of(GOOD) == []


@pytest.mark.parametrize("name", BEYOND)
def test_what_is_beyond_the_subset_is_named(name: str) -> None:
    change, said = BEYOND[name]
    schema = copy.deepcopy(GOOD)
    change(schema)
    found = faults_of(schema)

    assert any(sentence.startswith(said) for sentence in found), found


def test_a_schema_has_at_most_so_many_bytes() -> None:
    assert "at most 65536" in faults_of(GOOD, size=subset.SCHEMA_BYTES_MAX + 1)[0]


def test_what_nests_too_deep_is_named() -> None:
    schema = copy.deepcopy(GOOD)
    part: dict[str, Any] = {"type": "boolean"}
    for _ in range(subset.DEPTH_MAX + 1):
        part = {"type": "array", "maxItems": 1, "items": part}
    fields(schema)["id"] = part

    assert any("deeper than" in sentence for sentence in faults_of(schema))


def test_definitions_that_double_at_each_step_are_given_up_early() -> None:
    # Without the limit on fields this took two to the power of the number of definitions.
    both = {"properties": {}, "type": "object", "additionalProperties": False}
    names = [f"D{n}" for n in range(subset.DEPTH_MAX)]
    defs = {
        name: {**both, "properties": {"a": {"$ref": f"#/$defs/{after}"}, "b": {"$ref": f"#/$defs/{after}"}}}
        for name, after in itertools.pairwise(names)
    }
    schema = GOOD | {"$ref": "#/$defs/D0", "$defs": defs | {names[-1]: both}}

    assert any("fields" in sentence for sentence in faults_of(schema))


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["type", "properties", "items", "$ref", "$defs", "anyOf", "enum", "pattern", "required"]
            )
            | st.text(max_size=3),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(_json)
def test_no_text_stops_the_look(schema: Any) -> None:
    assert faults_of(schema) != []


def test_the_schema_of_the_other_tests_is_not_in_the_subset() -> None:
    # It has integers without bounds; the comparison of schemas does not depend on the subset.
    assert faults_of(RELEASED) != []
