"""`salus login` and `logout`: log in at a provider of the network, and sign with the key of the session."""

from __future__ import annotations

import asyncio
import secrets
import webbrowser
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Annotated
from urllib.parse import urlencode

import httpx
import msgspec
import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from salus.cli.callers import CALL_S_MAX, RefusedError, answering, json_body
from salus.cli.console import Json, emit, err, out
from salus.cli.display import shown, styled
from salus.cli.exits import CommandError, Exit
from salus.cli.login_providers import Provider, ProviderFacts, provider_facts
from salus.cli.loopback import LoopbackRedirect
from salus.cli.network_access import Directory, IdentityUrl, NetworkAccess
from salus.cli.openid import ProviderMetadata, exchange_code, metadata_of
from salus.cli.party_commands import target_of
from salus.cli.service_answers import read_answer
from salus.cli.session_keys import SessionKey, forget_session, load_session, save_session
from salus.client.auth import RequestLine
from salus.client.bounded_http import bounded_client
from salus.client.dpop import make_proof
from salus.events.did import LocalSigner
from salus.events.dpop import base64url, thumbprint_of
from salus.events.sessions import nonce_of
from salus.events.step_up import LOGIN_S_MAX as STEP_UP_S_MAX
from salus.events.token_exchange import form_of

LOGIN_S_MAX = 300
ANSWER_BYTES_MAX = 64 * 1024


class _Session(msgspec.Struct, frozen=True):
    access_token: str
    expires_in: int
    did: str
    provider: str
    acr: str | None = None


class _Problem(msgspec.Struct, frozen=True):
    error: str
    error_description: str = ""
    code: str = ""


@dataclass(frozen=True)
class ProviderLogin:
    """One login: the session's key, and what ties the provider's answers to it."""

    key: Ed25519PrivateKey
    state: str
    verifier: str

    step_up: bool = False

    def url(self, provider: ProviderFacts, metadata: ProviderMetadata, *, redirect: str, network: str) -> str:
        """Return where a browser goes."""
        asked = {
            "response_type": "code",
            "client_id": provider.client,
            "redirect_uri": redirect,
            "scope": "openid",
            "state": self.state,
            "nonce": nonce_of(thumbprint_of(self.key.public_key()), network=network),
            "code_challenge": base64url(sha256(self.verifier.encode()).digest()),
            "code_challenge_method": "S256",
        } | self._wanted(provider)
        joint = "&" if "?" in metadata.authorization_endpoint else "?"
        return f"{metadata.authorization_endpoint}{joint}{urlencode(asked)}"

    def _wanted(self, provider: ProviderFacts) -> dict[str, str]:
        """Return how fresh and strong the login is to be; `max_age` lets the provider say `auth_time`."""
        levels, wanted = provider.acr, {}
        if self.step_up:
            levels = _enough_for_both(provider)
            wanted = {"max_age": str(STEP_UP_S_MAX), "prompt": "login"}
        elif provider.sign_on_s_max is not None:
            wanted = {"max_age": str(provider.sign_on_s_max)}
        return wanted | ({"acr_values": " ".join(levels)} if levels else {})


def _enough_for_both(provider: ProviderFacts) -> tuple[str, ...]:
    """Return the levels that step up; those alone that are enough to log in, if the network wants some."""
    levels = provider.step_up_acr or provider.acr
    return tuple(level for level in levels if not provider.acr or level in provider.acr)


def login(
    provider: Provider,
    name: Annotated[str, typer.Option(help="What `--as` calls the session.")] = "me",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of this machine that the browser comes back to.")
    ] = 0,
    browser: Annotated[bool, typer.Option(help="Open a browser; the address is shown anyhow.")] = True,
    step_up: Annotated[
        bool,
        typer.Option(
            "--step-up", help="Log in anew though you are signed on, for emergencies, erasures and links."
        ),
    ] = False,
    directory: Directory = None,
    identity: IdentityUrl = None,
    as_json: Json = False,
) -> None:
    """Log in at a provider of the network; afterwards `--as NAME` signs with the key of the session.

    A session of that name which was open here is ended.
    """
    network = NetworkAccess.of(directory, identity)
    before = load_session(network.folder, name)
    ways = _Ways(port=port, browser=browser, step_up=step_up)
    asyncio.run(_log_in(network, provider, name, ways, as_json=as_json))
    if before is not None:
        _end_before(network, before)


