"""`salus login` and `salus provider`: what a browser brings back, what a provider answers, what is kept."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from joserfc.jwk import ECKey, RSAKey
from tests.unit.cli.test_approvals import request_of, text_of
from tests.unit.events.samples import NOON

from salus.cli import openid
from salus.cli.exits import CommandError
from salus.cli.login_providers import ProviderFacts
from salus.cli.logins import ProviderLogin
from salus.cli.loopback import LoopbackRedirect
from salus.cli.openid import ProviderMetadata, keys_of, metadata_of, require_safe
from salus.cli.request_acts import act_of
from salus.cli.session_keys import SessionKey, forget_session, load_session, save_session, session_file
from salus.devkit.network import NetworkFolder

ISSUER = "https://login.north.example"
METADATA = ProviderMetadata(ISSUER, f"{ISSUER}/jwks", f"{ISSUER}/auth", f"{ISSUER}/token")
RSA = RSAKey.generate_key(2048).as_dict(private=False)
EC = ECKey.generate_key("P-256").as_dict(private=False)
SMALL = {"kty": "RSA", "n": urlsafe_b64encode(b"\xff" * 128).rstrip(b"=").decode(), "e": "AQAB"}


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What providers answer, by URL; nothing else is asked."""
    told: dict[str, Any] = {}

    def client(_: int, **options: Any) -> httpx.AsyncClient:
        assert options["follow_redirects"] is False

        def handle(request: httpx.Request) -> httpx.Response:
            answer = told[str(request.url)]
            return answer if isinstance(answer, httpx.Response) else httpx.Response(200, json=answer)

        return httpx.AsyncClient(transport=httpx.MockTransport(handle))

    monkeypatch.setattr(openid, "bounded_client", client)
    return told


@pytest.mark.parametrize(
    ("target", "is_taken"),
    [
        ("/callback?state=abc&code=xyz", True),
        ("/callback?state=abc&code=xyz&iss=https%3A%2F%2Flogin.north.example", True),
        ("/callback?state=abc&code=xyz&iss=https%3A%2F%2Fevil.example", False),
        ("/callback?state=abd&code=xyz", False),
        ("/callback?code=xyz", False),
        ("/other?state=abc&code=xyz", False),
        ("/callback?state=%C3%A4&code=xyz", False),
    ],
)
def test_only_the_redirect_of_this_login_at_its_issuer_brings_the_code(
    target: str, *, is_taken: bool
) -> None:
    redirect = LoopbackRedirect("abc", ISSUER)

    assert redirect.take(target) is is_taken
    assert redirect.code == ("xyz" if is_taken else None)


@pytest.mark.parametrize(
    "url",
    [
        "http://login.north.example",
        "http://169.254.169.254/latest",
        "file:///etc/passwd",
        "https://user@login.north.example",
        "https://",
        "//login.north.example",
        "https://[",
    ],
)
def test_a_provider_is_asked_over_https_or_on_this_machine(url: str) -> None:
    with pytest.raises(CommandError):
        require_safe(url, "--issuer")
    assert require_safe("http://127.0.0.1:8080/realms/a", "--issuer")


async def test_a_provider_that_says_it_is_another_one_is_none(answers: dict[str, Any]) -> None:
    told = msgspec.to_builtins(METADATA)
    url = f"{ISSUER}/.well-known/openid-configuration"
    answers[url] = told
    assert await metadata_of(ISSUER) == METADATA
    for change in (
        {"issuer": "https://evil.example"},
        {"token_endpoint": "http://10.0.0.1/token"},
        {"jwks_uri": 1},
    ):
        answers[url] = told | change
        with pytest.raises(CommandError):
            await metadata_of(ISSUER)
    for answer in (httpx.Response(302, headers={"Location": ISSUER}), httpx.Response(200, content=b"{")):
        answers[url] = answer
        with pytest.raises(CommandError):
            await metadata_of(ISSUER)


async def test_of_a_providers_keys_those_are_taken_that_sign_id_tokens(answers: dict[str, Any]) -> None:
    answers[METADATA.jwks_uri] = {
        "keys": [
            RSA | {"kid": "a"},
            RSA | {"kid": "b", "use": "enc"},
            RSA | {"kid": "c", "alg": "PS256", "use": "sig"},
            RSA | {"kid": "d", "alg": "RSA-OAEP"},
            RSA | {"kid": None},
            SMALL | {"kid": "e"},
            EC | {"kid": "f"},
            EC | {"kid": "g", "crv": "P-384"},
            {"kty": "oct", "kid": "h"},
        ]
    }
    keys = await keys_of(METADATA, None)

    assert [(key.kid, key.alg) for key in keys] == [("a", "RS256"), ("c", "PS256"), ("f", "ES256")]


