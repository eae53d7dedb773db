"""The shape of the consent API: what its OpenAPI promises, and what it refuses before asking anybody."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
from fastapi import FastAPI
from tests.asking import FixedCallers
from tests.unit.consent.test_fhir_api import marks

from salus.consent import api, decision_api, fhir_api
from salus.consent.adapters.freshness import Freshness
from salus.consent.fhir_creation import FhirApi
from salus.consent.routes import install_routes
from salus.events.parties import Party
from salus.runtime import problems

PATIENT = "urn:uuid:6f1c3a52-7a0e-4d5f-9c2b-1f2e3d4c5b6a"
QUESTION = {"action": "read", "object": "o", "patient": PATIENT, "purpose": "TREAT"}


def somebody(_: object) -> Party:
    return Party(did="did:web:h.example", kind="member", roles=frozenset(), member=None)


@pytest.fixture
def app() -> FastAPI:
    # The world is never reached: what is tested here is refused, or described, before.
    world = cast("Any", SimpleNamespace(freshness=Freshness(age_s_max=60, clock=time.monotonic)))
    shared = api.Api(world=world, authenticate=FixedCallers(somebody), now=lambda: datetime.now(UTC))
    deciding = decision_api.DecisionApi(shared, questions_max=20)
    app = FastAPI()
    problems.install(app)
    install_routes(app, deciding, FhirApi(shared, marks()), public_url="https://consent.example")
    return app


async def post(app: FastAPI, path: str, body: Any) -> httpx.Response:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://consent") as client:
        return (
            await client.post(path, content=body, headers={"Content-Type": "application/json"})
            if isinstance(body, bytes)
            else await client.post(path, json=body)
        )


def test_every_route_is_described_and_says_which_problems_it_answers(app: FastAPI) -> None:
    operations = [
        (path, method, operation)
        for path, methods in app.openapi()["paths"].items()
        for method, operation in methods.items()
    ]

    assert len(operations) == 36
    for path, method, operation in operations:
        assert operation["description"], path
        if path in {"/fhir/metadata", "/.well-known/authzen-configuration"}:
            continue
        assert {"401", "503"} <= set(operation["responses"]), (path, method)
        content = operation["responses"]["401"]["content"]
        if path.startswith("/fhir"):
            assert list(content) == ["application/fhir+json"]
            continue
        if path.startswith("/access/"):
            assert content == {"application/json": {"schema": {"type": "string"}}}
            continue
        problem = content["application/problem+json"]
        assert problem["schema"] == {"$ref": "#/components/schemas/Problem"}


@pytest.mark.parametrize(
    "change",
    [
        {"action": "erase"},
        {"purpose": "CURIOSITY"},
        {"patient": "Jane Roe"},
        {"patient": PATIENT.upper()},
        {"object": ""},
        {"service": "Jane Roe"},
        {"service": "salus:storage"},
        {"object": "o" * 129},
        {"object": "Jane Roe"},
        {"object": "o\x00"},
        {"object": "../o"},
        {"break_glass": {"reason": "other", "statement": {"suite": "", "key": "k", "ciphertext": "AAAA"}}},
        {
            "break_glass": {
                "reason": "other",
                "statement": {"suite": "s", "key": "\x07", "ciphertext": "AAAA"},
            }
        },
        {"extra": 1},
        {"break_glass": {}},
        {"break_glass": {"reason": "curious"}},
        {"break_glass": {"reason": "other", "statement": "she has a broken leg"}},
    ],
)
async def test_a_question_that_does_not_fit_is_refused_without_repeating_it(
    app: FastAPI, change: dict[str, Any]
) -> None:
    response = await post(app, "/decisions", {**QUESTION, **change})

    assert response.status_code == 422
    assert response.json()["code"] == "invalid-request"
    assert "Jane" not in response.text
    assert "leg" not in response.text


async def test_a_consent_of_an_impossible_id_is_not_found(app: FastAPI) -> None:
    response = await post(app, "/consents/nonsense/revoke", None)

    assert (response.status_code, response.json()["code"]) == (404, "unknown-id")


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b"\xff\xfe", b"[" * 100_000, b"[]", b'"Consent"', b"null"),
        b'{"resourceType":"Consent","\\ud800":1}',
    ],
)
async def test_what_is_no_resource_gets_an_operation_outcome(app: FastAPI, body: bytes) -> None:
    response = await post(app, "/fhir/Consent", body)

    assert response.status_code == 422
    assert response.headers["content-type"] == "application/fhir+json"
    assert response.json()["resourceType"] == "OperationOutcome"


async def test_a_resource_that_is_too_large_is_not_read_to_its_end(app: FastAPI) -> None:
    response = await post(app, "/fhir/Consent", b" " * (fhir_api.RESOURCE_BYTES_MAX + 1))

    assert (response.status_code, response.json()["issue"][0]["code"]) == (413, "too-long")
