"""A segment of a path names the DID that was written there, wherever it stands (case D3)."""

from __future__ import annotations

from typing import Annotated

import httpx
import pytest
from fastapi import FastAPI, Request

from salus.runtime import problems
from salus.runtime.path_dids import did_in_path, segment_of

app = FastAPI()
problems.install(app)


@app.get("/patients/{patient}/parties/{did}")
async def linked(patient: str, did: Annotated[str, did_in_path(4)]) -> list[str]:
    return [patient, did]


@app.get("/trail/{source}/{event:path}")
async def entry(request: Request, source: str, event: str) -> list[str]:
    return [source, segment_of(request, 2), event]


@pytest.mark.parametrize("written", ["did:web:h.example%3A8443", "did:web:h.example%253A8443"])
async def test_a_port_in_a_did_stays_a_port(written: str) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        did = await client.get(f"/patients/p/parties/{written}?x=1")
        row = await client.get(f"/trail/{written}/a/b")

    assert did.json() == ["p", "did:web:h.example%3A8443"]
    assert row.json()[1:] == ["did:web:h.example%3A8443", "a/b"]


@pytest.mark.parametrize(
    "path",
    [
        "/patients%2Fp/parties/did:web:a",
        "/patients%2Fp%2Fparties%2Fdid:web:a",
        "/trail%2Fdid:web:a%2Fx",
        "/trail%2Fx/did:web:a/y",
        "/trail/did:web:a%2Fx",
    ],
)
async def test_a_segment_is_where_the_framework_found_it(path: str) -> None:  # red team 3, 16: each was a 500
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        answer = await client.get(path)

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-request")


async def test_what_follows_a_segment_may_have_slashes_of_any_kind() -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        answer = await client.get("/trail/did:web:a/x%2Fy/z")

    assert answer.json() == ["did:web:a", "did:web:a", "x/y/z"]
