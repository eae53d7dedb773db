"""Who compares the trail with the ledger, and who lets it be repaired."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from tests.asking import NETWORK

from salus.audit import reconcile_api
from salus.client.auth import RequestLine, make_bearer
from salus.events.bearer import audience_of
from salus.events.did import LocalSigner
from salus.events.parties import Party
from salus.runtime import problems

OPERATOR = LocalSigner.from_seed(b"o" * 32)
COMPARE, REPAIR = "/trail/reconcile", "/trail/reconcile?repair=true"


async def operator(_: Request) -> Party:
    return Party(OPERATOR.did, "person", frozenset({"operator"}), None)


# red team 5, A6
@pytest.mark.parametrize(
    ("target", "named", "status"),
    [(COMPARE, None, 200), (REPAIR, None, 401), (REPAIR, COMPARE, 401), (REPAIR, REPAIR, 200)],
)
async def test_a_repair_has_a_token_of_its_own(
    monkeypatch: pytest.MonkeyPatch, target: str, named: str | None, status: int
) -> None:
    async def nothing(*_: Any, **__: Any) -> AsyncIterator[bytes]:
        yield b""

    monkeypatch.setattr(reconcile_api, "reconciled", nothing)
    app, comparison = FastAPI(), None
    problems.install(app)
    app.include_router(reconcile_api.reconcile_routes(comparison, operator))  # type: ignore[arg-type]  # unused
    line = None if named is None else RequestLine("POST", named)
    token = make_bearer(OPERATOR, audience_of("audit", NETWORK), now=datetime.now(UTC), request=line)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as http:
        answer = await http.post(target, headers={"Authorization": f"Bearer {token}"})

    assert answer.status_code == status
    assert status == 200 or answer.json()["code"] == "unbound-token"
