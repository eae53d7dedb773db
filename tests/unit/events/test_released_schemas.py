"""A released schema is kept: what today's one breaks, for whom and in which field, is found."""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from salus.events import schemas
from salus.events.catalogue import Catalogue
from salus.events.context import Context
from salus.events.contexts import CATALOGUE
from salus.events.event_types import EXTENSIBLE, MEMBER, EventData, Retention
from salus.events.fields import Pseudonym, Text
from salus.events.schemas.compatibility import breaks_between

READERS, WRITERS, BOTH, NOBODY = ("readers",), ("writers",), ("readers", "writers"), ()
ABOUT = {"owner": "member", "topic": "salus.trials.events", "changes": False}
RELEASED = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "$ref": "#/$defs/Visit",
    "x-salus": ABOUT,
    "$defs": {
        "Visit": {
            "type": "object",
            "additionalProperties": False,
            "required": ["id", "kind"],
            "properties": {
                "id": {"type": "string", "minLength": 2, "maxLength": 4, "pattern": "^[a-z]*$"},
                "kind": {"enum": ["first", "last"]},
                "note": {"anyOf": [{"type": "string", "maxLength": 4}, {"type": "null"}], "default": None},
                "parts": {"type": "array", "maxItems": 2, "items": {"$ref": "#/$defs/Part"}},
            },
        },
        "Part": {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer", "maximum": 9}}},
    },
}


