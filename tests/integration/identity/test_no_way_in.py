"""What was found by attacking identity, on real Kafka: SEC2, SEC8, proof of possession, races of keys."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from tests.asking import NETWORK
from tests.integration.identity.test_identity import HOSPITAL, PLAN, hospital, key_of, replica, signing

from salus.client.auth import RequestSigner, make_possession
from salus.devkit.addresses import Addresses
from salus.devkit.network import NetworkFolder, create_topics
from salus.events.did import LocalSigner, multibase_of


@pytest.fixture
async def network(parts: Addresses, tmp_path: Path) -> NetworkFolder:
    await create_topics(parts.kafka_bootstrap, PLAN)
    folder = NetworkFolder(tmp_path)
    folder.create(PLAN)
    return folder


def write_key(file: Path, key: Ed25519PrivateKey) -> Path:
    file.touch(0o600)
    file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return file


def outcome(response: httpx.Response) -> Any:
    return response.json().get("code", response.status_code)


async def second_operator(client: httpx.AsyncClient, network: NetworkFolder) -> LocalSigner:
    did = "did:web:second.example"
    signer, key = key_of(did)
    body = {"did": did, "kind": "person", "roles": ["operator"], "keys": [key]}
    joined = await client.post("/parties", json=body, auth=signing(network.signer("operator")))
    assert joined.status_code == 201, joined.text
    return signer


async def test_from_the_second_operator_on_no_operator_makes_operators_alone(
    parts: Addresses, network: NetworkFolder
) -> None:
    # Case SEC2.
    first = network.signer("operator")
    async with replica(parts, network) as client:
        second = await second_operator(client, network)
        _, key = key_of("did:web:third.example")
        body = {"did": "did:web:third.example", "kind": "person", "roles": ["operator"], "keys": [key]}
        alone = await client.post("/parties", json=body, auth=signing(first))
        both = RequestSigner(first, "identity", network=NETWORK, second=second)
        by_itself = RequestSigner(first, "identity", network=NETWORK, second=first)
        own = await client.post("/parties", json=body, auth=by_itself)
        request = client.build_request("POST", "/parties", json=body)
        signed = next(both.auth_flow(request))
        approval = signed.headers["Salus-Approval"]
        approved = await client.send(signed)
        withdrawn = await client.request("DELETE", "/parties/did:web:third.example/roles/operator", auth=both)
        header = {"Salus-Approval": approval}
        elsewhere = await client.post(
            "/parties", json={**body, "roles": []}, headers=header, auth=signing(first)
        )

    assert outcome(alone) == "second-operator-needed"
    assert outcome(own) == "approval-invalid"
    assert [outcome(approved), outcome(withdrawn)] == [201, 200]
    assert outcome(elsewhere) == "approval-invalid"


async def test_a_token_that_stands_on_the_topic_gets_no_answer_from_another_replica(
    parts: Addresses, network: NetworkFolder
) -> None:
    # The red team: whoever reads the topic has the token while it is good.
    _, key = key_of(HOSPITAL)
    body = {"did": HOSPITAL, "kind": "member", "keys": [key], "name": "Hospital"}
    async with replica(parts, network, "a.db") as a, replica(parts, network, "b.db") as b:
        request = a.build_request("POST", "/parties", json=body)
        signed = next(signing(network.signer("operator")).auth_flow(request))
        joined = await a.send(signed)
        caught_up = await b.post("/parties", json=body, auth=signing(network.signer("operator")))
        again = await b.send(signed)

    assert [outcome(joined), outcome(caught_up)] == [201, "party-exists"]
    assert outcome(again) == "token-used"


async def test_an_approval_is_not_used_again(parts: Addresses, network: NetworkFolder) -> None:
    first, did = network.signer("operator"), "did:web:second.example"
    async with replica(parts, network, "a.db") as a, replica(parts, network, "b.db") as b:
        await hospital(a, network)
        second = await second_operator(a, network)
        body = {"did": f"{HOSPITAL}:1", "kind": "person", "keys": [key_of(f"{HOSPITAL}:1")[1]]}
        await a.post(
            "/parties", json=body, auth=RequestSigner(first, "identity", network=NETWORK, second=second)
        )
        role = {"role": "operator", "keys": [f"{HOSPITAL}:1#key-1"]}
        both = RequestSigner(first, "identity", network=NETWORK, second=second)
        request = next(both.auth_flow(a.build_request("POST", f"/parties/{HOSPITAL}:1/roles", json=role)))
        granted = await a.send(request)
        await a.request("DELETE", f"/parties/{HOSPITAL}:1/roles/operator", auth=both)
        header = {"Salus-Approval": request.headers["Salus-Approval"]}
        url = f"/parties/{HOSPITAL}:1/roles"
        again = await b.post(url, json=role, headers=header, auth=signing(first))
        party = (await b.get(f"/parties/{did}")).json()

    assert granted.status_code == 201
    assert outcome(again) == "name-taken"
    assert party["roles"] == ["operator"]


async def test_a_member_takes_over_nobody(parts: Addresses, network: NetworkFolder) -> None:
    # Cases SEC2 and proof of possession: an operator of its own, another's did:key, another's key, a did:web.
    first = network.signer("operator")
    async with replica(parts, network) as client:
        member = await hospital(client, network)
        boss = f"{HOSPITAL}:boss"
        body: dict[str, Any] = {
            "did": boss,
            "kind": "person",
            "member": HOSPITAL,
            "roles": ["operator"],
            "keys": [key_of(boss, member=HOSPITAL)[1]],
        }
        await client.post("/parties", json=body, auth=signing(first))
        more = {"key": key_of(boss, "key-2", member=HOSPITAL)[1]}
        key_for_operator = await client.post(f"/parties/{boss}/keys", json=more, auth=signing(member))

        victim = LocalSigner.from_seed(b"v" * 32)
        theirs = key_of(victim.did)[1] | {"id": victim.verification_method}
        theirs["multibase"] = victim.did.removeprefix("did:key:")
        squat = {"did": victim.did, "kind": "person", "member": HOSPITAL, "keys": [theirs]}
        another_did_key = await client.post("/parties", json=squat, auth=signing(member))
        missing = await client.post(
            "/parties",
            json={**squat, "keys": [{k: v for k, v in theirs.items() if k != "proof"}]},
            auth=signing(member),
        )
        # The victim agreed to join another member.
        theirs["proof"] = make_possession(
            victim, member="did:web:other.example", network=NETWORK, now=datetime.now(UTC)
        )
        taken = await client.post("/parties", json={**squat, "keys": [theirs]}, auth=signing(member))
        theirs["proof"] = make_possession(victim, member=HOSPITAL, network=NETWORK, now=datetime.now(UTC))
        agreed = await client.post("/parties", json={**squat, "keys": [theirs]}, auth=signing(member))

    assert outcome(key_for_operator) == "not-permitted"
    assert [outcome(another_did_key), outcome(missing), outcome(taken)] == ["key-not-proven"] * 3
    assert agreed.status_code == 201, agreed.text


async def test_one_public_key_raced_for_on_two_replicas_is_one_partys(
    parts: Addresses, network: NetworkFolder
) -> None:
    # Case security.md, medium: it belonged to two parties in 10 of 10 races.
    async with replica(parts, network, "a.db") as a, replica(parts, network, "b.db") as b:
        operator = signing(network.signer("operator"))
        for turn in range(4):
            bodies = []
            for name in "ab":
                did = f"did:web:{name}{turn}.example"
                signer = LocalSigner.from_seed(bytes([turn + 1]) * 32, f"{did}#1")
                key = key_of(did)[1] | {"id": f"{did}#1"}
                key["multibase"] = LocalSigner.from_seed(bytes([turn + 1]) * 32).did.removeprefix("did:key:")
                key["proof"] = make_possession(signer, network=NETWORK, now=datetime.now(UTC))
                bodies.append({"did": did, "kind": "member", "keys": [key]})
            answers = await asyncio.gather(
                *(
                    c.post("/parties", json=body, auth=operator)
                    for c, body in zip((a, b), bodies, strict=True)
                )
            )

            assert sorted(answer.status_code for answer in answers) == [201, 409]
            assert {outcome(answer) for answer in answers} <= {201, "name-taken", "key-in-use"}


async def test_identitys_key_is_replaced_and_never_the_last_to_go(
    parts: Addresses, network: NetworkFolder, tmp_path: Path
) -> None:
    # Case SEC8: the way out is the successor, added before the old key goes; all before it still verifies.
    root = network.signer("identity")
    private = Ed25519PrivateKey.generate()
    successor = LocalSigner(private, f"{root.did}#key-2")
    key = {
        "id": successor.verification_method,
        "multibase": multibase_of(successor.public_key),
        "valid_from": "2026-01-01T00:00:00Z",
        "proof": make_possession(successor, network=NETWORK, now=datetime.now(UTC)),
    }
    revoke_first = {"key_id": root.verification_method, "reason": "compromised"}
    url = f"/parties/{root.did}/keys"
    async with replica(parts, network) as client:
        await hospital(client, network)
        last = await client.post(f"{url}/revoke", json=revoke_first, auth=signing(root))
        added = await client.post(url, json={"key": key}, auth=signing(root))

    choices: dict[str, Any] = {
        "signing_key_file": write_key(tmp_path / "key-2.pem", private),
        "signing_key_id": key["id"],
    }
    async with replica(parts, network, **choices) as client:
        revoked = await client.post(f"{url}/revoke", json=revoke_first, auth=signing(successor))
        ready = (await client.get("/readyz")).json()
        nurse = f"{HOSPITAL}:1"
        body = {"did": nurse, "kind": "person", "keys": [key_of(nurse)[1]]}
        goes_on = await client.post("/parties", json=body, auth=signing(network.signer("operator")))
    # From an empty database, everything before is as it was.
    async with replica(parts, network, "anew.db", **choices) as client:
        before = await client.get(f"/parties/{HOSPITAL}")

    assert outcome(last) == "last-key"
    assert [added.status_code, revoked.status_code, goes_on.status_code] == [201, 200, 201], revoked.text
    assert ready["ready"], ready
    assert before.status_code == 200

    # Whoever still runs with the old key says so, and does nothing.
    async with replica(parts, network, "old.db") as client:
        unready = (await client.get("/readyz")).json()
        refused = await client.post("/parties", json=body, auth=signing(network.signer("operator")))
    assert "key-revoked" in unready["checks"]["signing-key"]
    assert outcome(refused) == "service-key-invalid"
