"""What is generated from the catalogue is up to date, and released schemas keep their promises."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator, Draft202012Validator
from tests.own_types import SEALED, schema_of
from tests.unit.events.samples import MEMBER, as_json, encoded, for_each_type

from salus.events import asyncapi, schemas
from salus.events.context import Context
from salus.events.contexts import CATALOGUE
from salus.events.event_types import EXTENSIBLE, EventData, Retention, schema_file, type_of
from salus.events.fields import Sealed
from salus.events.signature import sign_values
from salus.events.type_definition import definition

ROOT = Path(__file__).parents[3]
ASYNCAPI_SCHEMA = ROOT / "tests/data/asyncapi/3.0.0-without-$id.json.gz"
HINT = "run `python -m salus.events.schemas --docs docs`"


def test_the_schema_files_are_those_of_the_catalogue() -> None:
    there = {path.name: path.read_bytes() for path in schemas.FOLDER.glob("*.json")}

    assert there == schemas.files(CATALOGUE), HINT


def test_the_asyncapi_document_is_that_of_the_catalogue() -> None:
    assert (ROOT / "docs" / asyncapi.FILE_NAME).read_bytes() == asyncapi.document(CATALOGUE), HINT


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


def test_writing_removes_the_file_of_a_type_that_is_gone(tmp_path: Path) -> None:
    (tmp_path / "salus.clinical.gone.v1.json").write_text("{}")
    schemas.write(CATALOGUE, tmp_path)

    assert {path.name for path in tmp_path.iterdir()} == set(schemas.files(CATALOGUE))


OWN = schema_of(
    fields={
        "content": SEALED,
        "class": {"enum": ["a", "b"]},
        "note": {"anyOf": [{"type": "string", "maxLength": 9}, {"type": "null"}]},
        "parts": {
            "type": "array",
            "maxItems": 2,
            "items": {
                "type": "object",
                "additionalProperties": False,
                "properties": {"class": {"enum": ["c"]}},
            },
        },
    }
)


@pytest.fixture(params=["of the release", "with a type of a member's"])
def document(request: pytest.FixtureRequest) -> Any:
    own = [definition(schema_file(OWN))] if "member" in request.param else []
    return json.loads(asyncapi.document(CATALOGUE.with_types(own)))


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


@for_each_type()
def test_every_event_is_as_the_document_says(data: Any) -> None:
    document = json.loads(asyncapi.document(CATALOGUE))
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


def test_programs_take_a_list_that_may_grow_for_text_and_a_members_list_as_it_says() -> None:
    content = {
        "kind": {"enum": ["a", "b"]},
        "cause": {"enum": ["c", "d"], EXTENSIBLE: True},
        "only": {"const": "e"},
        "content": SEALED,
    }
    own = definition(schema_file(schema_of(fields=content)))
    found = json.loads(asyncapi.document(CATALOGUE.with_types([own])))["components"]["schemas"]
    fields = found[own.data.__name__]["properties"]

    for kind in (found["AccessDecided"]["properties"]["purpose"], fields["cause"]):
        assert (kind["type"], kind["maxLength"]) == ("string", 256)
    assert "TREAT" in found["AccessDecided"]["properties"]["purpose"]["x-extensible-enum"]
    assert fields["cause"]["x-extensible-enum"] == ["c", "d"]
    assert fields["only"] == {"type": "string", "const": "e"}
    assert found[fields["kind"]["$ref"].rpartition("/")[2]]["enum"] == ["a", "b"]


def test_sealed_is_what_it_is_called(document: Any) -> None:
    assert document["components"]["schemas"][Sealed.__name__]["x-salus-sealed"] is True
