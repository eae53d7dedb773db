"""The shape of the identity API: what its OpenAPI promises, and what it refuses before asking anybody."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from tests.asking import FixedCallers

from salus.events.parties import Party
from salus.identity.api import routes
from salus.runtime import problems

DID = "did:web:h.example"
KEY = {"id": f"{DID}#1", "multibase": "z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp"}
BODY: dict[str, Any] = {"did": DID, "kind": "member", "keys": [{**KEY, "valid_from": "2026-01-01T00:00:00Z"}]}


def somebody(_: object) -> Party:
    return Party(did=DID, kind="member", roles=frozenset(), member=None)


@pytest.fixture
def app() -> FastAPI:
    # The world is never reached: what is tested here is refused, or described, before.
    app = FastAPI()
    problems.install(app)
    router = routes(world=None, authenticate=FixedCallers(somebody), now=lambda: datetime.now(UTC))  # type: ignore[arg-type]  # as above
    app.include_router(router)
    return app


def test_every_route_is_described_and_every_write_says_which_problems_it_answers(app: FastAPI) -> None:
    operations = [
        (method, operation)
        for methods in app.openapi()["paths"].values()
        for method, operation in methods.items()
    ]

    assert len(operations) == 10
    for method, operation in operations:
        assert operation["description"]
        expected = {"503"} if method == "get" else {"401", "403", "404", "409", "422", "503"}
        assert expected <= set(operation["responses"])


@pytest.mark.parametrize(
    "change",
    [
        {"did": "Jane Roe"},
        {"did": "did:web:" + "a" * 300},
        {"kind": "robot"},
        {"keys": []},
        {"keys": [BODY["keys"][0]] * 17},
        {"keys": [KEY]},
        {"keys": [{**KEY, "valid_from": "2026-01-01T00:00:00"}]},
        {"keys": [{**BODY["keys"][0], "multibase": "z0OIl"}]},
        {"keys": [{**BODY["keys"][0], "private": "x"}]},
        {"roles": ["Jane Roe"]},
        {"member": "somebody"},
        {"name": ""},
        # Case security.md, low: a name with control characters was a 500.
        {"name": "Jane\x07"},
        {"name": "Jane\x00"},
        {"extra": 1},
    ],
)
async def test_a_registration_that_does_not_fit_is_refused_without_repeating_it(
    app: FastAPI, change: dict[str, Any]
) -> None:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://identity") as client:
        response = await client.post("/parties", json={**BODY, **change})

    assert response.status_code == 422
    assert response.json()["code"] == "invalid-request"
    assert "Jane" not in response.text
