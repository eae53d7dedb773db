"""What a service reads before it knows who is calling is bounded."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from fastapi import Request
from pydantic import BaseModel
from tests.unit.runtime.test_response_headers import filled
from tools.openapi_documents import apps

from salus.messaging.errors import BrokerAwayError
from salus.runtime.bodies import BODY_BYTES_MAX, Admission, Admit
from salus.runtime.problems import ProblemError
from salus.runtime.service import create_app
from salus.runtime.settings import ServiceSettings
from salus.storage.transfers import OBJECTS_PATH

SETTINGS = ServiceSettings(
    service_name="runtime",
    kafka_bootstrap="127.0.0.1:1",
    network_file=Path("network.json"),
    signing_key_file=Path("key.pem"),
    http_port=0,
)
PIECE = b" " * 65536


class Person(BaseModel):
    age: int


def app(admit: Admit | None = None) -> httpx.AsyncClient:
    service = create_app(SETTINGS, title="test", checks={}, streams=("/objects",), admit=admit)

    @service.post("/people")
    async def people(person: Person) -> int:
        return person.age

    @service.put("/objects/x")
    async def objects(request: Request) -> int:
        return sum([len(piece) async for piece in request.stream()])

    return httpx.AsyncClient(transport=httpx.ASGITransport(app=service), base_url="http://test")


async def pieces(count: int, sent: list[int], *, end: bytes = b"") -> AsyncIterator[bytes]:
    for _ in range(count):
        sent.append(len(PIECE))
        yield PIECE
    yield end


@pytest.mark.parametrize("content_type", ["application/json", "text/plain"])
async def test_a_body_of_no_declared_size_is_read_up_to_the_limit(content_type: str) -> None:
    sent: list[int] = []
    async with app() as http:
        answer = await http.post("/people", content=pieces(100, sent), headers={"Content-Type": content_type})

    assert (answer.status_code, answer.json()["code"]) == (413, "too-large")
    assert answer.headers["content-type"] == "application/problem+json"
    assert sum(sent) <= BODY_BYTES_MAX + 2 * len(PIECE)


async def test_a_body_of_exactly_the_limit_is_taken() -> None:
    body = b'{"age":1}'.rjust(BODY_BYTES_MAX)
    headers = {"Content-Type": "application/json"}
    async with app() as http:
        taken = await http.post("/people", content=body, headers=headers)
        refused = await http.post("/people", content=b" " + body, headers=headers)

    assert (taken.status_code, taken.json()) == (200, 1)
    assert (refused.status_code, refused.json()["code"]) == (413, "too-large")


async def test_streams_have_limits_of_their_own() -> None:
    async with app() as http:
        answer = await http.put("/objects/x", content=pieces(32, []))

    assert answer.json() == 32 * len(PIECE)


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (b'{"age":1,"age":2}', "body.age"),
        (b'{"age":1,"\\u0061ge":2}', "body.age"),
        (b'{"age":NaN}', "body"),
        (b'{"age":-Infinity}', "body"),
        (b'\xef\xbb\xbf{"age":1}', "body"),
        ('{"age":1}'.encode("utf-16"), "body"),
        ('{"age":1}'.encode("utf-32"), "body"),
        (b'{"age":1,"name":"\\ud800"}', "body.name"),
        (b'{"age":1,"at":[{"x":1e999}]}', "body.at[0].x"),
        (b'{"age":9007199254740992}', "body.age"),
        (b"[" * 65 + b"]" * 65, "body"),
        (b'{"age":1', "body"),
    ],
)
@pytest.mark.parametrize(
    "content_type", ["application/json", "Application/JSON", "application/merge-patch+json"]
)
async def test_a_body_is_json_that_is_read_in_one_way_only(  # cases F1, formats 1 and 6
    body: bytes, place: str, content_type: str
) -> None:
    async with app() as http:
        answer = await http.post("/people", content=body, headers={"Content-Type": content_type})

    assert (answer.status_code, answer.json()["code"]) == (422, "malformed-json")
    assert [error["at"] for error in answer.json()["errors"]] == [place]


async def test_a_body_in_pieces_is_looked_at_as_a_whole() -> None:
    async def halves(second: bytes) -> AsyncIterator[bytes]:
        yield b'{"age":1,'
        yield second

    headers = {"Content-Type": "application/json"}
    async with app() as http:
        taken = await http.post("/people", content=halves(b'"name":2}'), headers=headers)
        refused = await http.post("/people", content=halves(b'"age":2}'), headers=headers)

    assert (taken.status_code, taken.json()) == (200, 1)
    assert (refused.status_code, refused.json()["code"]) == (422, "malformed-json")


def refusing(error: Exception, asked: list[int]) -> Admit:
    async def refuse() -> None:
        raise error

    @asynccontextmanager
    async def admit(_: Request, size: int) -> AsyncIterator[Admission]:
        asked.append(size)
        await refuse()
        yield Admission()

    return admit


@pytest.mark.parametrize("content_type", ["application/json", "text/plain"])
async def test_nothing_is_read_of_a_body_of_nobody_known(content_type: str) -> None:  # red team 3, 1
    sent: list[int] = []
    stranger = ProblemError(401, "unauthenticated", "who?")
    async with app(refusing(stranger, [])) as http:
        refused = await http.post("/people", content=pieces(8, sent), headers={"Content-Type": content_type})
        alive = await http.get("/healthz", headers={"Content-Type": content_type})

    assert (refused.status_code, refused.json()["code"]) == (401, "unauthenticated")
    assert refused.headers["www-authenticate"] == "Bearer"
    assert alive.status_code == 200
    assert sent == []


async def test_nothing_is_read_while_nobody_can_tell_whose_it_is() -> None:  # fifth attack, 4
    sent: list[int] = []
    async with app(refusing(BrokerAwayError("away"), [])) as http:
        refused = await http.post("/people", content=pieces(8, sent))

    assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
    assert sent == []


@pytest.mark.parametrize(
    ("headers", "size"),
    [
        ({"content-length": "5"}, 5),
        ({"content-length": "0" * 20 + "5"}, 5),
        ({"content-length": "9" * 5000}, BODY_BYTES_MAX),
        ({"content-length": "x"}, BODY_BYTES_MAX),
        ({"content-length": "0", "transfer-encoding": "chunked"}, BODY_BYTES_MAX),
    ],
)
async def test_a_body_counts_as_large_as_it_may_become(headers: dict[str, str], size: int) -> None:
    asked: list[int] = []
    async with app(refusing(ProblemError(503, "busy", "no room"), asked)) as http:
        refused = await http.post("/people", content=b"{}", headers=headers)

    assert (refused.status_code, asked) == (503, [size])


# red team 5, A2
@pytest.mark.parametrize("service", sorted(apps()))
async def test_no_route_of_a_service_parses_a_body_of_any_number_of_values(service: str) -> None:
    routes = apps()[service]
    client = httpx.AsyncClient(transport=httpx.ASGITransport(routes), base_url="http://test")
    # It is no JSON: whoever parsed it would say so.
    body = b"[" + b"," * (BODY_BYTES_MAX - 1)
    for path, methods in routes.openapi()["paths"].items():
        for method, operation in methods.items():
            kinds = operation.get("requestBody", {}).get("content", {})
            if path.startswith(OBJECTS_PATH):
                assert not any("json" in kind for kind in kinds)
            elif any("json" in kind for kind in kinds):
                headers = {"Content-Type": "application/json"}
                answer = await client.request(method, filled(path), content=body, headers=headers)

                # Some ask who calls before they take a byte.
                assert answer.status_code == 401 or "body: it has at most 512 values" in answer.text, path
