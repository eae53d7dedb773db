"""A segment of a path names the DID that was written there, wherever it stands (case D3)."""

from __future__ import annotations

from typing import Annotated

import httpx
import pytest
from fastapi import FastAPI, Request

from salus.runtime.path_dids import did_in_path, segment_of

app = FastAPI()


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
