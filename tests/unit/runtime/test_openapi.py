"""Each service's OpenAPI document says all that its routes answer, once, and in what form."""

# case formats.md 10

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from importlib import import_module
from typing import Any
from unittest.mock import MagicMock

import pytest
from fastapi import FastAPI
from structlog.testing import capture_logs
from tests.unit.runtime.test_response_headers import client_of, filled
from tools.openapi_documents import FOLDER, apps

from salus.runtime.negotiation import media_type

APPS = apps()
SERVICES = sorted(APPS)
# What the runtime serves for every service.
EVERYWHERE = {"/healthz", "/readyz", "/metrics"}


def operations_of(service: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in APPS[service].openapi()["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


@pytest.mark.parametrize("service", SERVICES)
def test_the_document_in_the_docs_is_the_one_that_is_served(service: str) -> None:
    there = json.loads((FOLDER / f"{service}.json").read_text(encoding="utf-8"))

    assert there == json.loads(json.dumps(APPS[service].openapi())), "run `make generate`"


@pytest.mark.parametrize("service", ["consent", "identity", "storage"])
def test_what_is_served_is_what_the_document_describes(service: str) -> None:
    # Case "reviews and cases": they were added to what is served and not to what is described.
    app = FastAPI()
    settings = import_module(f"salus.{service}.settings").Settings.model_construct(kafka_bootstrap="")
    around = MagicMock(settings=settings)
    around.signer.sign.return_value = b""
    import_module(f"salus.{service}.composition").install(app, around, MagicMock())
    own = {(method, path) for method, path, _ in operations_of(service) if path not in EVERYWHERE}
    served = {(method, path) for path, methods in app.openapi()["paths"].items() for method in methods}

    assert served == own


@pytest.mark.parametrize("service", SERVICES)
def test_a_problem_is_described_once(service: str) -> None:
    document = APPS[service].openapi()

    assert [name for name in document["components"]["schemas"] if "Problem" in name] == ["Problem"]
    assert "ValidationError" not in json.dumps(document)
    for _, path, operation in operations_of(service):
        for status, answer in operation["responses"].items():
            forms = answer.get("content", {})
            if path.startswith("/fhir"):
                assert set(forms) <= {"application/fhir+json"}
            elif "application/problem+json" in forms:
                assert int(status) >= 400
                assert forms["application/problem+json"]["schema"] == {"$ref": "#/components/schemas/Problem"}


@pytest.mark.parametrize("service", SERVICES)
def test_every_operation_has_a_name_a_tag_a_sentence_and_its_failures(service: str) -> None:
    names = [operation["operationId"] for _, _, operation in operations_of(service)]

    assert len(set(names)) == len(names)
    for method, path, operation in operations_of(service):
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", operation["operationId"])
        assert operation["tags"]
        assert operation.get("summary") or operation.get("description")
        assert "500" in operation["responses"], (method, path)
        assert ("401" in operation["responses"]) == ("security" in operation), (method, path)
        if method in {"post", "put"} and "requestBody" in operation:
            assert "413" in operation["responses"], (method, path)


@pytest.mark.parametrize("service", SERVICES)
def test_how_to_authenticate_is_said_where_it_is_asked_for(service: str) -> None:
    document = APPS[service].openapi()
    schemes = document["components"].get("securitySchemes", {})

    asked = [operation["security"] for _, _, operation in operations_of(service) if "security" in operation]
    assert bool(asked) == bool(schemes)
    for security in asked:
        assert security == [{"bearer": []}]
    if schemes:
        assert (schemes["bearer"]["type"], schemes["bearer"]["scheme"]) == ("http", "bearer")
        assert "EdDSA" in schemes["bearer"]["description"]


@pytest.mark.parametrize("service", SERVICES)
async def test_what_a_route_answers_is_declared(service: str) -> None:
    with capture_logs():
        async with client_of(APPS[service]) as http:
            for method, path, operation in operations_of(service):
                answer = await http.request(method, filled(path))

                declared = operation["responses"].get(str(answer.status_code))
                assert declared is not None, (method, path, answer.status_code)
                if answer.status_code == 204:
                    assert "content" not in declared
                    continue
                forms = {media_type(form) for form in declared.get("content", {})}
                assert media_type(answer.headers["content-type"]) in forms, (method, path)


@pytest.mark.parametrize("service", SERVICES)
def test_no_answer_is_declared_without_its_form(service: str) -> None:
    for method, path, operation in operations_of(service):
        for status, answer in operation["responses"].items():
            schemas = [form.get("schema") for form in answer.get("content", {}).values()]
            empty = status in {"204", "304"} or (method, status) == ("head", "200")
            assert bool(schemas) != empty, (method, path, status)
            assert all(schemas), (method, path, status)
