"""Medium: an API takes no text that the event it makes would refuse (control characters in a name: 500)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, TypeAdapter, ValidationError
from tools.openapi_documents import apps

from salus.events import fields
from salus.events.schemas.subset import FIELD_NAME
from salus.identity.api import RegisterBody
from salus.runtime.fields import PLAIN, pattern_of

Schema = dict[str, Any]
APPS = apps()
# What takes them goes by the text's own grammar, in code, and none of it goes anywhere.
READ_BY_GRAMMAR = {
    "get /log/tile/{path} path",
    "get /log/tile/{path} accept-encoding",
    # As the DID that a resolver looks for there.
    "get /{path}/did.json path",
    # Cedar's: policies have lines.
    "post /policies.files[].text",
}
CONTROLS = [chr(code) for code in (*range(0x20), *range(0x7F, 0xA0))]


def texts_in(
    schema: dict[str, Any], known: dict[str, Any], path: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every text that a schema takes, and where."""
    if "$ref" in schema:
        schema = known[schema["$ref"].rpartition("/")[2]]
    for one in schema.get("anyOf", ()):
        yield from texts_in(one, known, path)
    if schema.get("type") == "string":
        yield path, schema
    yield from texts_in(schema["items"], known, f"{path}[]") if "items" in schema else ()
    for name, one in schema.get("properties", {}).items():
        yield from texts_in(one, known, f"{path}.{name}")
    if isinstance(schema.get("additionalProperties"), dict):
        yield f"{path}{{}}", schema.get("propertyNames", {})
        yield from texts_in(schema["additionalProperties"], known, f"{path}{{}}")


def inputs_of(app: FastAPI) -> Iterator[tuple[str, Schema]]:
    document = app.openapi()
    known = document.get("components", {}).get("schemas", {})
    for route, methods in document["paths"].items():
        for method, operation in methods.items():
            for one in operation.get("parameters", ()):
                yield from texts_in(one["schema"], known, f"{method} {route} {one['name']}")
            body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            yield from texts_in(body.get("schema", {}), known, f"{method} {route}")


@pytest.mark.parametrize("name", APPS)
def test_no_service_takes_a_control_character_anywhere(name: str) -> None:
    loose = [
        path
        for path, schema in inputs_of(APPS[name])
        if path not in READ_BY_GRAMMAR
        and not {"enum", "const", "format"} & schema.keys()
        and any(re.search(schema.get("pattern", ""), f"a{char}b") for char in CONTROLS)
    ]

    assert loose == []


@pytest.mark.parametrize("char", ["\0", "\n", "\x1b", "\x7f", "\x85"])
def test_a_control_character_in_a_party_s_name_is_refused_before_anything_is_done(char: str) -> None:
    body = {
        "did": "did:web:h.example",
        "kind": "member",
        "keys": [{"id": "did:web:h.example#1", "multibase": "z6Mk", "valid_from": "2026-01-01T00:00:00Z"}],
    }
    assert RegisterBody.model_validate(body | {"name": "Jürgen's 山田"})

    with pytest.raises(ValidationError, match="name"):
        RegisterBody.model_validate(body | {"name": f"Riverside{char}Clinic"})
    with pytest.raises(ValidationError, match="name"):
        RegisterBody.model_validate(body | {"name": f"Riverside{char}"})


KINDS = [fields.Text, fields.Did, fields.KeyId, fields.Pseudonym, fields.Multibase, fields.Sha256]


@pytest.mark.parametrize("kind", KINDS)
@given(text=st.text(max_size=20) | st.sampled_from(["did:web:a", "did:web:a#b", "did:web:a\n", "zz"]))
def test_the_api_takes_no_text_that_the_event_refuses(kind: Any, text: str) -> None:
    by_event = re.fullmatch(pattern_of(kind), text) is not None

    assert _takes(TypeAdapter(Annotated[str, Field(pattern=pattern_of(kind))]), text) is by_event


def test_plain_is_the_catalogue_s_pattern() -> None:
    assert pattern_of(fields.Detail) == PLAIN


def _takes(adapter: TypeAdapter[str], text: str) -> bool:
    try:
        adapter.validate_python(text)
    except ValidationError:
        return False
    return True


def test_whatever_a_field_may_be_called_can_be_asked_for() -> None:
    """A member's field with a digit was sealed and could be opened by nobody (redA7, finding 4)."""
    opening = apps()["storage"].openapi()["paths"]["/sealed/open"]["post"]
    [field] = [each for each in opening["parameters"] if each["name"] == "field"]
    assert field["schema"]["pattern"] == f"^{FIELD_NAME}$"
