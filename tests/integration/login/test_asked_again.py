"""A real provider asks again who steps up, and its ID token says when it looked."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

import httpx
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.asking import NETWORK, UNASKED
from tests.integration.login.browser import log_in
from tests.integration.login.conftest import StartProvider

from salus.cli.login_providers import ProviderFacts
from salus.cli.logins import ProviderLogin
from salus.cli.openid import exchange_code, keys_of, metadata_of
from salus.client.dpop import make_proof
from salus.events.contexts.identity_login import ProviderAdded, SessionOpened
from salus.events.logins import Logins
from salus.events.sessions import LoginError, session_of
from salus.events.step_up import StepUp, needed_for
from salus.events.token_exchange import form_of

NORTH = "did:web:north.example"
NORA = f"{NORTH}:nora"
REDIRECT = "http://127.0.0.1:9/callback"
AGE_S = 1200


class Opened(NamedTuple):
    """A session, and when it was opened."""

    fact: SessionOpened
    at: datetime


async def _logged_in(facts: ProviderAdded, *, step_up: bool, cookies: httpx.Cookies) -> Opened:
    """Log nora in as `salus login` does, and return the session that follows from what the provider says."""
    metadata = await metadata_of(facts.issuer)
    key = Ed25519PrivateKey.generate()
    one = ProviderLogin(key, secrets.token_urlsafe(), secrets.token_urlsafe(48), step_up)
    told: Mapping[str, object] = {name: getattr(facts, name) for name in ProviderFacts.__struct_fields__}
    url = one.url(ProviderFacts(**told), metadata, redirect=REDIRECT, network=NETWORK)  # type: ignore[arg-type]  # by name
    back = parse_qs(urlsplit(await log_in(url, "nora", cookies)).query)
    form = {
        "grant_type": "authorization_code",
        "code": back["code"][0],
        "redirect_uri": REDIRECT,
        "client_id": facts.client,
        "code_verifier": one.verifier,
    }
    id_token, now = await exchange_code(metadata, form), datetime.now(UTC)
    proof = make_proof(one.key, method="POST", url="https://identity.example/token", now=now)
    opened = session_of(body=form_of(id_token), proof=proof, providers=[facts], network=NETWORK, at=now)
    return Opened(opened, now)


async def test_who_is_signed_on_is_asked_again_for_a_step_up_alone(start_provider: StartProvider) -> None:
    issuer = await start_provider({"nora": NORA}, age_s=AGE_S)
    keys, cookies = await keys_of(await metadata_of(issuer), None), httpx.Cookies()
    facts = ProviderAdded(
        "north", NORTH, issuer, "salus", "salus_did", (), 3600, keys, sign_on_s_max=3600, request=UNASKED
    )
    signed_on, again, fresh = [
        await _logged_in(facts, step_up=step_up, cookies=cookies) for step_up in (False, False, True)
    ]
    with pytest.raises(LoginError) as refused:
        judged(again, msgspec.structs.replace(facts, sign_on_s_max=AGE_S - 1))

    assert [lacks_login(facts, one) for one in (signed_on, again, fresh)] == [True, True, False]
    assert again.fact.authenticated == signed_on.fact.authenticated
    assert refused.value.code == "sign-on-too-old"


def judged(opened: Opened, provider: ProviderAdded) -> SessionOpened:
    """Return the session that others derive from the same exchange."""
    request = opened.fact.request
    body, proof = (request.body or "").encode(), request.proof or ""
    return session_of(body=body, proof=proof, providers=[provider], network=NETWORK, at=opened.at)


def lacks_login(provider: ProviderAdded, opened: Opened) -> bool:
    """Tell whether nobody breaks the glass in the session right after it was opened."""
    logins = Logins({provider.provider: provider})
    logins.apply(judged(opened, provider), at=opened.at)
    session = logins.keys[opened.fact.key.id]
    authentication, levels = session.authentication, session.levels
    assert levels is not None
    return needed_for(StepUp.EMERGENCY, authentication, levels=levels, at=opened.at) is not None
