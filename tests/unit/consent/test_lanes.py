"""A lane answers as its route: status, headers and body, whatever is sent and whatever becomes of it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from fastapi import FastAPI, Request
from tests.asking import UNASKED

from salus.access.state import Consent
from salus.client import ClientError
from salus.consent import api, handlers
from salus.consent.domain.consents import Grant
from salus.events.parties import Party
from salus.messaging import MessagingError, PermanentError
from salus.runtime.auth import Caller
from salus.runtime.bodies import PARSED_AT_ONCE_BYTES_MAX, json_of
from salus.runtime.database import DATABASE_AWAY, DatabaseAwayError
from salus.runtime.problems import ProblemError
from salus.runtime.refusal import Refusal
from salus.runtime.request_lanes import install_lanes
from salus.runtime.service import create_app
from salus.runtime.settings import ServiceSettings

SETTINGS = ServiceSettings(
    service_name="consent",
    kafka_bootstrap="127.0.0.1:1",
    network_file=Path("network.json"),
    signing_key_file=Path("key.pem"),
    http_port=0,
)
NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)
BODY = {
    "patient": "urn:uuid:6f1c3a52-7a0e-4d5f-9c2b-1f2e3d4c5b6a",
    "grantee": "did:web:h.example",
    "actions": ["read"],
    "purposes": ["TREAT"],
    "valid_until": "2026-12-29T12:00:00Z",
}
PARTY = Party("did:web:h.example", "member", frozenset(), None)


class Callers:
    """Knows everybody but those who say that they are nobody; remembers which paths asked."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []

    async def __call__(self, request: Request) -> Party:
        await self.command(request)
        return PARTY

    async def command(self, request: Request) -> Caller:
        self.asked.append(await request.body())
        if request.headers.get("authorization") == "nobody":
            raise ProblemError(401, "unauthenticated", "send a token")
        return Caller(PARTY, UNASKED)

    document = transfer = command

    def charge_parts(self, caller: Caller, *, number: int, size: int) -> None:
        pass


async def granted(command: Grant, *, at: datetime, **_: Any) -> Consent:
    consent = command.consent.partition(".")[0] + ".0"
    return Consent(consent, command.grantee, command.actions, command.purposes, at, command.valid_until or at)


@asynccontextmanager
async def served(*, with_lane: bool, callers: Callers) -> AsyncIterator[httpx.AsyncClient]:
    app: FastAPI = create_app(SETTINGS, title="test", checks={}, away=DATABASE_AWAY)
    shared = api.Api(world=cast("Any", World()), authenticate=callers, now=lambda: NOON)
    app.include_router(api.routes(shared))
    if with_lane:
        install_lanes(app, api.lanes(shared))
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        yield http


class World:
    """Is never looked into."""


def seen(answer: httpx.Response) -> tuple[Any, ...]:
    return answer.status_code, sorted(answer.headers.items()), answer.content


async def both(**request: Any) -> tuple[httpx.Response, list[bytes]]:
    """Send a request to an app with the lane and to one without; the answers are the same."""
    request = {
        "url": "/consents",
        "method": "POST",
        "headers": {"content-type": "application/json"},
    } | request
    answers, asked = [], []
    for with_lane in (True, False):
        callers = Callers()
        async with served(with_lane=with_lane, callers=callers) as http:
            answers.append(await http.request(**request))
        asked.append(callers.asked)

    assert seen(answers[0]) == seen(answers[1])
    assert asked[0] == asked[1]
    return answers[0], asked[0]


def encoded(**changes: Any) -> bytes:
    return json.dumps({name: value for name, value in {**BODY, **changes}.items() if value != ""}).encode()


@pytest.fixture(autouse=True)
def grants(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handlers, "grant", granted)


@pytest.mark.parametrize("changes", [{}, {"valid_from": "2026-11-29T13:00:00+01:00"}, {"valid_from": None}])
async def test_a_grant_is_answered_as_by_its_route(changes: dict[str, Any]) -> None:
    answer, asked = await both(content=encoded(**changes))

    assert answer.status_code == 201
    assert asked == [encoded(**changes)]


async def test_the_lane_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the tests here compare a route with itself."""
    callers, taken = Callers(), list[Any]()

    def read(request: Request) -> Any:
        taken.append(json_of(request))
        return taken[-1]

    monkeypatch.setattr(api, "json_of", read)
    async with served(with_lane=True, callers=callers) as http:
        await http.post("/consents", content=encoded(), headers={"content-type": "application/json"})

    assert taken == [json.loads(encoded())]


ERRORS: list[Callable[[], Exception]] = [
    lambda: Refusal("consent-exists", "there is one"),
    lambda: ProblemError(429, "too-many", "wait", headers={"Retry-After": "3"}, limit=3),
    lambda: MessagingError("away"),
    lambda: PermanentError("wrong"),
    lambda: ClientError("away"),
    lambda: DatabaseAwayError("away"),
    lambda: RuntimeError("the patient's name"),
    lambda: ValueError("the patient's name"),
]


@pytest.mark.parametrize("error", ERRORS)
async def test_an_error_is_answered_as_by_its_route(
    error: Callable[[], Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_: Any, **__: Any) -> Consent:
        raise error()

    monkeypatch.setattr(handlers, "grant", fails)
    answer, _ = await both(content=encoded())

    assert answer.status_code >= 400
    assert "name" not in answer.text


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{", b"[]", b"null", b"7", b"\xff", b'{"patient":1,"patient":2}', b"[" * 100),
        encoded(patient=""),
        encoded(patient="Jane Roe"),
        encoded(more=1),
        encoded(actions=[]),
        encoded(actions=["erase"]),
        encoded(actions="read"),
        encoded(purposes=[1]),
        encoded(valid_until="tomorrow"),
        encoded(valid_until=1_800_000_000),
        encoded(grantee=None),
        encoded(grantee="did:web:" + "h" * 20_000),
        encoded() + b" " * PARSED_AT_ONCE_BYTES_MAX,
        b" " * 2_000_000,
    ],
)
async def test_what_does_not_fit_is_refused_as_by_its_route(content: bytes) -> None:
    answer, _ = await both(content=content)

    assert answer.status_code >= 400 or len(content) > PARSED_AT_ONCE_BYTES_MAX
    assert "Jane" not in answer.text


@pytest.mark.parametrize(
    "request_",
    [
        {"headers": {}},
        {"headers": {"content-type": "text/plain"}},
        {"headers": {"content-type": "application/json; charset=utf-8"}},
        {"headers": {"content-type": "application/json", "authorization": "nobody"}},
        {"headers": {"content-type": "application/json", "idempotency-key": "twelve-chars"}},
        {"headers": {"content-type": "application/json", "idempotency-key": "x"}},
        {"headers": {"content-type": "application/json", "content-encoding": "gzip"}},
        {"headers": {"content-type": "application/json", "if-match": "x"}},
        {"url": "/consents?x=1"},
        {"url": "/consents/"},
        {"method": "PUT"},
        {"method": "GET"},
        {"method": "OPTIONS"},
    ],
)
async def test_what_is_not_exactly_the_request_is_the_route_s(request_: dict[str, Any]) -> None:
    await both(**{"content": encoded(), **request_})
