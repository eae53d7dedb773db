"""Who a command acts as, and calling a service's HTTP API as that party."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer

from salus.cli.display import shown
from salus.cli.exits import CommandError, Exit
from salus.cli.refusal_advice import ADVICE
from salus.cli.service_answers import AnswerError, read_answer
from salus.cli.session_keys import load_session
from salus.cli.state import require_service, running_folder
from salus.client import RequestSigner
from salus.client.bounded_http import bounded_client, with_problem
from salus.crypto.errors import CryptoError
from salus.crypto.keys import SigningKey, load_signing_key
from salus.devkit.errors import DevkitError
from salus.devkit.network import OPERATOR, NetworkFolder, parties
from salus.devkit.platform import Platform
from salus.events.did import LocalSigner
from salus.ledger.json_reader import JsonError, read_json

CALL_S_MAX = 60.0
# That is for each piece: who answers byte by byte would be waited for without an end.
ANSWER_S_MAX = 300.0
# A page of a trail is the largest answer.
ANSWER_BYTES_MAX = 64 * 1024 * 1024
PARTIES = "parties"
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol, httpx.InvalidURL)


def party_key_file(folder: NetworkFolder, name: str) -> Path:
    """Return where the key of a party that `party register` made is kept."""
    if not name or "/" in name or name.startswith("."):
        raise CommandError(Exit.USAGE, f"{name!r} cannot be a key's name")
    return folder.folder / "keys" / PARTIES / f"{name}.pem"


def names_of_parties(folder: NetworkFolder) -> list[str]:
    """Return the names of the keys that `party register` made here."""
    return sorted(path.stem for path in (folder.folder / "keys").glob(f"{PARTIES}/*.pem"))


def complete_party(incomplete: str) -> list[str]:
    """Complete the name of a party whose key is here, for the shell."""
    return [name for name in names_of_parties(NetworkFolder(running_folder())) if name.startswith(incomplete)]


def complete_caller(incomplete: str) -> list[str]:
    """Complete a name whose key is here, for the shell."""
    own = [name for name in (OPERATOR, *parties()) if name.startswith(incomplete)]
    return [*own, *complete_party(incomplete)]


As = Annotated[
    str,
    typer.Option(
        "--as",
        help="Whose key to use: operator, a service, or a name given to `party register` or `login`.",
        autocompletion=complete_caller,
    ),
]
KeyFile = Annotated[
    Path | None, typer.Option("--key", help="PEM (PKCS#8) Ed25519 key to use instead.", dir_okay=False)
]
KeyId = Annotated[
    str | None,
    typer.Option(
        help="Id of that key, unless its holder is the key's own did:key, as did:web:hospital.example#key-1."
    ),
]


class RefusedError(CommandError):
    """A service refused the request, which has no effect. `problem` is the service's stable code."""

    def __init__(self, sentence: str, *, problem: str) -> None:
        super().__init__(Exit.NO, sentence)
        self.problem = problem


class NotSentError(CommandError):
    """The service cannot be reached: it was sent nothing."""


def given_key(path: Path) -> SigningKey:
    """Return the key of a file that a command was given.

    Raises:
        CommandError: it cannot be read, holds something else, or is readable by others.
    """
    try:
        return load_signing_key(path)
    except CryptoError as error:
        raise CommandError(Exit.USAGE, str(error)) from error


def signer_of(platform: Platform, name: str, key_file: Path | None, key_id: str | None = None) -> LocalSigner:
    """Return the signer that a command was told to act as; raises as `signer_in`."""
    return signer_in(platform.network, name, key_file, key_id)


def signer_in(
    folder: NetworkFolder, name: str, key_file: Path | None, key_id: str | None = None
) -> LocalSigner:
    """Return the signer of a key file, or of the key of that name in the network's folder.

    Raises:
        CommandError: there is no key of that name, or the key cannot be used.
    """
    if key_id is not None and not (key_id.startswith("did:") and key_id.partition("#")[2]):
        raise CommandError(Exit.USAGE, "--key-id: a key's id is a DID, # and a name")
    if key_file is not None:
        return LocalSigner(given_key(key_file), key_id)
    for path in (party_key_file(folder, name), folder.key_file(name)):
        if path.exists():
            return LocalSigner(given_key(path), key_id)
    if (session := load_session(folder, name)) is not None:
        return LocalSigner(session.key, session.key_id)
    known = ", ".join(names_of_parties(folder)) or "-"
    raise CommandError(
        Exit.USAGE, f"there is no key called {shown(name)}; there are operator, the services and: {known}"
    )


def did_of(platform: Platform, name: str) -> str:
    """Return the DID that a name stands for; a DID stands for itself."""
    return name if name.startswith("did:") else signer_of(platform, name, None).did


