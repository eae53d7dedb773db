"""Which keys a DID's own document names, in the forms in which others write them."""

from __future__ import annotations

import json
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from salus.client.did_documents import METHODS_MAX, read_did_document
from salus.client.did_resolver import DidResolver, place_of
from salus.client.errors import DidError
from salus.events.did import LocalSigner, key_of, multibase_of

VECTORS = Path(__file__).parents[2] / "data" / "vc"
NIST = json.loads((VECTORS / "did-key" / "nist-curves.json").read_text())
P256 = [
    did for did in NIST if "publicKeyJwk" in NIST[did]["verificationMethod"] and did.startswith("did:key:zDn")
]
DID = "did:web:h.example"
KEY, OTHER = (multibase_of(LocalSigner.from_seed(seed * 32).public_key) for seed in (b"k", b"o"))
JWK = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}


def method(**changed: Any) -> dict[str, Any]:
    whole = {"id": f"{DID}#1", "type": "Multikey", "controller": DID, "publicKeyMultibase": KEY, **changed}
    return {name: value for name, value in whole.items() if value is not None}


def named(document: Any) -> dict[str, str]:
    whole = document if isinstance(document, bytes) else json.dumps({"id": DID, **document}).encode()
    return {key_id: multibase_of(k.public_key) for key_id, k in read_did_document(DID, whole).keys.items()}


def signing_with(*methods: Any, **more: Any) -> dict[str, Any]:
    return {"verificationMethod": [*methods], "assertionMethod": [f"{DID}#1"], **more}


@pytest.mark.parametrize(
    "document",
    [
        signing_with(method()),
        signing_with(method(id="#1")),
        signing_with(method(type="Ed25519VerificationKey2020")),
        {"verificationMethod": [method()], "authentication": ["#1"]},
        {"assertionMethod": [method()]},
        signing_with(method(), authentication=[method()]),
        signing_with(7, {"id": 7}, method(id="#2", publicKeyMultibase="z"), method()),
        signing_with(method(), keyAgreement=["#9"], service=[{"id": "#s"}]),
    ],
)
def test_a_key_is_named_in_each_form_that_did_core_has(document: dict[str, Any]) -> None:
    assert named(document) == {f"{DID}#1": KEY}


@pytest.mark.parametrize("did", P256)
def test_the_keys_of_the_vectors_are_read_as_json_web_keys(did: str) -> None:
    document = json.dumps(NIST[did]["didDocument"]).encode()

    assert dict(read_did_document(did, document).keys) == {f"{did}#{did[8:]}": key_of(did[8:])}


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"verificationMethod": [method()]},
        {"verificationMethod": [method()], "keyAgreement": ["#1"], "capabilityInvocation": ["#1"]},
        signing_with(method(controller="did:web:other.example")),
        signing_with(method(controller=None)),
        signing_with(method(id="did:web:other.example#1"), assertionMethod=["did:web:other.example#1"]),
        signing_with(method(publicKeyJwk=JWK)),
        signing_with(method(publicKeyMultibase=None, publicKeyJwk={**JWK, "d": JWK["x"]})),
        signing_with(method(publicKeyMultibase=None, publicKeyJwk={**JWK, "x": JWK["x"] + "="})),
        signing_with(method(publicKeyMultibase=None, publicKeyJwk={**JWK, "x": JWK["x"][:-1]})),
        signing_with(method(publicKeyMultibase=None, publicKeyJwk={**JWK, "crv": "X25519"})),
        signing_with(method(publicKeyMultibase=None, publicKeyJwk={**JWK, "kty": "EC", "crv": "P-256"})),
        signing_with(
            method(publicKeyMultibase=None, publicKeyJwk={**JWK, "kty": "EC", "crv": "P-256", "y": JWK["x"]})
        ),
        signing_with(method(publicKeyMultibase=None, publicKeyHex="00")),
        signing_with(method(publicKeyMultibase="zQ3shokFTS3brHcDQrn82RUDfCZESWL1ZdCEJwekUDPQiYBme")),
    ],
)
def test_what_is_no_key_of_the_did_is_not_guessed_at(document: dict[str, Any]) -> None:
    assert named(document) == {}


@pytest.mark.parametrize(
    "document",
    [
        b"[]",
        b"{}x",
        b'\xef\xbb\xbf{"id":"did:web:h.example"}',
        b'{"id":"did:web:h.example","id":"did:web:h.example"}',
        json.dumps({"id": DID, **signing_with(method(), method(publicKeyMultibase=OTHER))}).encode(),
        json.dumps({"id": DID, **signing_with(method(), authentication=[method(id="#1", x=1)])}).encode(),
        json.dumps({"id": DID, "verificationMethod": {}}).encode(),
        json.dumps({"id": DID, "assertionMethod": "#1"}).encode(),
        json.dumps({"id": DID, "assertionMethod": ["#1"] * (METHODS_MAX + 1)}).encode(),
    ],
)
def test_a_document_that_says_two_things_or_nothing_is_refused(document: bytes) -> None:
    with pytest.raises(DidError) as refused:
        named(document)

    assert refused.value.code == "did-document-invalid"


@pytest.mark.parametrize("id_", ["did:web:other.example", "did:web:H.example", None, [DID]])
def test_a_document_of_another_did_is_refused(id_: Any) -> None:
    with pytest.raises(DidError) as refused:
        named({"id": id_, **signing_with(method())})

    assert refused.value.code == "did-mismatch"


def test_a_key_is_the_one_of_its_id_and_no_other() -> None:
    found = read_did_document(DID, json.dumps({"id": DID, **signing_with(method())}).encode())

    assert found.names(f"{DID}#1", KEY)
    assert not found.names(f"{DID}#1", OTHER)
    assert not found.names(f"{DID}#2", KEY)


async def test_a_did_key_needs_no_host() -> None:
    found = await DidResolver().resolve(f"did:key:{KEY}")

    assert found.names(f"did:key:{KEY}#{KEY}", KEY)


@pytest.mark.parametrize("did", ["did:web:H.example", "did:web:h.example/x", "did:key:z", "did:plc:abc", ""])
async def test_what_is_no_did_that_we_know_is_refused(did: str) -> None:
    with pytest.raises(DidError) as refused:
        await DidResolver().resolve(did)

    assert refused.value.code == "invalid-did"


@pytest.mark.parametrize("port", [0, 65_536, 99_999])
async def test_a_port_that_there_is_none_of_is_refused(port: int) -> None:
    # review B9, finding 4: it reached the socket, and the command ended with a traceback
    async def connect_inside(_: str, asked: int) -> list[str]:
        assert 1 <= asked <= 65_535
        return ["127.0.0.1"]

    resolver = DidResolver(inside=[ip_network("127.0.0.0/8")], look_up=connect_inside)
    with pytest.raises(DidError) as refused:
        await resolver.resolve(f"did:web:h.example%3A{port}")

    assert refused.value.code == "invalid-did"


@pytest.mark.parametrize("port", [1, 65_535])
async def test_a_port_that_there_is_is_looked_up(port: int) -> None:
    async def looked_up(_: str, asked: int) -> list[str]:
        assert asked == port
        return []

    with pytest.raises(DidError) as refused:
        await DidResolver(look_up=looked_up).resolve(f"did:web:h.example%3A{port}")

    assert refused.value.code == "did-unreachable"


def test_a_document_is_where_the_method_says() -> None:
    assert place_of(DID) == ("h.example", 443, "/.well-known/did.json")
    assert place_of("did:web:h.example%3A8443:a:b") == ("h.example", 8443, "/a/b/did.json")
