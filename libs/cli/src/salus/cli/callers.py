"""Who a command acts as, and calling a service's HTTP API as that party."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer

from salus.cli.display import shown
from salus.cli.exits import CommandError, Exit
from salus.cli.state import require_service
from salus.client import RequestSigner
from salus.crypto.keys import ensure_ed25519, load_ed25519
from salus.devkit.platform import Platform
from salus.events.did import LocalSigner
from salus.ledger.json_reader import JsonError, read_json

CALL_S_MAX = 60.0
PARTIES = "parties"

As = Annotated[
    str,
    typer.Option("--as", help="Whose key to use: operator, a service, or a name given to `party register`."),
]
KeyFile = Annotated[
    Path | None, typer.Option("--key", help="PEM (PKCS#8) Ed25519 key to use instead.", dir_okay=False)
]


def party_key_file(platform: Platform, name: str) -> Path:
    """Return where the key of a party that `party register` made is kept."""
    if not name or "/" in name or name.startswith("."):
        raise CommandError(Exit.USAGE, f"{name!r} cannot be a key's name")
    return platform.network.folder / "keys" / PARTIES / f"{name}.pem"


def signer_of(platform: Platform, name: str, key_file: Path | None) -> LocalSigner:
    """Return the signer that a command was told to act as.

    Raises:
        CommandError: there is no key of that name.
    """
    if key_file is not None:
        return LocalSigner(load_ed25519(key_file))
    for path in (party_key_file(platform, name), platform.network.key_file(name)):
        if path.exists():
            return LocalSigner(load_ed25519(path))
    known = sorted(p.stem for p in (platform.network.folder / "keys").glob(f"{PARTIES}/*.pem"))
    raise CommandError(
        Exit.USAGE,
        f"there is no key called {name}; there are operator, the services and: {', '.join(known) or '-'}",
    )


def did_of(platform: Platform, name: str) -> str:
    """Return the DID that a name stands for; a DID stands for itself."""
    return name if name.startswith("did:") else signer_of(platform, name, None).did


def make_party_key(platform: Platform, name: str) -> LocalSigner:
    """Return the signer of a party's key, made if there is none yet."""
    path = party_key_file(platform, name)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    return LocalSigner(ensure_ed25519(path))


async def call(
    platform: Platform,
    service: str,
    method: str,
    path: str,
    *,
    signer: LocalSigner | None = None,
    body: Any = None,
    query: Sequence[tuple[str, str]] = (),
) -> httpx.Response:
    """Send one request and return the answer.

    Raises:
        CommandError: the service does not answer, or answered with a problem; its code is in the message.
    """
    url = require_service(platform, service)
    auth = None if signer is None else signing(signer, service)
    try:
        async with httpx.AsyncClient(trust_env=False, base_url=url, timeout=CALL_S_MAX) as http:
            answer = await http.request(method, path, json=body, params=list(query), auth=auth)
    except httpx.TransportError as error:
        raise CommandError(Exit.NOT_RUNNING, f"{service} does not answer: {type(error).__name__}") from error
    if answer.is_error:
        raise refusal(service, answer)
    # Whatever calls itself JSON in any way is read strictly.
    if "json" in answer.headers.get("content-type", "").lower():
        _require_json(service, answer)
    return answer


def _require_json(service: str, answer: httpx.Response) -> None:
    try:
        read_json(answer.content)
    except JsonError as error:
        raise CommandError(Exit.NO, f"{service}'s answer cannot be trusted: {error.why}") from None


def signing(signer: LocalSigner, service: str, *, stream: bool = False) -> RequestSigner:
    """Return what signs requests to a service; with `stream` without reading their bodies before."""
    return RequestSigner(signer, f"salus:{service}", stream=stream)


def refusal(service: str, answer: httpx.Response) -> CommandError:
    """Return the error that says what a service answered, from its problem details (RFC 9457)."""
    try:
        problem = read_json(answer.content)
    except JsonError:
        problem = {}
    if not isinstance(problem, dict):
        problem = {}
    code = str(problem.get("code", answer.status_code))
    detail = str(problem.get("detail") or problem.get("title") or answer.reason_phrase)
    sentence = f"{service} refused ({shown(code)}): {shown(detail + _fields(problem.get('errors')))}"
    away = answer.status_code >= httpx.codes.INTERNAL_SERVER_ERROR
    return CommandError(Exit.NOT_RUNNING if away else Exit.NO, sentence)


def _fields(errors: object) -> str:
    """Return which fields are wrong and why, as a problem's `errors` tell it."""
    told = errors if isinstance(errors, list) else []
    facts = [f"{one.get('at')}: {one.get('what')}" for one in told if isinstance(one, dict)]
    return f" ({'; '.join(facts)})" if facts else ""