def logout(
    name: Annotated[str, typer.Argument(help="What `salus login` called the session.")] = "me",
    directory: Directory = None,
    identity: IdentityUrl = None,
) -> None:
    """End a session of yours, and forget its key."""
    network = NetworkAccess.of(directory, identity)
    session = load_session(network.folder, name)
    if session is None:
        raise CommandError(Exit.USAGE, f"NAME: there is no session called {shown(name)} here")
    asyncio.run(_end(network, session, reason="left"))
    forget_session(network.folder, name)
    out.print(f"the session {name} is over", highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class _Ways:
    """How somebody logs in."""

    port: int
    browser: bool
    step_up: bool


async def _end(network: NetworkAccess, session: SessionKey, *, reason: str) -> None:
    signer = LocalSigner(session.key, session.key_id)
    body = json_body({"key_id": session.key_id, "reason": reason})
    line = RequestLine("POST", target_of("parties", signer.did, "keys", "revoke"), body)
    await network.command(line, signer=signer)


def _end_before(network: NetworkAccess, before: SessionKey) -> None:
    """End a session whose key is not here any more, if it is not over by its time."""
    try:
        asyncio.run(_end(network, before, reason="rotated"))
    except CommandError as error:
        if isinstance(error, RefusedError) and error.problem == "unauthenticated":
            return
        err.print(styled("the session before was not ended: {}", error), soft_wrap=True, highlight=False)


async def _log_in(network: NetworkAccess, provider: str, name: str, ways: _Ways, *, as_json: bool) -> None:
    facts = await provider_facts(network, provider)
    metadata = await metadata_of(facts.issuer)
    one = ProviderLogin(
        Ed25519PrivateKey.generate(), secrets.token_urlsafe(32), secrets.token_urlsafe(48), ways.step_up
    )
    with LoopbackRedirect(one.state, facts.issuer, ways.port) as redirect:
        url = one.url(facts, metadata, redirect=redirect.url, network=network.origin)
        err.print(styled("log in with a browser on this machine: {}", url), soft_wrap=True, highlight=False)
        if ways.browser:
            webbrowser.open(url)
        code = await asyncio.to_thread(redirect.wait, seconds=LOGIN_S_MAX)
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect.url,
            "client_id": facts.client,
            "code_verifier": one.verifier,
        }
        id_token = await exchange_code(metadata, form)
    session = await _open(network, one.key, id_token)
    kept = save_session(network.folder, name, SessionKey(one.key, session.access_token))
    if as_json:
        emit({"did": session.did, "key_id": session.access_token, "expires_in": session.expires_in})
        return
    minutes = session.expires_in // 60
    said = styled(
        "you are {} for {} minutes; the key is in {}: use --as {}", session.did, minutes, kept, name
    )
    out.print(said, highlight=False, soft_wrap=True)


async def _open(network: NetworkAccess, key: Ed25519PrivateKey, id_token: str) -> _Session:
    url = f"{network.url.rstrip('/')}/token"
    proof = make_proof(key, method="POST", url=url, now=datetime.now(UTC))
    headers = {"DPoP": proof, "Content-Type": "application/x-www-form-urlencoded"}
    with answering("identity"):
        async with bounded_client(ANSWER_BYTES_MAX, trust_env=False, timeout=CALL_S_MAX) as http:
            answer = await http.post(url, content=form_of(id_token), headers=headers)
    if answer.status_code == httpx.codes.OK:
        return read_answer("identity", answer.content, _Session)
    if answer.status_code == httpx.codes.BAD_REQUEST:
        problem = read_answer("identity", answer.content, _Problem)
        why = f"identity opened no session ({shown(problem.code)}): {shown(problem.error_description)}"
        raise CommandError(Exit.NO, why)
    raise CommandError(Exit.NOT_RUNNING, f"identity opened no session: it answered {answer.status_code}")
