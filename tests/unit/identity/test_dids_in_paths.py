"""A path names the DID that was asked for, and no other (case D3)."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from fastapi import FastAPI
from tests.asking import FixedCallers
from tests.unit.identity.test_handlers import NOW, OPERATOR, Memory, founder, noon, proofs

from salus.events.contexts.identity import PublicKey
from salus.events.did import decoded_segment
from salus.events.parties import Party
from salus.events.party_form import objection_to_did
from salus.events.signed_request import Asked
from salus.identity.api import routes
from salus.identity.did_api import did_routes
from salus.identity.domain import Register
from salus.identity.handlers import execute
from salus.runtime import problems
from salus.runtime.refusal import Refusal, require

PORT, PATH = "did:web:hospital.example%3A8443", "did:web:hospital.example:8443"


async def registered(did: str, seed: int, memory: Memory) -> None:
    key = PublicKey(f"{did}#{seed}", founder(seed).key.multibase, NOW)
    command = Register(did, "member", (key,), proofs=proofs(seed, did=did))
    await execute(command, did=did, actor=OPERATOR, now=noon, world=memory.world)


def client_of(memory: Memory, **choices: Any) -> httpx.AsyncClient:
    operator = Party(did=OPERATOR.did, kind="person", roles=OPERATOR.roles, member=None)
    app = FastAPI()
    problems.install(app)
    callers = FixedCallers(lambda _: operator)
    now = partial(datetime.now, UTC)
    app.include_router(did_routes(world=memory.world, now=now))
    app.include_router(routes(world=memory.world, authenticate=callers, now=now, **choices))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://identity")


@pytest.mark.parametrize("did", [PORT, PATH, "did:web:hospital.example"])
@pytest.mark.parametrize(
    "spell", [str, quote, lambda did: quote(did, safe=":"), lambda did: quote(did, safe="")]
)
async def test_each_spelling_of_a_did_finds_that_did_or_nothing(did: str, spell: Any) -> None:
    memory = Memory()
    await registered(did, 9, memory)
    other = PORT if did == PATH else PATH
    async with client_of(memory) as client:
        for route in ("did", "parties"):
            found = await client.get(f"/{route}/{spell(did)}")
            missing = await client.get(f"/{route}/{spell(other)}")

            assert found.json()[{"did": "id", "parties": "did"}[route]] == did
            assert (missing.status_code, missing.json()["code"]) == (404, "unknown-party")


async def test_a_command_reaches_the_did_in_its_path_only() -> None:
    memory = Memory()
    await registered(PATH, 9, memory)
    revocation = {"key_id": f"{PATH}#9", "reason": "compromised"}
    async with client_of(memory) as client:
        by_port = await client.post(f"/parties/{PORT}/keys/revoke", json=revocation)
        by_path = await client.post(f"/parties/{PATH}/keys/revoke", json=revocation)

    assert (by_port.status_code, by_path.status_code) == (404, 200)


async def test_two_dids_that_are_equal_once_decoded_do_not_both_register() -> None:
    memory = Memory()
    await registered(PORT, 9, memory)
    with pytest.raises(Refusal, match="did-lookalike"):
        await registered(PATH, 10, memory)


@pytest.mark.parametrize(
    ("segment", "meant"),
    [
        (PORT, PORT),
        (quote(PORT), PORT),
        (quote(PORT, safe=":"), PORT),
        (PATH, PATH),
        (quote(PATH), PATH),
        ("did:web:h.example%3a1", "did:web:h.example%3a1"),
        ("did:web:h.example:a%3Ab", "did:web:h.example:a%3Ab"),
        ("did:web:h%2Eexample", "did:web:h%2Eexample"),
        ("a%20b", "a b"),
    ],
)
def test_the_event_and_the_route_read_a_path_alike(segment: str, meant: str) -> None:
    asked = Asked.of(method="POST", target=f"/parties/{segment}/keys", body=None, digest=None)

    assert decoded_segment(segment) == meant
    assert asked.path == ("parties", meant, "keys")


@pytest.mark.parametrize(
    "did", ["did:web:Clinic.example", "did:web:lab.example%3a8443", "did:web:LAB.example%3a1:A"]
)
def test_a_host_in_upper_case_is_told_to_be_written_in_lower_case(did: str) -> None:
    with pytest.raises(Refusal, match="write the host in lower case"):
        require(objection_to_did(did))
