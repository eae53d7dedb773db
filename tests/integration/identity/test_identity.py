"""Identity on real Kafka: API round trips, two replicas racing, restarts, and founding by many at once."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.asking import NETWORK

from salus.client.auth import RequestSigner, make_possession
from salus.contracts.service import open_app
from salus.devkit.addresses import Addresses
from salus.devkit.network import NetworkFolder, Plan, create_topics
from salus.events.did import LocalSigner, multibase_of
from salus.identity.__main__ import SERVICE
from salus.identity.settings import Settings

PLAN = Plan(origin=NETWORK)
HOSPITAL = "did:web:hospital.example"


@pytest.fixture
async def network(parts: Addresses, tmp_path: Path) -> NetworkFolder:
    await create_topics(parts.kafka_bootstrap, PLAN)
    folder = NetworkFolder(tmp_path)
    folder.create(PLAN)
    return folder


@asynccontextmanager
async def replica(
    parts: Addresses, network: NetworkFolder, database: str = "a.db", **choices: Any
) -> AsyncIterator[httpx.AsyncClient]:
    choices = {"signing_key_file": network.key_file("identity"), **choices}
    choices = {"database_url": f"sqlite+aiosqlite:///{network.folder / database}", **choices}
    settings = Settings(
        kafka_bootstrap=parts.kafka_bootstrap, network_file=network.file, http_port=0, **choices
    )
    async with open_app(SERVICE, settings) as app:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://identity") as client:
            yield client


def signing(signer: LocalSigner) -> RequestSigner:
    return RequestSigner(signer, "identity", network=NETWORK)


def key_of(did: str, name: str = "key-1", *, member: str | None = None) -> tuple[LocalSigner, dict[str, str]]:
    signer = LocalSigner.from_seed(os.urandom(32), f"{did}#{name}")
    body = {
        "id": signer.verification_method,
        "multibase": multibase_of(signer.public_key),
        "valid_from": "2026-01-01T00:00:00Z",
        "proof": make_possession(signer, member=member, network=NETWORK, now=datetime.now(UTC)),
    }
    return signer, body


async def hospital(client: httpx.AsyncClient, network: NetworkFolder) -> LocalSigner:
    signer, key = key_of(HOSPITAL)
    body = {"did": HOSPITAL, "kind": "member", "keys": [key], "name": "Hospital"}
    response = await client.post("/parties", json=body, auth=signing(network.signer("operator")))
    assert response.status_code == 201, response.text
    return signer


async def test_a_member_joins_brings_its_people_and_rotates_a_key(
    parts: Addresses, network: NetworkFolder
) -> None:
    nurse = f"{HOSPITAL}:staff:17"
    async with replica(parts, network) as client:
        member = await hospital(client, network)
        _, key = key_of(nurse, member=HOSPITAL)
        body: dict[str, Any] = {"did": nurse, "kind": "person", "keys": [key], "member": HOSPITAL}
        joined = await client.post("/parties", json=body, auth=signing(member))
        role = await client.post(f"/parties/{nurse}/roles", json={"role": "clinician"}, auth=signing(member))
        _, second = key_of(nurse, "key-2", member=HOSPITAL)
        added = await client.post(f"/parties/{nurse}/keys", json={"key": second}, auth=signing(member))
        revocation = {"key_id": key["id"], "reason": "rotated"}
        revoked = await client.post(f"/parties/{nurse}/keys/revoke", json=revocation, auth=signing(member))
        document = (await client.get(f"/did/{nurse}")).json()
        people = (await client.get("/parties", params={"member": HOSPITAL})).json()

    assert [joined.status_code, role.status_code, added.status_code, revoked.status_code] == [
        201,
        201,
        201,
        200,
    ]
    assert role.json()["roles"] == ["clinician"]
    assert document["authentication"] == [second["id"]]
    assert document["controller"] == HOSPITAL
    assert [party["did"] for party in people["parties"]] == [nurse]


async def test_a_revoked_key_opens_no_door_from_then_on(parts: Addresses, network: NetworkFolder) -> None:
    async with replica(parts, network) as client:
        member = await hospital(client, network)
        fresh, key = key_of(HOSPITAL, "key-2")
        await client.post(f"/parties/{HOSPITAL}/keys", json={"key": key}, auth=signing(member))
        revocation = {"key_id": member.verification_method, "reason": "compromised"}
        url = f"/parties/{HOSPITAL}/keys/revoke"
        first = await client.post(url, json=revocation, auth=signing(member))
        again = await client.post(url, json=revocation, auth=signing(member))
        other = await client.post(url, json=revocation, auth=signing(fresh))

    assert first.status_code == 200
    assert (again.status_code, again.json()["code"]) == (401, "unauthenticated")
    assert (other.status_code, other.json()["code"]) == (404, "unknown-key")


async def test_many_replicas_found_the_network_once(parts: Addresses, network: NetworkFolder) -> None:
    async def start(name: str) -> list[str]:
        async with replica(parts, network, f"{name}.db") as client:
            return [party["did"] for party in (await client.get("/parties")).json()["parties"]]

    lists = await asyncio.gather(*(start(str(n)) for n in range(3)))
    facts = network.read()
    founders = {facts["root"]["did"], facts["founders"][0]["did"]}
    founders |= {service["did"] for service in facts["services"].values()}

    assert all(found == sorted(founders) for found in lists)


async def test_of_two_replicas_that_add_keys_at_once_no_key_is_lost(
    parts: Addresses, network: NetworkFolder
) -> None:
    async with replica(parts, network, "a.db") as a, replica(parts, network, "b.db") as b:
        await hospital(a, network)
        keys = [key_of(HOSPITAL, f"extra-{n}")[1] for n in range(6)]
        operator = signing(network.signer("operator"))
        responses = await asyncio.gather(
            *(
                client.post(f"/parties/{HOSPITAL}/keys", json={"key": key}, auth=operator)
                for client, key in zip((a, b) * 3, keys, strict=True)
            )
        )
        views = [(await client.get(f"/parties/{HOSPITAL}")).json() for client in (a, b)]

    # Whoever was overtaken has decided again, by what was true then.
    assert [r.status_code for r in responses] == [201] * len(keys)
    assert views[0] == views[1]
    assert {key["id"] for key in views[0]["keys"]} == {key["id"] for key in keys} | {f"{HOSPITAL}#key-1"}


async def test_of_two_who_register_the_same_party_at_once_one_wins(
    parts: Addresses, network: NetworkFolder
) -> None:
    async with replica(parts, network, "a.db") as a, replica(parts, network, "b.db") as b:
        operator = signing(network.signer("operator"))
        bodies = [{"did": HOSPITAL, "kind": "member", "keys": [key_of(HOSPITAL)[1]]} for _ in range(2)]
        responses = await asyncio.gather(
            *(c.post("/parties", json=body, auth=operator) for c, body in zip((a, b), bodies, strict=True))
        )

    assert sorted(r.status_code for r in responses) == [201, 409]
    assert {r.json().get("code") for r in responses} <= {None, "conflict", "party-exists"}


async def test_a_restart_goes_on_where_it_was_and_a_new_database_arrives_at_the_same_parties(
    parts: Addresses, network: NetworkFolder
) -> None:
    async with replica(parts, network, "a.db") as client:
        member = await hospital(client, network)
    async with replica(parts, network, "a.db") as client:
        _, key = key_of(HOSPITAL, "key-2")
        await client.post(f"/parties/{HOSPITAL}/keys", json={"key": key}, auth=signing(member))
        before = (await client.get("/parties")).json()
    async with replica(parts, network, "new.db") as client:
        after = (await client.get("/parties")).json()

    assert before == after
    assert len(before["parties"]) == 8


async def test_problems_say_what_is_wrong(parts: Addresses, network: NetworkFolder) -> None:
    async with replica(parts, network) as client:
        stranger = LocalSigner.from_seed(os.urandom(32))
        _, key = key_of(HOSPITAL)
        body = {"did": HOSPITAL, "kind": "member", "keys": [key]}
        unsigned = await client.post("/parties", json=body)
        unknown = await client.post("/parties", json=body, auth=signing(stranger))
        consent = await client.post("/parties", json=body, auth=signing(network.signer("consent")))
        extra = await client.post("/parties", json={**body, "x": 1}, auth=signing(network.signer("operator")))
        missing = await client.get(f"/parties/{HOSPITAL}")
        ready = await client.get("/readyz")

    codes = [(r.status_code, r.json()["code"]) for r in (unsigned, unknown, consent, extra, missing)]
    assert codes == [
        (401, "unauthenticated"),
        (401, "unauthenticated"),
        (403, "not-permitted"),
        (422, "invalid-request"),
        (404, "unknown-party"),
    ]
    assert {r.headers["content-type"] for r in (unsigned, consent, extra, missing)} == {
        "application/problem+json"
    }
    assert ready.json()["ready"] is True
    needed = ("kafka", "topics", "database", "fold", "signing-key")
    assert dict.fromkeys(needed, "ok").items() <= ready.json()["checks"].items()
