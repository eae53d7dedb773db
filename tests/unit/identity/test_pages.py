"""The list of parties is read page by page, and loads no more than it shows: anybody may ask for it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from tests.asking import UNASKED, FixedCallers
from tests.unit.identity.test_handlers import NETWORK, Memory

from salus.events.contexts import CATALOGUE
from salus.events.contexts.identity import MemberSuspended
from salus.events.keyring import KeyRing
from salus.events.parties import Party
from salus.identity.api import routes
from salus.identity.did_api import did_routes
from salus.identity.handlers import found_network

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
CALLER = Party(did="did:key:z6Mkoperator", kind="person", roles=frozenset(), member=None)


async def asked(memory: Memory, **query: Any) -> dict[str, Any]:
    return await told(memory, "/parties", **query)


async def told(memory: Memory, path: str, **query: Any) -> dict[str, Any]:
    app, callers = FastAPI(), FixedCallers(lambda _: CALLER)
    app.include_router(did_routes(world=memory.world, now=lambda: NOW))
    app.include_router(routes(world=memory.world, authenticate=callers, now=lambda: NOW))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://identity") as client:
        answer: dict[str, Any] = (await client.get(path, params=query)).json()
        return answer


@pytest.fixture
async def memory() -> Memory:
    founded = Memory(ring=KeyRing(CATALOGUE, NETWORK.origin))
    await found_network(NETWORK, at=NOW, world=founded.world)
    return founded


async def test_a_page_loads_the_parties_that_it_shows_and_no_others(memory: Memory) -> None:
    seen: list[str] = []
    after: str | None = None
    for _ in range(4):
        before = memory.loaded
        page = await asked(memory, limit=1, **({"after": after} if after else {}))
        seen += [party["did"] for party in page["parties"]]
        after = page["next"]
        assert memory.loaded - before == 1

    assert after is None
    assert seen == sorted(memory.folded)


async def test_a_resolver_finds_no_key_of_a_suspended_member(memory: Memory) -> None:
    did = NETWORK.founders[0].did
    before = await told(memory, f"/did/{did}")
    memory.ring.parties[did] = replace(memory.ring.parties[did], member="did:web:h.example")
    memory.ring.apply(MemberSuspended("did:web:h.example", "inquiry", request=UNASKED))

    assert "verificationMethod" in before
    assert "verificationMethod" not in await told(memory, f"/did/{did}")


async def test_a_list_can_be_narrowed(memory: Memory) -> None:
    operators = await asked(memory, role="operator")
    services = await asked(memory, kind="service")

    assert [party["did"] for party in operators["parties"]] == [NETWORK.founders[0].did]
    assert {party["kind"] for party in services["parties"]} == {"service"}