def json_body(body: Any) -> bytes:
    """Return the bytes of a body that is sent, and signed."""
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


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
        CommandError: the service does not answer, or answered with a problem; its code is in the message,
            with what to do next.
    """
    url = require_service(platform, service)
    content = None if body is None else json_body(body)
    auth = None if signer is None else signing(signer, service, platform.network)
    try:
        return await send(service, url, method, path, auth=auth, content=content, query=query)
    except RefusedError as error:
        raise advised(error) from None


async def send(
    service: str,
    url: str,
    method: str,
    path: str,
    *,
    auth: RequestSigner | None = None,
    content: bytes | None = None,
    query: Sequence[tuple[str, str]] = (),
    headers: Mapping[str, str] | None = None,
) -> httpx.Response:
    """Send one request to a service at `url`, with `content`, which is JSON, to the byte.

    Raises:
        NotSentError: the service cannot be reached.
        RefusedError: it refused.
        CommandError: it failed, gave no answer or an odd one, so the outcome is not known.
    """
    fields = {**({} if content is None else {"Content-Type": "application/json"}), **(headers or {})}
    # Empty parameters would take the path's own query away.
    params = httpx.QueryParams(list(query)) if query else None
    with answering(service):
        async with (
            asyncio.timeout(ANSWER_S_MAX),
            bounded_client(ANSWER_BYTES_MAX, trust_env=False, base_url=url, timeout=CALL_S_MAX) as http,
        ):
            answer = await http.request(
                method, path, content=content, params=params, auth=auth, headers=fields
            )
    require_done(service, answer)
    # Whatever calls itself JSON in any way is read strictly.
    if "json" in answer.headers.get("content-type", "").lower():
        _require_json(service, answer)
    return answer


def require_done(service: str, answer: httpx.Response) -> None:
    """Raise unless an answer is one of success.

    Raises:
        CommandError: as `refusal`; or AnswerError, the answer is a redirect, which no service of ours gives.
    """
    if answer.is_error:
        raise refusal(service, answer)
    if not answer.is_success:
        why = f"it is {answer.status_code}, as of a proxy in its place; what was asked for may not be done"
        raise AnswerError(service, why)


def require_no_content(service: str, answer: httpx.Response) -> None:
    """Raise AnswerError unless an answer is the one that says nothing but that it is done: 204."""
    if answer.status_code != httpx.codes.NO_CONTENT:
        raise AnswerError(service, f"it is {answer.status_code} and not 204")


async def require_stream(service: str, answer: httpx.Response) -> None:
    """Raise unless a stream begins; raises as `require_done`, and reads no refusal that has no end."""
    if not answer.is_success:
        require_done(service, await with_problem(answer))


@contextmanager
def answering(service: str) -> Iterator[None]:
    """Say in one sentence that a service did not answer.

    Raises:
        NotSentError: it cannot be reached.
        CommandError: it gave no answer, so the outcome is not known.
    """
    try:
        yield
    except (httpx.TransportError, httpx.InvalidURL, TimeoutError) as error:
        kind = NotSentError if isinstance(error, _NOT_SENT) else CommandError
        why = f"{service} does not answer: {type(error).__name__}; `salus status` says what runs"
        raise kind(Exit.NOT_RUNNING, why) from error


def _require_json(service: str, answer: httpx.Response) -> None:
    read_answer(service, answer.content, object)


def signing(
    signer: LocalSigner, service: str, network: NetworkFolder, *, stream: bool = False
) -> RequestSigner:
    """Return what signs requests to a service; with `stream` without reading their bodies before."""
    return RequestSigner(signer, service, network=origin_of(network), stream=stream)


def origin_of(folder: NetworkFolder, *, option: str = "--directory") -> str:
    """Return the name of the network whose folder this is.

    Raises:
        CommandError: it has no network.json that can be read; `option` says which one it is instead.
    """
    if not folder.file.exists():
        raise CommandError(Exit.USAGE, f"{option}: there is no {folder.file}: name the folder that has it")
    try:
        return str(folder.read()["origin"])
    except DevkitError as error:
        raise CommandError(Exit.USAGE, f"{option}: {error}") from None


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
    if answer.status_code >= httpx.codes.INTERNAL_SERVER_ERROR:
        return CommandError(Exit.NOT_RUNNING, sentence)
    return RefusedError(sentence, problem=code)


def advised(error: RefusedError, *, approved: bool = False) -> RefusedError:
    """Return the refusal with what to do next, if there is advice on its code; `approved`: by somebody."""
    advice = ADVICE.get(error.problem)
    if approved and error.problem == "second-operator-needed":
        advice = "who approved it is none, or is of your organisation: see `salus party list --role operator`"
    return error if advice is None else RefusedError(f"{error}; next: {advice}", problem=error.problem)


def _fields(errors: object) -> str:
    """Return which fields are wrong and why, as a problem's `errors` tell it."""
    told = errors if isinstance(errors, list) else []
    facts = [f"{one.get('at')}: {one.get('what')}" for one in told if isinstance(one, dict)]
    return f" ({'; '.join(facts)})" if facts else ""
