"""What a service reads before it knows who is calling is bounded."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from fastapi import Request
from pydantic import BaseModel

from salus.runtime.bodies import BODY_BYTES_MAX
from salus.runtime.service import create_app
from salus.runtime.settings import ServiceSettings

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


def app() -> httpx.AsyncClient:
    service = create_app(SETTINGS, title="test", checks={}, streams=("/objects",))

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
