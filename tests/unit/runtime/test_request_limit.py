"""Requests that make events or have bodies are counted for their sender, done or refused (red team 4)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import Depends, FastAPI
from pydantic import BaseModel
from tests.asking import NETWORK
from tests.unit.runtime.test_signed_requests import CALLER, SECOND, SIGN, Ring, bearer, code

from salus.client.auth import RequestSigner
from salus.runtime import problems
from salus.runtime.auth import Authenticator, Caller
from salus.runtime.bodies import guard_bodies
from salus.runtime.limits import Rate, RequestRates

MANY = Rate(burst=10**9, per_minute=1)
JSON = {"Content-Type": "application/json"}


class Note(BaseModel):
    text: str = ""


@asynccontextmanager
async def client_of(
    *, number: Rate = MANY, size: Rate = MANY, service: str = "test"
) -> AsyncIterator[httpx.AsyncClient]:
    ring: Any = Ring()
    rates = RequestRates(number=number, size=size)
    app, authenticate = FastAPI(), Authenticator(ring, service=service, requests=rates)
    commander, sender = Depends(authenticate.command), Depends(authenticate.transfer)
    problems.install(app)
    guard_bodies(app, streams=("/objects",), admit=authenticate.admit)

    @app.post("/parties")
    @app.post("/consents")
    async def command(note: Note, caller: Caller = commander) -> str:
        return f"{note.text} {caller.request.by}"

    @app.post("/consents/c/revoke")
    async def without_body(caller: Caller = commander) -> str:
        return caller.request.by

    @app.put("/objects/o")
    async def store(caller: Caller = sender) -> str:
        return caller.request.by

    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


async def test_what_an_account_sends_is_counted_whatever_becomes_of_it() -> None:
    # 2000 allowed decisions in 29 s went onto the ledger; refused ones were counted nowhere.
    async with client_of(number=Rate(burst=5, per_minute=1)) as client:
        done = await client.post("/consents", json={}, auth=SIGN)
        unfit = await client.post("/consents", json={"text": 1}, auth=SIGN)
        malformed = await client.post("/consents", content=b"{", headers=JSON, auth=SIGN)
        without_body = await client.post("/consents/c/revoke", auth=SIGN)
        transfer = await client.put("/objects/o", content=b"x", auth=SIGN)
        answers = [
            await client.post("/consents", json={}, auth=SIGN),
            await client.post("/consents", content=b"{", headers=JSON, auth=SIGN),
            await client.post("/consents/c/revoke", auth=SIGN),
            await client.put("/objects/o", content=b"x", auth=SIGN),
        ]
        of_another = await client.post(
            "/consents", json={}, auth=RequestSigner(SECOND, "test", network=NETWORK)
        )

    assert [one.status_code for one in (done, unfit, malformed, without_body, transfer)] == [
        200,
        422,
        422,
        200,
        200,
    ]
    assert [code(answer) for answer in answers] == [(429, "too-many-requests")] * 4
    assert {answer.headers["Retry-After"] for answer in answers} == {"60"}
    assert of_another.status_code == 200


async def test_bytes_are_counted_before_they_are_parsed() -> None:
    # 78 MB in 19 s went onto the ledger in bodies.
    large = json.dumps({"text": "x" * 3000}).encode()
    async with client_of(size=Rate(burst=10_000, per_minute=1000)) as client:
        answers = [await client.post("/consents", content=large, headers=JSON, auth=SIGN) for _ in range(5)]
        malformed = await client.post("/consents", content=b"{" * 4000, headers=JSON, auth=SIGN)

    assert [answer.status_code for answer in answers] == [200, 200, 429, 429, 429]
    assert "bytes of requests by this account" in answers[-1].json()["detail"]
    assert code(malformed) == (429, "too-many-requests")


@pytest.mark.parametrize(
    ("path", "body"), [("/consents", b"{}"), ("/consents", b'{"text":"b"}'), ("/consents/c/revoke", b"")]
)
async def test_nobody_spends_what_another_may_by_his_tokens(path: str, body: bytes) -> None:
    # Tokens of commands stand in events, where all can read them while they are valid.
    async with client_of(number=Rate(burst=2, per_minute=1)) as client:
        read = {**bearer("POST", "/consents", b"{}"), **JSON}
        other = [await client.post("/consents", content=b"[]", headers=read) for _ in range(3)]
        first = await client.post("/consents", content=b"{}", headers=read)
        again = [await client.post(path, content=body, headers=read) for _ in range(5)]
        own = await client.post("/consents", json={}, auth=SIGN)

    assert (first.status_code, own.status_code) == (200, 200)
    assert {answer.status_code for answer in (*other, *again)} == {401}
    assert CALLER.did in own.text


async def test_a_body_of_many_values_is_not_read() -> None:
    # 23,000 members that are unknown took 0.18 s: each is an error.
    sign = RequestSigner(CALLER, "identity", network=NETWORK)
    async with client_of(service="identity") as client:
        answer = await client.post("/parties", json={f"x{number}": 1 for number in range(600)}, auth=sign)

    assert code(answer) == (422, "invalid-request")
    assert answer.json()["detail"] == "body: it has at most 512 values"
