"""`salus storage verify`: compare the bucket of objects with the ledger, and go on where it was left."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, aclosing
from pathlib import Path
from typing import Annotated, Any

import httpx
import msgspec
import typer
from rich.progress import DownloadColumn, TextColumn, TimeElapsedColumn

from salus.cli.callers import As, KeyFile, KeyId, answering, require_stream, signer_of, signing
from salus.cli.console import Json, emit, out, progress_bar
from salus.cli.display import plain
from salus.cli.event_stream import StreamError, events_of
from salus.cli.exits import CommandError, Exit
from salus.cli.interrupts import run_until_signal
from salus.cli.service_answers import checked_answer
from salus.cli.state import require_service, running_platform
from salus.client.bounded_http import bounded_client
from salus.crypto.private_files import write_private
from salus.ledger.json_reader import JsonError

app = typer.Typer(no_args_is_help=True, help="What lies in the bucket of encrypted objects.")

SILENCE_S_MAX = 300.0
"""Between two events: the largest object is read in less."""

FINDINGS_KEPT_MAX = 10_000
"""So many findings are kept for `--json` and `--resume`; all are counted, and shown as they are found."""


class _Progress(msgspec.Struct, frozen=True):
    objects: int
    stored_bytes: int
    after: str


class _Told(msgspec.Struct, frozen=True):
    progress: _Progress | None = None
    finding: dict[str, Any] | None = None
    sentence: str = ""
    result: str | None = None
    paused: bool = False
    error: str | None = None
    detail: str = ""
    after: str = ""


class Verification(msgspec.Struct):
    """How far a verification is; a file keeps it from one run to the next."""

    after: str = ""
    objects: int = 0
    stored_bytes: int = 0
    differences: int = 0
    findings: list[dict[str, Any]] = []


Show = Callable[[Verification, str], None]
"""Hears of each progress and, with a sentence, of each finding."""


@app.command()
def verify(
    resume: Annotated[
        Path | None,
        typer.Option(
            help="Keep here how far it is, and go on from there; gone once it is done.", dir_okay=False
        ),
    ] = None,
    as_name: As = "operator",
    key: KeyFile = None,
    key_id: KeyId = None,
    as_json: Json = False,
) -> None:
    """Compare every object in the bucket with the ledger; names what is damaged, missing, or no event names.

    Ends with 0 if all is as the ledger says, with 1 if something differs. Objects of others beside ours are
    named and change nothing.
    """
    platform = running_platform()
    url = require_service(platform, "storage")
    signer = signer_of(platform, as_name, key, key_id)
    done = _read(resume)
    with ExitStack() as stack:
        show = _bar(stack, resume, quiet=as_json)
        run_until_signal(_verify(url, lambda: signing(signer, "storage", platform.network), done, show))
    if resume is not None:
        resume.unlink(missing_ok=True)
    strays = sum(finding.get("kind") == "stray" for finding in done.findings)
    if as_json:
        facts = {"objects": done.objects, "stored_bytes": done.stored_bytes, "findings": done.findings}
        emit({"result": "differs" if done.differences else "intact", **facts})
    elif not done.differences:
        beside = f"; {strays} of others lie beside them" if strays else ""
        told = f"{done.objects} objects, {done.stored_bytes} bytes, are as the ledger says{beside}"
        out.print(plain(told), soft_wrap=True)
    if done.differences:
        raise CommandError(Exit.NO, f"{done.differences} differ from the ledger, of {done.objects} objects")


async def _verify(url: str, auth: Callable[[], httpx.Auth], done: Verification, show: Show) -> None:
    timeout = httpx.Timeout(10.0, read=SILENCE_S_MAX)
    with answering("storage"):
        async with bounded_client(None, trust_env=False, base_url=url, timeout=timeout) as http:
            while await verified_on(http, auth(), done, show):
                pass


async def verified_on(http: httpx.AsyncClient, auth: httpx.Auth, done: Verification, show: Show) -> bool:
    """Go on with a verification as long as one stream lasts; tell whether there is more.

    Raises:
        CommandError: storage refuses, a part of it is away, or its answer cannot be read.
        httpx.TransportError: it does not answer.
    """
    before = Verification(objects=done.objects, stored_bytes=done.stored_bytes)
    try:
        async with http.stream("GET", "/verification", params={"after": done.after}, auth=auth) as answer:
            await require_stream("storage", answer)
            async with aclosing(events_of(answer.aiter_bytes())) as events:
                async for event in events:
                    raw = checked_answer("storage", (event.data or "{}").encode(), _Told)
                    told = msgspec.convert(raw, _Told)
                    if told.error is not None:
                        raise CommandError(Exit.NOT_RUNNING, f"storage: {told.detail}")
                    if told.result is not None:
                        return False
                    if told.paused:
                        return True
                    _take(told, done, before, show)
    except StreamError as error:
        raise CommandError(Exit.NOT_RUNNING, f"storage's answer cannot be read: {error}") from error
    raise CommandError(Exit.NOT_RUNNING, "storage ended before the verification did; run it again")


def _take(told: _Told, done: Verification, before: Verification, show: Show) -> None:
    if told.progress is not None:
        done.after = told.progress.after
        done.objects = before.objects + told.progress.objects
        done.stored_bytes = before.stored_bytes + told.progress.stored_bytes
    elif told.finding is not None:
        done.differences += told.finding.get("kind") != "stray"
        if len(done.findings) < FINDINGS_KEPT_MAX:
            done.findings.append({**told.finding, "sentence": told.sentence})
    show(done, told.sentence)


def _bar(stack: ExitStack, resume: Path | None, *, quiet: bool) -> Show:
    """Return what shows a verification, and keeps it in the file."""
    columns = (TextColumn("{task.description}", markup=False), DownloadColumn(), TimeElapsedColumn())
    bar = stack.enter_context(progress_bar(*columns))
    task = bar.add_task("comparing objects", total=None)

    def show(done: Verification, sentence: str) -> None:
        bar.update(task, description=f"compared {done.objects} objects", completed=done.stored_bytes)
        if sentence and not quiet:
            out.print(plain(sentence, "red"), soft_wrap=True)
        if resume is not None and not sentence:
            write_private(resume, msgspec.json.encode(done), durable=False)

    return show


def _read(resume: Path | None) -> Verification:
    if resume is None or not resume.exists():
        return Verification()
    try:
        return msgspec.json.decode(resume.read_bytes(), type=Verification)
    except (OSError, msgspec.MsgspecError, JsonError) as error:
        raise CommandError(Exit.USAGE, f"--resume: {resume} is no verification: remove it") from error
