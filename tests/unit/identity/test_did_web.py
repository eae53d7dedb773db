"""DIDs are served where resolvers of did:web look for them, and as DID Core says."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from fastapi import FastAPI
from tests.asking import UNASKED, FixedCallers
from tests.unit.identity.test_handlers import OPERATOR, Memory, founder, noon, proofs

from salus.events.contexts.identity import MemberExpelled, MemberSuspended, PublicKey
from salus.events.parties import Party
from salus.identity.api import routes
from salus.identity.did_api import did_routes
from salus.identity.did_web import did_at
from salus.identity.domain import Register
from salus.identity.handlers import execute
from salus.runtime import problems, response_headers

HOST, PORT = "did:web:h.example", "did:web:h.example%3A8443"
DEEP = f"{HOST}:people:Anna_1.b-c"


def address_of(did: str) -> str:
    """Return the address of a did:web by the algorithm of the specification, step by step."""
    path = did.removeprefix("did:web:").replace(":", "/").replace("%3A", ":")
    return f"https://{path}{'' if '/' in path else '/.well-known'}/did.json"


@pytest.mark.parametrize(
    ("did", "address"),
    [
        # The three examples of the specification, section 2.5.2.
        ("did:web:w3c-ccg.github.io", "https://w3c-ccg.github.io/.well-known/did.json"),
        ("did:web:w3c-ccg.github.io:user:alice", "https://w3c-ccg.github.io/user/alice/did.json"),
        ("did:web:example.com%3A3000:user:alice", "https://example.com:3000/user/alice/did.json"),
        (PORT, "https://h.example:8443/.well-known/did.json"),
        (DEEP, "https://h.example/people/Anna_1.b-c/did.json"),
    ],
)
def test_a_did_web_is_read_at_its_address(did: str, address: str) -> None:
    url = urlsplit(address)

    assert address_of(did) == address
    assert did_at(url.netloc, url.path) == did


@pytest.mark.parametrize(
    ("authority", "path", "did"),
    [
        ("H.Example", "/.well-known/did.json", HOST),
        ("h.example:443", "/.well-known/did.json", HOST),
        ("h.example", "/%61/%2Ewell-known/did.json", f"{HOST}:a:.well-known"),
        ("h.example", "/%2Ewell-known/did.json", HOST),
    ],
)
def test_other_spellings_of_an_address_are_that_address(authority: str, path: str, did: str) -> None:
    assert did_at(authority, path) == did


@pytest.mark.parametrize(
    ("authority", "path"),
    [
        ("h.example", "/a%2Fb/did.json"),
        ("h.example", "/a%3Ab/did.json"),
        ("h.example", "/a:b/did.json"),
        ("h.example", "/a%253Ab/did.json"),
        ("h.example", "/a/%2e%2e/did.json"),
        ("h.example", "/./did.json"),
        ("h.example", "/did.json"),
        ("h.example", "//did.json"),
        ("h.example", "/a//did.json"),
        ("h.example", "/a/did%2Ejson"),
        ("h.example", "a/did.json"),
        ("h.example", "/a/did.json/"),
        ("h.example", "/\u00e4/did.json"),
        ("h.example%3A8443", "/.well-known/did.json"),
        ("h.example:", "/.well-known/did.json"),
        ("h.example:123456", "/.well-known/did.json"),
        ("user@h.example", "/.well-known/did.json"),
        ("[::1]:8443", "/.well-known/did.json"),
        ("h.example.", "/.well-known/did.json"),
        ("-h.example", "/.well-known/did.json"),
        ("", "/.well-known/did.json"),
    ],
)
def test_no_did_is_read_at_another_address(authority: str, path: str) -> None:
    assert did_at(authority, path) is None


async def registered(memory: Memory, did: str, seed: int, *, member: str | None = None) -> None:
    key = PublicKey(f"{did}#{seed}", founder(seed).key.multibase, noon())
    kind: Any = "member" if member is None else "person"
    made = proofs(seed, did=did, member=member)
    command = Register(did, kind, (key,), member=member, proofs=made)
    await execute(command, did=did, actor=OPERATOR, now=noon, world=memory.world)


@pytest.fixture
async def memory() -> Memory:
    memory = Memory()
    for seed, did in enumerate((HOST, PORT), start=9):
        await registered(memory, did, seed)
    for seed, did in enumerate((DEEP, f"{HOST}:parties", f"{HOST}:did"), start=20):
        await registered(memory, did, seed, member=HOST)
    return memory


def client_of(memory: Memory) -> httpx.AsyncClient:
    operator = Party(did=OPERATOR.did, kind="person", roles=OPERATOR.roles, member=None)
    app = FastAPI()
    problems.install(app)
    now = partial(datetime.now, UTC)
    app.include_router(did_routes(world=memory.world, now=now))
    callers = FixedCallers(lambda _: operator)
    app.include_router(routes(world=memory.world, authenticate=callers, now=now))

    async def served(scope: Any, receive: Any, send: Any) -> None:
        await app(scope, receive, response_headers.completing(send))

    return httpx.AsyncClient(transport=httpx.ASGITransport(served))


@pytest.mark.parametrize("did", [HOST, PORT, DEEP, f"{HOST}:parties", f"{HOST}:did"])
async def test_a_resolver_gets_the_document_of_the_did_that_it_asked_for(memory: Memory, did: str) -> None:
    async with client_of(memory) as client:
        answer = await client.get(address_of(did))
        asked_by_head = await client.head(address_of(did))
        by_did = await client.get(f"http://identity/did/{did}")
    document = answer.json()
    (method,) = document["verificationMethod"]

    assert answer.status_code == 200
    assert document["id"] == did
    assert document["authentication"] == document["assertionMethod"] == [method["id"]]
    assert (method["type"], method["controller"]) == ("Multikey", did)
    assert method["id"].startswith(f"{did}#")
    assert by_did.json() == document
    assert (asked_by_head.status_code, asked_by_head.headers) == (200, answer.headers)
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize(
    ("accept", "form", "is_linked_data"),
    [
        (None, "application/did+ld+json", True),
        ("*/*", "application/did+ld+json", True),
        ("application/did+json", "application/did+json", False),
        ("application/did+ld+json;q=0.5, application/did+json", "application/did+json", False),
        ("application/json", "application/json", True),
        ("application/ld+json", "application/ld+json", True),
    ],
)
async def test_a_document_has_the_form_that_is_asked_for(
    memory: Memory, accept: str | None, form: str, *, is_linked_data: bool
) -> None:
    async with client_of(memory) as client:
        answer = await client.get(address_of(HOST), headers={"Accept": accept} if accept else {})

    assert answer.headers["content-type"] == form
    assert answer.headers["vary"] == "Accept"
    assert ("@context" in answer.json()) is is_linked_data


async def test_a_cache_hears_of_a_change_at_once_and_of_nothing_else(memory: Memory) -> None:
    async with client_of(memory) as client:
        first = await client.get(address_of(HOST))
        known = {"If-None-Match": f'"other", W/{first.headers["etag"]}'}
        again = await client.get(address_of(HOST), headers=known)
        other_form = await client.get(address_of(HOST), headers={**known, "Accept": "application/json"})
        memory.ring.apply(MemberSuspended(HOST, "inquiry", request=UNASKED))
        changed = await client.get(address_of(HOST), headers=known)

    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    assert other_form.status_code == 200
    assert changed.status_code == 200
    assert "verificationMethod" not in changed.json()


@pytest.mark.parametrize(
    "path", ["/.well-known/did.json", "/nobody/did.json", "/people%3AAnna_1.b-c/did.json"]
)
async def test_where_nobody_is_registered_there_is_no_document(memory: Memory, path: str) -> None:
    host = "other.example" if path.startswith("/.well") else "h.example"
    async with client_of(memory) as client:
        answer = await client.get(f"https://{host}{path}")

    assert (answer.status_code, answer.json()["code"]) == (404, "unknown-party")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["access-control-allow-origin"] == "*"


async def test_the_did_of_an_expelled_member_and_of_its_people_is_deactivated(memory: Memory) -> None:
    memory.ring.apply(MemberSuspended(HOST, "inquiry", request=UNASKED))
    memory.ring.apply(MemberExpelled(HOST, "left", request=UNASKED))
    async with client_of(memory) as client:
        answers = [await client.get(address_of(did)) for did in (HOST, DEEP)]
        answers.append(await client.get(f"http://identity/did/{HOST}"))
        other = await client.get(address_of(PORT))

    assert {(each.status_code, each.json()["code"]) for each in answers} == {(410, "did-deactivated")}
    assert {each.headers["access-control-allow-origin"] for each in answers} == {"*"}
    assert other.status_code == 200


async def test_a_form_that_there_is_not_is_refused(memory: Memory) -> None:
    async with client_of(memory) as client:
        answer = await client.get(address_of(HOST), headers={"Accept": "text/html"})

    assert (answer.status_code, answer.json()["code"]) == (406, "not-acceptable")
    assert "application/did+json" in answer.json()["detail"]


async def test_a_page_of_another_origin_may_ask(memory: Memory) -> None:
    async with client_of(memory) as client:
        for address in (address_of(DEEP), f"http://identity/did/{DEEP}"):
            answer = await client.options(address)

            assert answer.status_code == 204
            assert answer.headers["access-control-allow-origin"] == "*"
            assert "GET" in answer.headers["access-control-allow-methods"]


async def test_a_document_is_read_and_not_written(memory: Memory) -> None:
    async with client_of(memory) as client:
        answer = await client.put(address_of(DEEP), json={})

    assert (answer.status_code, answer.json()["code"]) == (405, "method-not-allowed")
    assert answer.headers["allow"] == "GET, HEAD, OPTIONS"
