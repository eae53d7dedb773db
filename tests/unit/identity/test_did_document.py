"""DID documents against DID Core and the did:key vectors of the W3C CCG."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from salus.events.did import did_key_of, multibase_of
from salus.events.party_form import objection_to_did
from salus.identity.did_document import render
from salus.identity.domain import PartyState
from salus.identity.held_keys import HeldKey
from salus.runtime.refusal import Refusal, require

VECTORS = Path(__file__).parents[2] / "data" / "vc"
ED25519 = json.loads((VECTORS / "did-key" / "ed25519-x25519.json").read_text())
NIST = json.loads((VECTORS / "did-key" / "nist-curves.json").read_text())
P256 = [did for did in NIST if did.startswith("did:key:zDn")]
NOW = datetime(2026, 11, 22, tzinfo=UTC)


def a_key(name: str, *, until: datetime | None = None, since: datetime = NOW) -> HeldKey:
    multibase = multibase_of(Ed25519PrivateKey.from_private_bytes(name.encode().ljust(32)).public_key())
    return HeldKey(id=f"did:web:h.example#{name}", multibase=multibase, valid_from=since, valid_until=until)


@pytest.mark.parametrize("did", ED25519)
def test_a_did_key_document_names_the_key_as_the_vectors_do(did: str) -> None:
    vector = ED25519[did]
    private = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(vector["seed"]))
    multibase = did.removeprefix("did:key:")
    party = PartyState(did=did, keys=(HeldKey(id=f"{did}#{multibase}", multibase=multibase, valid_from=NOW),))
    document, expected = render(party, at=NOW), vector["didDocument"]

    assert did_key_of(private.public_key()) == did
    assert document["id"] == expected["id"]
    assert document["authentication"] == expected["authentication"]
    assert document["assertionMethod"] == expected["assertionMethod"]
    assert document["verificationMethod"][0]["id"] == expected["verificationMethod"][0]["id"]
    assert document["verificationMethod"][0]["controller"] == expected["verificationMethod"][0]["controller"]
    require(objection_to_did(did))


@pytest.mark.parametrize("did", P256)
def test_a_did_key_of_p256_is_a_multikey_as_resolvers_expect(did: str) -> None:
    multibase = did.removeprefix("did:key:")
    party = PartyState(did=did, keys=(HeldKey(id=f"{did}#{multibase}", multibase=multibase, valid_from=NOW),))
    (method,) = render(party, at=NOW)["verificationMethod"]

    require(objection_to_did(did))
    assert method == {
        "id": f"{did}#{multibase}",
        "type": "Multikey",
        "controller": did,
        "publicKeyMultibase": multibase,
    }


@pytest.mark.parametrize("did", sorted(NIST.keys() - set(P256)))
def test_did_keys_of_other_curves_are_refused(did: str) -> None:
    with pytest.raises(Refusal, match="invalid-key"):
        require(objection_to_did(did))


def test_the_did_of_the_did_web_specification_may_join() -> None:
    did = json.loads((VECTORS / "did-web" / "spec-example-01.json").read_text())["id"]

    require(objection_to_did(did))


def test_only_keys_that_may_sign_now_are_in_the_document() -> None:
    hour = timedelta(hours=1)
    revoked = HeldKey(id="did:web:h.example#r", multibase="z", valid_from=NOW, revoked="left")
    keys = (a_key("good"), a_key("ends", until=NOW + hour), a_key("over", until=NOW), revoked)
    future = a_key("future", since=NOW + hour)
    document = render(PartyState(did="did:web:h.example", kind="member", keys=(*keys, future)), at=NOW)

    assert document["authentication"] == ["did:web:h.example#good", "did:web:h.example#ends"]
    assert document["verificationMethod"][1]["expires"] == "2026-11-22T01:00:00Z"
    assert document["@context"][0] == "https://www.w3.org/ns/did/v1"
    assert {method["type"] for method in document["verificationMethod"]} == {"Multikey"}


def test_a_party_without_keys_authenticates_nobody() -> None:
    document = render(PartyState(did="did:web:h.example", kind="member"), at=NOW)

    assert set(document) == {"@context", "id"}


def test_a_member_controls_its_people_but_not_a_service() -> None:
    person = PartyState(did="did:web:h.example:p", kind="person", member="did:web:h.example")
    service = PartyState(did="did:web:h.example:s", kind="service", member="did:web:h.example")

    assert render(person, at=NOW)["controller"] == "did:web:h.example"
    assert "controller" not in render(service, at=NOW)


def test_a_party_of_a_suspended_member_has_no_key_for_a_resolver_to_trust() -> None:
    party = PartyState(did="did:web:h.example", kind="member", keys=(a_key("1"),))

    assert "verificationMethod" in render(party, at=NOW)
    assert render(party, at=NOW, is_barred=True).keys() == {"@context", "id"}
