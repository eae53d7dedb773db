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

from salus.cli.callers import CALL_S_MAX, answering, json_body
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
class _Login:
    """One login: the session's key, and what ties the provider's answers to it."""

    key: Ed25519PrivateKey
    state: str
    verifier: str

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
        } | ({"acr_values": " ".join(provider.acr)} if provider.acr else {})
        joint = "&" if "?" in metadata.authorization_endpoint else "?"
        return f"{metadata.authorization_endpoint}{joint}{urlencode(asked)}"


def login(
    provider: Provider,
    name: Annotated[str, typer.Option(help="What `--as` calls the session.")] = "me",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of this machine that the browser comes back to.")
    ] = 0,
    browser: Annotated[bool, typer.Option(help="Open a browser; the address is shown anyhow.")] = True,
    directory: Directory = None,
    identity: IdentityUrl = None,
    as_json: Json = False,
) -> None:
    """Log in at a provider of the network; afterwards `--as NAME` signs with the key of the session."""
    network = NetworkAccess.of(directory, identity)
    asyncio.run(_log_in(network, provider, name, port=port, browser=browser, as_json=as_json))


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
    signer = LocalSigner(session.key, session.key_id)
    body = json_body({"key_id": session.key_id, "reason": "left"})
    line = RequestLine("POST", target_of("parties", signer.did, "keys", "revoke"), body)
    asyncio.run(network.command(line, signer=signer))
    forget_session(network.folder, name)
    out.print(f"the session {name} is over", highlight=False, soft_wrap=True)


async def _log_in(  # the options
    network: NetworkAccess, provider: str, name: str, *, port: int, browser: bool, as_json: bool
) -> None:
    facts = await provider_facts(network, provider)
    metadata = await metadata_of(facts.issuer)
    one = _Login(Ed25519PrivateKey.generate(), secrets.token_urlsafe(32), secrets.token_urlsafe(48))
    with LoopbackRedirect(one.state, facts.issuer, port) as redirect:
        url = one.url(facts, metadata, redirect=redirect.url, network=network.origin)
        err.print(styled("log in with a browser on this machine: {}", url), soft_wrap=True, highlight=False)
        if browser:
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
