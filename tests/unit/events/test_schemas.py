"""What is generated from the catalogue is up to date, and released schemas keep their promises."""

from __future__ import annotations

import copy
import gzip
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from jsonschema import Draft7Validator, Draft202012Validator
from tests.unit.events.samples import MEMBER, any_data, as_json, encoded

from salus.events import asyncapi, schemas
from salus.events.contexts import CATALOGUE
from salus.events.event_types import Context, EventData, Retention, type_of
from salus.events.fields import Sealed
from salus.events.signature import sign_values

ROOT = Path(__file__).parents[3]
ASYNCAPI_SCHEMA = ROOT / "tests/data/asyncapi/3.0.0-without-$id.json.gz"
HINT = "run `python -m salus.events.schemas --docs docs`"


def test_the_schema_files_are_those_of_the_catalogue() -> None:
    there = {path.name: path.read_bytes() for path in schemas.FOLDER.glob("*.json")}

    assert there == schemas.files(), HINT


def test_the_asyncapi_document_is_that_of_the_catalogue() -> None:
    assert (ROOT / "docs" / asyncapi.FILE_NAME).read_bytes() == asyncapi.document(), HINT


@pytest.mark.parametrize("entry", CATALOGUE.types(), ids=lambda entry: entry.name)
def test_a_schema_file_is_valid_and_named_by_its_digest(entry: Any) -> None:
    schema = json.loads(entry.schema)

    Draft202012Validator.check_schema(schema)
    assert entry.dataschema.endswith(hashlib.sha256(entry.schema).hexdigest())
    assert schema["x-salus"]["owner"] == entry.owner
    assert "description" not in entry.schema.decode()


def test_every_sealed_field_is_marked_and_no_other() -> None:
    for entry in CATALOGUE.types():
        properties = json.loads(entry.schema)["$defs"][entry.data.__name__]["properties"]
        marked = {name for name, field in properties.items() if field.get("x-salus-sealed")}
        kinds = {name for name, hint in entry.data.__annotations__.items() if "Sealed" in str(hint)}

        assert marked == kinds


def test_what_the_catalogue_says_of_itself() -> None:
    for entry in CATALOGUE.types():
        assert entry.summary.endswith(".")
        assert entry.topic.startswith("salus.")
    assert [topic.split(".")[1] for topic in CATALOGUE.input_topics()] == [
        "clinical",
        "consent",
        "identity",
        "lab",
        "network",
        "pharma",
        "storage",
    ]


@pytest.mark.parametrize("name", ["salus.lab.x", "lab.x.v1", "salus.lab.x.v0", "salus.clinical.x.v1"])
def test_a_name_of_another_form_or_that_is_taken_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not of the form"):
        Context("lab").event(name, owner="member", retention=Retention.RECORD)


class Nothing(EventData):
    """Nothing is true."""


def test_a_subject_field_that_is_not_there_is_refused() -> None:

    with pytest.raises(ValueError, match="no field"):
        Context("lab").event(
            "salus.lab.nothing.v1", owner="member", retention=Retention.RECORD, subject_field="patient"
        )(Nothing)
    with pytest.raises(LookupError):
        type_of(Nothing)


def released(of: str = "salus.clinical.document-registered.v1") -> dict[str, Any]:
    entry = next(entry for entry in CATALOGUE.types() if entry.name == of)
    found: dict[str, Any] = json.loads(entry.schema)
    return found


