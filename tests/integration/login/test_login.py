"""People log in at a real OpenID provider, from the command line, and sign what they ask for."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.commands import Salus
from tests.integration.login.browser import log_in
from tests.integration.login.conftest import StartProvider
from tests.integration.login.machine import Machine

from salus.cli.exits import Exit
from salus.cli.openid import exchange_code, metadata_of
from salus.client.dpop import make_proof
from salus.contracts.service import open_app
from salus.devkit.platform import Platform
from salus.events.dpop import base64url, thumbprint_of
from salus.events.sessions import nonce_of
from salus.events.token_exchange import form_of
from salus.identity.__main__ import SERVICE
from salus.identity.settings import Settings


@pytest.fixture
async def platform(platform_factory: Any) -> Platform:
    """A platform of which identity alone runs."""
    made: Platform = await platform_factory(start=False)
    await made.start_parts()
    await made.start_services(["identity"])
    return made


@asynccontextmanager
async def replica(platform: Platform, folder: Path) -> AsyncIterator[httpx.AsyncClient]:
    """Another identity beside the one that runs, with a database of its own."""
    settings = Settings(
        kafka_bootstrap=platform.addresses.kafka_bootstrap,
        network_file=platform.network.file,
        signing_key_file=platform.network.key_file("identity"),
        database_url=f"sqlite+aiosqlite:///{folder / 'replica.db'}",
        http_port=0,
    )
    async with open_app(SERVICE, settings) as app:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://identity") as client:
            yield client


async def id_token_for(key: Ed25519PrivateKey, issuer: str, *, network: str) -> str:
    """Log nora in by hand, for this key, and return the ID token."""
    metadata = await metadata_of(issuer)
    verifier, redirect = secrets.token_urlsafe(48), "http://127.0.0.1:9/callback"
    asked = {
        "client_id": "salus",
        "response_type": "code",
        "redirect_uri": redirect,
        "scope": "openid",
        "nonce": nonce_of(thumbprint_of(key.public_key()), network=network),
        "code_challenge": base64url(sha256(verifier.encode()).digest()),
        "code_challenge_method": "S256",
        "max_age": "3600",
    }
    back = await log_in(f"{metadata.authorization_endpoint}?{urlencode(asked)}", "nora")
    form = {
        "grant_type": "authorization_code",
        "code": parse_qs(urlsplit(back).query)["code"][0],
        "redirect_uri": redirect,
        "client_id": "salus",
        "code_verifier": verifier,
    }
    return await exchange_code(metadata, form)


async def exchange(client: httpx.AsyncClient, id_token: str, proof: str) -> httpx.Response:
    headers = {"DPoP": proof, "Content-Type": "application/x-www-form-urlencoded"}
    return await client.post("/token", content=form_of(id_token), headers=headers)


def proof_of(key: Ed25519PrivateKey) -> str:
    return make_proof(key, method="POST", url="http://identity/token", now=datetime.now(UTC))


async def sent_again(
    platform: Platform, issuer: str, folder: Path
) -> tuple[httpx.Response, list[httpx.Response]]:
    """Open a session, and return the answer, and those to a thief and to who sends the exchange again.

    It is sent to the same replica, to the one that ran before, and to one that starts afterwards.
    """
    async with replica(platform, folder) as first:
        key, thief = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
        origin = str(platform.network.read()["origin"])
        id_token, proof = await id_token_for(key, issuer, network=origin), proof_of(key)
        refused = [await exchange(first, id_token, proof_of(thief))]
        opened = await exchange(first, id_token, proof)
        refused += [await exchange(first, id_token, sent) for sent in (proof, proof_of(key))]
    url = platform.service_url("identity")
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=60) as running:
        refused.append(await exchange(running, id_token, proof))
    (folder / "later").mkdir()
    async with replica(platform, folder / "later") as later:
        refused.append(await exchange(later, id_token, proof_of(key)))
    return opened, refused


async def test_a_nurse_logs_in_signs_with_the_session_and_is_out_when_it_ends(
    platform: Platform, start_provider: StartProvider, tmp_path: Path
) -> None:
    salus = Salus(platform.state.folder)
    machine = Machine(salus)
    hospital = (await salus.required("party", "register", "hospital", "--kind", "member", "--json")).json
    person = ("party", "register", "nora", "--kind", "person", "--member", "hospital", "--as", "hospital")
    joined = (await salus.required(*person, "--role", "clinician", "--json")).json
    nora, own_key = joined["did"], joined["keys"][0]["id"]
    issuer = await start_provider({"nora": nora, "boss": hospital["did"]})
    added = ("provider", "add", "north", "--member", "hospital", "--issuer", issuer, "--client", "salus")
    await salus.required(*added)
    same = await salus.required("provider", "keys", "north", "--as", "hospital")
    listed = (await salus.required("provider", "list", "--json")).json

    logged_in = await machine.log_in("nora", "--name", "shift", "--json")
    assert logged_in.code == Exit.OK, logged_in.err
    session = logged_in.json["key_id"]
    nobody = await machine.log_in("boss", "--name", "boss")
    own = await salus("party", "revoke-key", nora, own_key, "--reason", "left", "--as", "shift")
    kept = platform.network.folder / "keys/sessions/shift.pem"
    stolen_key = kept.read_bytes()
    await salus.required("logout", "shift")
    is_gone = not kept.exists()
    kept.write_bytes(stolen_key)
    kept.chmod(0o600)
    by_key = ("--key", kept, "--key-id", session)
    after = await salus("party", "revoke-key", nora, session, "--reason", "left", *by_key)

    assert "are the same" in same.out
    assert [one["issuer"] for one in listed] == [issuer]
    assert nobody.code == Exit.NO
    assert "not-of-provider" in nobody.err
    assert (own.code, "session-key" in own.err) == (Exit.NO, True), own
    assert is_gone
    assert "key-revoked" in after.err

    opened, refused = await sent_again(platform, issuer, tmp_path)
    await salus.required("provider", "withdraw", "north", "--as", "hospital")
    closed = await salus("login", "north", "--no-browser")

    assert (opened.status_code, opened.json()["did"]) == (200, nora)
    assert {answer.status_code for answer in refused} == {400}
    codes = [answer.json()["code"] for answer in refused]
    assert codes[0] == "key-not-of-login"
    assert set(codes[1:]) <= {"token-used", "dpop-proof-expired"}
    assert "token-used" in codes
    assert "unknown-provider" in closed.err