def visit(schema: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = schema["$defs"]["Visit"]
    return found


def fields(schema: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = visit(schema)["properties"]
    return found


Change = Callable[[dict[str, Any]], object]
CHANGES: dict[str, tuple[Change, tuple[str, ...], str]] = {
    "nothing": (lambda _: None, NOBODY, ""),
    "an optional field": (lambda s: fields(s).update(ward={"type": "string"}), NOBODY, ""),
    "other words about it": (lambda s: visit(s).update(description="a visit"), NOBODY, ""),
    "a required field": (
        lambda s: (fields(s).update(ward={"type": "string"}), visit(s)["required"].append("ward")),
        WRITERS,
        "$.ward",
    ),
    "an optional field that is required": (lambda s: visit(s)["required"].append("note"), WRITERS, "$.note"),
    "a required field that is optional": (lambda s: visit(s)["required"].remove("kind"), READERS, "$.kind"),
    "a longer text": (lambda s: fields(s)["id"].update(maxLength=5), READERS, "$.id"),
    "a shorter text": (lambda s: fields(s)["id"].update(maxLength=3), WRITERS, "$.id"),
    "a text of any length": (lambda s: fields(s)["id"].pop("maxLength"), READERS, "$.id"),
    "a text that may be short": (lambda s: fields(s)["id"].update(minLength=1), READERS, "$.id"),
    "a text that may not be short": (lambda s: fields(s)["id"].update(minLength=3), WRITERS, "$.id"),
    "a bound more": (lambda s: fields(s)["parts"].update(minItems=1), WRITERS, "$.parts"),
    "a word more": (lambda s: fields(s)["kind"]["enum"].append("next"), READERS, "$.kind"),
    "a word less": (lambda s: fields(s)["kind"]["enum"].remove("last"), WRITERS, "$.kind"),
    "one word": (lambda s: fields(s).update(kind={"const": "first"}), WRITERS, "$.kind"),
    "any words": (lambda s: fields(s).update(kind={}), READERS, "$.kind"),
    "no null": (lambda s: fields(s)["note"]["anyOf"].pop(), WRITERS, "$.note"),
    "null as well": (
        lambda s: fields(s).update(kind={"anyOf": [fields(s)["kind"], {"type": "null"}]}),
        BOTH,
        "$.kind",
    ),
    "unknown fields": (lambda s: visit(s).update(additionalProperties=True), READERS, "$"),
    "a bound of a field of a part": (
        lambda s: s["$defs"]["Part"]["properties"]["n"].update(maximum=8),
        WRITERS,
        "$.parts[].n",
    ),
}
# What no validator tells, or in more than one way at once.
ALWAYS_BOTH: dict[str, tuple[Change, str]] = {
    "a field gone": (lambda s: fields(s).pop("note"), "$.note"),
    "another type": (lambda s: fields(s)["id"].update(type="integer"), "$.id"),
    "another pattern": (lambda s: fields(s)["id"].update(pattern="^[a-f]*$"), "$.id"),
    "another default": (lambda s: fields(s)["note"].update(default="x"), "$.note"),
    "another topic": (lambda s: s["x-salus"].update(topic="salus.lab.events"), "$ x-salus"),
    "another owner": (lambda s: s["x-salus"].update(owner="consent"), "$ x-salus"),
    "a sealed field": (lambda s: fields(s)["note"].update({"x-salus-sealed": True}), "$.note"),
    "a class that is nowhere": (lambda s: s.update({"$ref": "#/$defs/Other"}), "$"),
    "another dialect": (lambda s: s.update({"$schema": "https://json-schema.org/draft-07/schema"}), "$"),
    "an alternative": (lambda s: fields(s)["note"]["anyOf"].append({"type": "integer"}), "$.note"),
    "no items": (lambda s: fields(s)["parts"].pop("items"), "$.parts"),
    "a class of another shape": (
        lambda s: (
            s["$defs"].update(New={"type": "object"}),
            fields(s)["parts"].update(items={"$ref": "#/$defs/New"}),
        ),
        "$.parts[].n",
    ),
}
_GONE = object()
DOCUMENTS = [
    {
        name: value
        for name, value in zip(("id", "kind", "note", "parts", "ward"), values, strict=True)
        if value is not _GONE
    }
    for values in itertools.product(
        ("a", "ab", "abc", "abcd", "abcde", _GONE),
        ("first", "last", "next", None, _GONE),
        ("note", None, _GONE),
        ([], [{"n": 8}], [{"n": 9}], _GONE),
        ("w", _GONE),
    )
]


def changed(change: Change) -> dict[str, Any]:
    current = copy.deepcopy(RELEASED)
    change(current)
    return current


@pytest.mark.parametrize("name", CHANGES)
def test_a_difference_breaks_whom_validators_say_that_it_breaks(name: str) -> None:
    change, sides, field = CHANGES[name]
    current = changed(change)
    old, new = Draft202012Validator(RELEASED), Draft202012Validator(current)
    known = fields(RELEASED)
    refused = [d for d in DOCUMENTS if old.is_valid(d) and not new.is_valid(d)]
    misread = [
        d for d in DOCUMENTS if new.is_valid(d) and not old.is_valid({k: d[k] for k in d if k in known})
    ]
    found = breaks_between(RELEASED, current)

    assert {side for each in found for side in each.sides} == set(sides)
    assert not refused or "writers" in sides
    assert not misread or "readers" in sides
    assert name in {"unknown fields", "null as well"} or (bool(refused), bool(misread)) == (
        "writers" in sides,
        "readers" in sides,
    )
    assert {each.field for each in found} == ({field} if field else set())


@pytest.mark.parametrize("name", ALWAYS_BOTH)
def test_what_changes_the_meaning_breaks_both(name: str) -> None:
    change, field = ALWAYS_BOTH[name]
    found = breaks_between(RELEASED, changed(change))

    assert {side for each in found for side in each.sides} == set(BOTH)
    assert field in {each.field for each in found}


def test_the_answer_names_field_and_side() -> None:
    (found,) = breaks_between(RELEASED, changed(lambda s: fields(s)["id"].update(maxLength=3)))

    assert str(found) == "$.id: maxLength: 4 became 3 (breaks writers)"


# No validator says this: readers take a word that they do not know for text (docs/integrators.md).
def test_a_word_more_in_a_list_that_may_grow_breaks_nobody() -> None:
    open_list = changed(lambda s: fields(s)["kind"].update({EXTENSIBLE: True}))
    more, less, closed = (copy.deepcopy(open_list) for _ in range(3))
    fields(more)["kind"]["enum"].append("next")
    fields(less)["kind"]["enum"].remove("last")
    del fields(closed)["kind"][EXTENSIBLE]

    assert breaks_between(open_list, more) == []
    assert [str(each) for each in breaks_between(open_list, less)] == [
        "$.kind: the words ['last'] are gone (breaks writers)"
    ]
    assert breaks_between(open_list, closed) == []
    assert [str(each) for each in breaks_between(RELEASED, open_list)] == [
        "$.kind: x-salus-extensible: more words may come now (breaks readers)"
    ]


def test_each_list_of_words_of_a_release_may_grow() -> None:
    def lists(part: Any) -> list[dict[str, Any]]:
        if isinstance(part, list):
            return [each for value in part for each in lists(value)]
        if not isinstance(part, dict):
            return []
        here = [part] if "enum" in part else []
        return here + [each for value in part.values() for each in lists(value)]

    found = [each for entry in CATALOGUE.types() for each in lists(json.loads(entry.schema))]

    assert len(found) > 20
    assert all(each[EXTENSIBLE] is True for each in found)


def test_schemas_that_refer_in_a_circle_are_compared_all_the_same() -> None:
    circle = {
        "$ref": "#/$defs/A",
        "$defs": {"A": {"properties": {"a": {"$ref": "#/$defs/A"}}, "maxProperties": 3}},
    }
    other = {"$ref": "#/$defs/A", "$defs": {"A": {"properties": {"a": {"$ref": "#/$defs/A"}}}}}

    assert breaks_between(circle, circle) == []
    assert [each.field for each in breaks_between(circle, other)] == ["$", "$.a"]


class Enrolled(EventData):
    """A patient takes part."""

    patient: Pseudonym
    trial: Text


class EnrolledLater(EventData):
    """A patient takes part, and somebody may have said where."""

    patient: Pseudonym
    trial: Text
    site: Text | None = None


class EnrolledElsewhere(EventData):
    """A patient takes part, and it is said where."""

    patient: Pseudonym
    trial: Text
    site: Text


def catalogue_of(data: type[EventData], *, older: frozenset[str] = frozenset()) -> Catalogue:
    """A catalogue with one type, of a class with the fields of `data`; one class is the data of one type."""
    context = Context("trials")
    context.event(
        "salus.trials.enrolled.v1",
        owner=MEMBER,
        retention=Retention.RECORD,
        subject_field="patient",
        older_dataschemas=older,
    )(type("Enrolled", (data,), {}))
    return Catalogue([context])


def test_the_catalogue_keeps_what_was_released() -> None:
    assert schemas.broken_promises(CATALOGUE) == []


def test_a_release_is_kept_and_each_way_to_break_it_is_found(tmp_path: Path) -> None:
    first = catalogue_of(Enrolled)
    (released,) = schemas.release(first, tmp_path)
    (older,) = {entry.dataschema for entry in first.types()}
    later = catalogue_of(EnrolledLater, older=frozenset({older}))
    elsewhere = catalogue_of(EnrolledElsewhere, older=frozenset({older}))

    assert schemas.release(first, tmp_path) == []
    assert schemas.broken_promises(first, tmp_path) == []
    assert schemas.broken_promises(later, tmp_path) == []
    assert schemas.broken_promises(catalogue_of(EnrolledLater), tmp_path) == [
        f"salus.trials.enrolled.v1: {older} is missing in its older_dataschemas"
    ]
    assert schemas.broken_promises(elsewhere, tmp_path) == [
        "salus.trials.enrolled.v1: $.site: a field more that is required (breaks writers)"
    ]
    gone = "salus.trials.enrolled.v1: a released type is gone"
    assert schemas.broken_promises(Catalogue([]), tmp_path) == [gone]

    (tmp_path / released).rename(tmp_path / "other.json")
    (found,) = schemas.broken_promises(first, tmp_path)
    assert found == "other.json: the file is not the one that was released"
    (tmp_path / "other.json").unlink()
    assert "not released" in schemas.broken_promises(later, tmp_path)[0]


def test_a_second_release_adds_what_is_new_and_both_are_kept(tmp_path: Path) -> None:
    first = catalogue_of(Enrolled)
    (older,) = {entry.dataschema for entry in first.types()}
    second = catalogue_of(EnrolledLater, older=frozenset({older}))

    names = [*schemas.release(first, tmp_path), *schemas.release(second, tmp_path)]
    assert names == [
        f"salus.trials.enrolled.v1.{hashlib.sha256(entry.schema).hexdigest()[:16]}.json"
        for catalogue in (first, second)
        for entry in catalogue.types()
    ]
    assert schemas.broken_promises(second, tmp_path) == []
    assert json.loads((tmp_path / names[0]).read_bytes())["x-salus"]["type"] == "salus.trials.enrolled.v1"


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_what_a_reference_leads_to_is_compared_however_many_lead_to_it(steps: int) -> None:
    """A member turned a text into a number behind two of them (redA7, finding 5)."""

    def chained(end: dict[str, Any]) -> dict[str, Any]:
        defs: dict[str, Any] = {f"D{n}": {"$ref": f"#/$defs/D{n + 1}"} for n in range(1, steps)}
        return {
            "type": "object",
            "properties": {"a": {"$ref": "#/$defs/D1"}},
            "$defs": {**defs, f"D{steps}": end},
        }

    text, number = {"type": "string", "maxLength": 9}, {"type": "integer", "minimum": 0, "maximum": 9}
    assert breaks_between(chained(text), chained(text)) == []
    assert {each.field for each in breaks_between(chained(text), chained(number))} == {"$.a"}
    [shorter] = breaks_between(chained(text), chained({"type": "string", "maxLength": 3}))
    assert shorter.sides == ("writers",)


def test_a_reference_that_leads_nowhere_is_another_than_one_that_does() -> None:
    whole = {"$ref": "#/$defs/A", "$defs": {"A": {"type": "string"}}}
    assert breaks_between(whole, {"$ref": "#/$defs/A"}) != []
    circle = {"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/B"}, "B": {"$ref": "#/$defs/A"}}}
    assert breaks_between(circle, circle) == []