def _properties(schema: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = schema["$defs"]["DocumentRegistered"]["properties"]
    return found


ALLOWED: dict[str, Callable[[dict[str, Any]], object]] = {
    "nothing": lambda _: None,
    "an optional field": lambda s: _properties(s).update(
        ward={"anyOf": [{"type": "string"}, {"type": "null"}]}
    ),
    "an optional field of a new struct": lambda s: (
        _properties(s).update(ward={"$ref": "#/$defs/Ward"}),
        s["$defs"].update(Ward={"type": "object"}),
    ),
}
FORBIDDEN: dict[str, Callable[[dict[str, Any]], object]] = {
    "a required field": lambda s: (
        _properties(s).update(ward={"type": "string"}),
        s["$defs"]["DocumentRegistered"]["required"].append("ward"),
    ),
    "a field less": lambda s: _properties(s).pop("object"),
    "a field no longer required": lambda s: s["$defs"]["DocumentRegistered"]["required"].remove("object"),
    "a longer field": lambda s: _properties(s)["object"].update(maxLength=512),
    "another type": lambda s: _properties(s)["object"].update(type="integer"),
    "a bound more": lambda s: _properties(s)["patient"].update(minLength=3),
    "a bound less": lambda s: _properties(s)["object"].pop("maxLength"),
    "unknown fields": lambda s: s["$defs"]["DocumentRegistered"].update(additionalProperties=True),
    "another topic": lambda s: s["x-salus"].update(topic="salus.lab.events"),
    "another owner": lambda s: s["x-salus"].update(owner="consent"),
    "another class": lambda s: s.update({"$ref": "#/$defs/Other"}),
}


@pytest.mark.parametrize("change", ALLOWED)
def test_a_released_schema_may_gain(change: str) -> None:
    current = copy.deepcopy(released())
    ALLOWED[change](current)

    assert schemas.breaking_changes(released(), current) == []


@pytest.mark.parametrize("change", FORBIDDEN)
def test_a_released_schema_may_not_have(change: str) -> None:
    current = copy.deepcopy(released())
    FORBIDDEN[change](current)

    assert schemas.breaking_changes(released(), current) != []


def test_the_catalogue_keeps_what_was_released() -> None:
    assert schemas.broken_promises() == []


def test_a_release_is_kept_and_every_way_to_break_it_is_found(tmp_path: Path) -> None:
    names = schemas.release(tmp_path)
    assert len(names) == len(CATALOGUE.types())
    assert schemas.release(tmp_path) == []
    assert schemas.broken_promises(tmp_path) == []

    first = tmp_path / names[0]
    first.write_bytes(first.read_bytes().replace(b"256", b"257"))
    assert "not the one that was released" in schemas.broken_promises(tmp_path)[0]
    first.unlink()

    older = (tmp_path / names[1]).read_bytes().replace(b"256", b"128", 1)
    (tmp_path / names[1]).unlink()
    kind = json.loads(older)["x-salus"]["type"]
    (tmp_path / f"{kind}.{hashlib.sha256(older).hexdigest()[:16]}.json").write_bytes(older)
    broken = "\n".join(schemas.broken_promises(tmp_path))
    assert "changed" in broken
    assert "older_dataschemas" in broken

    gone = older.replace(kind.encode(), b"salus.clinical.gone.v1")
    (tmp_path / f"salus.clinical.gone.v1.{hashlib.sha256(gone).hexdigest()[:16]}.json").write_bytes(gone)
    assert "salus.clinical.gone.v1: a released type is gone" in schemas.broken_promises(tmp_path)


def test_writing_removes_the_file_of_a_type_that_is_gone(tmp_path: Path) -> None:
    (tmp_path / "salus.clinical.gone.v1.json").write_text("{}")
    schemas.write(tmp_path)

    assert {path.name for path in tmp_path.iterdir()} == set(schemas.files())


@pytest.fixture(scope="module")
def document() -> Any:
    return json.loads(asyncapi.document())


def test_the_document_is_valid_by_asyncapis_own_schema(document: Any) -> None:
    schema = json.loads(gzip.decompress(ASYNCAPI_SCHEMA.read_bytes()))

    Draft7Validator(schema).validate(document)
    broken = document | {"channels": {"x": {"address": 1}}}
    assert not Draft7Validator(schema).is_valid(broken)


def test_every_reference_of_the_document_leads_somewhere(document: Any) -> None:
    def references(part: Any) -> list[str]:
        if isinstance(part, dict):
            here = [part["$ref"]] if isinstance(part.get("$ref"), str) else []
            return here + [ref for value in part.values() for ref in references(value)]
        return [ref for value in part for ref in references(value)] if isinstance(part, list) else []

    found = references(document)
    assert len(found) > 3 * len(CATALOGUE.types())
    for reference in found:
        target = document
        for name in reference.removeprefix("#/").split("/"):
            target = target[name]


@given(any_data())
def test_every_event_is_as_the_document_says(data: Any) -> None:
    document = json.loads(asyncapi.document())
    value = encoded(data)
    message = {
        **document["components"]["messages"][type_of(data).name]["payload"],
        "components": document["components"],
    }
    headers = {
        "salus-signature": sign_values([value, value], MEMBER)[1].decode(),
        "content-type": "application/cloudevents+json",
    }

    Draft7Validator(message).validate(as_json(value))
    Draft7Validator(document["components"]["schemas"]["Headers"]).validate(headers)


# case formats.md 10
def test_every_schema_that_becomes_a_class_has_a_name(document: Any) -> None:
    def anonymous(part: Any, at: str) -> list[str]:
        if isinstance(part, list):
            return [each for index, value in enumerate(part) for each in anonymous(value, f"{at}/{index}")]
        if not isinstance(part, dict):
            return []
        here = [at] if part.keys() & {"enum", "anyOf", "oneOf", "allOf", "properties", "default"} else []
        return here + [each for name, value in part.items() for each in anonymous(value, f"{at}/{name}")]

    schemas = document["components"]["schemas"]
    assert len(schemas) > 2 * len(CATALOGUE.types())
    for name, schema in schemas.items():
        assert schema["title"] == name
        assert name.isalnum()
        inner = schema.get("properties", {})
        assert [at for field, value in inner.items() for at in anonymous(value, f"{name}.{field}")] == []
    for message in document["components"]["messages"].values():
        assert message["payload"].keys() == message["headers"].keys() == {"$ref"}


def test_sealed_is_what_it_is_called(document: Any) -> None:
    assert document["components"]["schemas"][Sealed.__name__]["x-salus-sealed"] is True
