"""Every answer of every service has the headers that keep it from being stored, framed and guessed at."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from structlog.testing import capture_logs
from tools.openapi_documents import apps

from salus.runtime.response_headers import DEFAULTS, complete

EXPECTED = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}
SERVICES = sorted(apps())


def client_of(app: FastAPI) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://test")


def operations_of(app: FastAPI) -> list[tuple[str, str]]:
    return [(method, path) for path, methods in app.openapi()["paths"].items() for method in methods]


def filled(path: str) -> str:
    """Return a path with a pseudonym in each of its places."""
    return re.sub(r"\{[^}]+\}", "urn:uuid:6f1c3a52-7a0e-4d5f-9c2b-1f2e3d4c5b6a", path)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    # Nothing is behind the routes, and showing each failure takes seconds.
    with capture_logs():
        yield


@pytest.mark.parametrize("service", SERVICES)
async def test_no_answer_is_kept_framed_or_guessed_at(service: str) -> None:
    app = apps()[service]
    seen = set()
    async with client_of(app) as http:
        for method, path in [*operations_of(app), ("get", "/nowhere"), ("patch", "/healthz")]:
            answer = await http.request(method, filled(path))
            seen.add(answer.status_code)

            assert {name: answer.headers.get(name) for name in EXPECTED} == EXPECTED, (method, path)
    # Those of the framework, of routes, and of what failed unexpectedly.
    assert {200, 404, 405} <= seen


async def test_a_failure_nobody_foresaw_is_not_kept_either() -> None:
    # Case security.md, low: answers lacked `no-store`.
    app = apps()["identity"]
    async with client_of(app) as http:
        answer = await http.get("/parties")

    assert answer.status_code == 500
    assert answer.headers["cache-control"] == "no-store"


# case X3
@pytest.mark.parametrize("service", SERVICES)
async def test_a_slash_too_many_leads_nowhere(service: str) -> None:
    app = apps()[service]
    async with client_of(app) as http:
        for method, path in operations_of(app):
            answer = await http.request(method, filled(path) + "/", headers={"Host": "identity.example"})

            assert not answer.is_redirect, (method, path)
            assert "location" not in answer.headers


def test_a_route_may_say_otherwise() -> None:
    own: list[tuple[bytes, bytes]] = [(b"Cache-Control", b"public, max-age=31536000, immutable")]

    completed = complete(own)

    assert completed[0] == own[0]
    assert [name for name, _ in completed].count(b"cache-control") == 0
    assert len(completed) == len(DEFAULTS)


def test_no_service_builds_an_absolute_url_from_a_request() -> None:
    root = Path(__file__).parents[3]
    sources = [*root.glob("services/*/src/**/*.py"), *root.glob("libs/runtime/src/**/*.py")]
    built = re.compile(r"request\.(url|base_url)\b|url_for\(|url_path_for\(")

    assert sources
    assert [str(path) for path in sources if built.search(path.read_text())] == []