async def test_keys_at_another_host_are_asked_where_somebody_named_it(answers: dict[str, Any]) -> None:
    elsewhere = msgspec.structs.replace(METADATA, jwks_uri="https://keys.example/jwks")
    answers[elsewhere.jwks_uri] = {"keys": [EC | {"kid": "f"}]}

    with pytest.raises(CommandError, match="--jwks"):
        await keys_of(elsewhere, None)
    assert len(await keys_of(elsewhere, elsewhere.jwks_uri)) == 1


def test_a_session_is_kept_for_its_owner_alone_and_forgotten(tmp_path: Path) -> None:
    folder, key = NetworkFolder(tmp_path), Ed25519PrivateKey.generate()
    kept = save_session(folder, "shift", SessionKey(key, "did:web:a.example#session-z6Mk"))
    loaded = load_session(folder, "shift")

    assert kept.stat().st_mode & 0o777 == 0o600
    assert loaded is not None
    assert loaded.key_id == "did:web:a.example#session-z6Mk"
    assert loaded.key.private_bytes_raw() == key.private_bytes_raw()
    forget_session(folder, "shift")
    assert load_session(folder, "shift") is None
    for name in ("", "../me", ".me"):
        with pytest.raises(CommandError):
            session_file(folder, name)


def provider(**facts: Any) -> ProviderFacts:
    told: dict[str, Any] = {
        "provider": "north",
        "member": "did:web:north.example",
        "issuer": ISSUER,
        "client": "salus",
        "did_claim": "salus_did",
        "acr": (),
        "session_s_max": 600,
        "keys": (),
    }
    return ProviderFacts(**(told | facts))


@pytest.mark.parametrize(
    ("facts", "step_up", "asked"),
    [
        ({}, False, {}),
        ({"sign_on_s_max": 7200}, False, {"max_age": "7200"}),
        ({"sign_on_s_max": 7200, "acr": ("high",)}, False, {"max_age": "7200", "acr_values": "high"}),
        ({"sign_on_s_max": 7200}, True, {"max_age": "300", "prompt": "login"}),
        (
            {"sign_on_s_max": 7200, "step_up_acr": ("higher", "highest")},
            True,
            {"max_age": "300", "prompt": "login", "acr_values": "higher highest"},
        ),
        (
            {"sign_on_s_max": 0, "acr": ("high", "higher"), "step_up_acr": ("higher", "odd")},
            True,
            {"max_age": "300", "prompt": "login", "acr_values": "higher"},
        ),
    ],
)
def test_a_provider_is_asked_for_a_login_as_fresh_and_strong_as_is_needed(
    facts: dict[str, Any], asked: dict[str, str], *, step_up: bool
) -> None:
    one = ProviderLogin(Ed25519PrivateKey.generate(), "state", "verifier", step_up=step_up)
    url = one.url(provider(**facts), METADATA, redirect="http://127.0.0.1:1/callback", network="n")
    query = dict(parse_qsl(urlsplit(url).query))

    assert {name: query[name] for name in ("max_age", "prompt", "acr_values") if name in query} == asked
    assert query["code_challenge_method"] == "S256"


def test_the_second_operator_sees_who_would_log_in_where_and_by_which_keys() -> None:
    key = {"kid": "f", "alg": "ES256", "x": EC["x"], "y": EC["y"]}
    body = {
        "provider": "north",
        "member": "did:web:north.example",
        "issuer": ISSUER,
        "client": "salus",
        "did_claim": "salus_did",
        "acr": ["high"],
        "session_s_max": 600,
        "sign_on_s_max": 7200,
        "step_up_acr": ["higher"],
        "keys": [key],
    }
    shown = [
        text_of(act_of(request_of(body, target="/providers", party=None), at=NOON)),
        text_of(act_of(request_of({"keys": [key]}, target="/providers/north/keys", party=None), at=NOON)),
    ]

    for told in (
        ISSUER,
        "north",
        "did:web:north.example",
        "salus_did",
        "salus",
        "high",
        "600",
        "7200",
        "higher",
    ):
        assert told in shown[0]
    assert all("ES256 f" in told for told in shown)
    with pytest.raises(CommandError):
        act_of(request_of(body | {"note": "x"}, target="/providers", party=None), at=NOON)
