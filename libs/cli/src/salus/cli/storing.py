"""`salus object`: store, read, check and erase what is off the ledger."""

from __future__ import annotations

import asyncio
import mimetypes
import os
import re
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints
from urllib.parse import quote
from uuid import uuid4

import httpx
import msgspec
import typer

from salus.cli.callers import (
    ANSWER_BYTES_MAX,
    ANSWER_S_MAX,
    CALL_S_MAX,
    As,
    KeyFile,
    KeyId,
    NotSentError,
    RefusedError,
    advised,
    answering,
    call,
    refusal,
    require_done,
    signer_of,
    signing,
)
from salus.cli.choices import Choices
from salus.cli.confirmation import require_terminal, require_yes
from salus.cli.consents import (
    PURPOSES,
    BreakGlass,
    Decision,
    PatientArgument,
    PatientOption,
    Purpose,
    denial,
    question,
)
from salus.cli.console import Json, emit, err, out
from salus.cli.exits import CommandError, Exit
from salus.cli.interrupts import run_until_signal
from salus.cli.outputs import Force, Output, Sink, hand_over, handing_over, printing, require_place
from salus.cli.own_types import catalogue_for
from salus.cli.resumable_put import FileSource, put_resumably, read_begun
from salus.cli.service_answers import checked_answer, read_answer
from salus.cli.state import require_service, running_platform
from salus.cli.transfer_bar import transfer_bar
from salus.client.bounded_http import bounded_client, raw_client
from salus.client.objects import ObjectBrokenOffError, ObjectRefusedError, open_object
from salus.client.pseudonyms import new_nonce
from salus.client.uploads import NewObject
from salus.devkit.platform import Platform
from salus.events.contexts.storage import SubjectErased
from salus.events.did import LocalSigner
from salus.events.envelope import CONTENT_TYPE, decode_event
from salus.events.errors import RejectedError
from salus.events.sealing_context import records_of


class _Made(msgspec.Struct, frozen=True):
    patient: str


class _Stored(msgspec.Struct, frozen=True):
    object: str


class _Fault(msgspec.Struct, frozen=True):
    part: str
    fault: str
    segment: int | None = None


class _Report(msgspec.Struct, frozen=True):
    intact: bool
    checked: tuple[str, ...]
    faults: tuple[_Fault, ...]


class _Erased(msgspec.Struct, frozen=True):
    objects: int


app = typer.Typer(no_args_is_help=True, help="Encrypted objects under their patients' keys.")
CHUNK_BYTES = 256 * 1024
RANGE = re.compile(r"([0-9]{1,18})-([0-9]{0,18})|-[0-9]{1,18}", re.ASCII)
NOTHING_ERASED = "nothing was erased"
BASES = Choices(get_args(get_type_hints(SubjectErased)["basis"]))


@app.command()
def subject(
    nonce: Annotated[
        str | None,
        typer.Option(help="What makes her pseudonym: 32 digits 0-9a-f; random by default."),
    ] = None,
    as_name: As = "operator",
    key: KeyFile = None,
    key_id: KeyId = None,
    as_json: Json = False,
) -> None:
    """Give a new patient a pseudonym and a key pair; as the organisation that answers for her data.

    Register her before anything about her is published. The same nonce makes the same pseudonym again.
    """
    platform = running_platform()
    signer = signer_of(platform, as_name, key, key_id)
    body = {"nonce": nonce or new_nonce()}
    answer = asyncio.run(call(platform, "storage", "POST", "/subjects", signer=signer, body=body))
    made = checked_answer("storage", answer.content, _Made)
    with printing(f"{made['patient']} has a key"):
        if as_json:
            emit(made)
        else:
            out.print(made["patient"], highlight=False, soft_wrap=True)


@app.command()
def put(
    file: Annotated[Path, typer.Argument(help="What to store.", exists=True, dir_okay=False)],
    patient: PatientOption,
    media_type: Annotated[str | None, typer.Option(help="Its media type; guessed by default.")] = None,
    object_id: Annotated[
        str | None, typer.Option("--object", metavar="ID", help="Its id; a new one by default.")
    ] = None,
    purpose: Annotated[
        str | None,
        typer.Option(
            help=f"Ask for a decision to write first, for this HL7 purpose: {', '.join(PURPOSES.values)}.",
            **PURPOSES.typed("PURPOSE"),
        ),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            help="Keep here where the upload is, and go on from there; gone once stored.", dir_okay=False
        ),
    ] = None,
    as_name: As = "operator",
    key: KeyFile = None,
    key_id: KeyId = None,
    as_json: Json = False,
) -> None:
    """Store a file, encrypted to its patient's key; its commitment goes onto the ledger.

    Who does not act for her steward needs a consent to write: with --purpose a decision is asked for first.
    With --resume, for large files, what came before a break is not sent again.
    """
    platform = running_platform()
    kind = media_type or mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    signer = signer_of(platform, as_name, key, key_id)
    source = FileSource.of(file)
    begun = read_begun(resume, source, patient=patient)
    name = object_id or (begun.object if begun else str(uuid4()))
    asked = question(patient, name, action="write", purpose=purpose, break_glass=None)
    # An empty file has nothing to go on with.
    if resume is None or not source.size:
        work = _put(platform, signer, file, asked, kind=kind, decided=purpose is not None)
    else:
        new, decide = NewObject(patient, name, kind), partial(_decision, platform, signer, asked)
        work = put_resumably(platform, signer, source, new, begun, resume, decide=decide if purpose else None)
    stored = run_until_signal(work)
    with printing(f"object {stored['object']} is stored"):
        if as_json:
            emit(stored)
        else:
            out.print(stored["object"], highlight=False, soft_wrap=True)


async def _put(
    platform: Platform, signer: LocalSigner, file: Path, asked: dict[str, Any], *, kind: str, decided: bool
) -> dict[str, Any]:
    headers, auth = {"Content-Type": kind}, signing(signer, "storage", platform.network, stream=True)
    if decided:
        headers["Salus-Decision"] = await _decision(platform, signer, asked)
    url = require_service(platform, "storage")
    timeout = httpx.Timeout(CALL_S_MAX, write=None)
    path, query = f"/objects/{quote(asked['object'], safe='')}", {"patient": asked["patient"]}
    try:
        with answering("storage"):
            async with bounded_client(
                ANSWER_BYTES_MAX, trust_env=False, base_url=url, timeout=timeout
            ) as http:
                body = _chunks(file)
                answer = await http.put(path, params=query, content=body, headers=headers, auth=auth)
    except NotSentError:
        raise
    except CommandError as error:
        doubt = "it is not known whether the file was stored: look with `salus audit search --patient`"
        raise CommandError(error.code, f"{error}; {doubt}") from error
    try:
        require_done("storage", answer)
    except RefusedError as refused:
        raise advised(refused) from None
    return checked_answer("storage", answer.content, _Stored)


async def _chunks(file: Path) -> AsyncIterator[bytes]:
    with file.open("rb") as source, transfer_bar("storing", os.fstat(source.fileno()).st_size) as advance:
        while chunk := source.read(CHUNK_BYTES):
            yield chunk
            advance(len(chunk))


@app.command()
def get(
    object_id: Annotated[str, typer.Argument(metavar="OBJECT", help="The object's id.")],
    patient: PatientOption,
    part: Annotated[
        str | None,
        typer.Option(
            "--range", metavar="BYTES", help="A part of it: 0-99, 100- from there on, -100 the last."
        ),
    ] = None,
    output: Output = None,
    force: Force = False,
    purpose: Purpose = None,
    break_glass: BreakGlass = None,
    as_name: As = "operator",
    key: KeyFile = None,
    key_id: KeyId = None,
) -> None:
    """Ask for a decision and read an object under it; it comes as it was stored, also in its content coding.

    A file is there once all of it came. What stdout got before a read was broken off is genuine.
    """
    if part is not None:
        _require_range(part)
    require_place(output, undone="nothing was read", force=force)
    platform = running_platform()
    signer = signer_of(platform, as_name, key, key_id)
    asked = question(patient, object_id, action="read", purpose=purpose, break_glass=break_glass)
    with handing_over(output, done=f"{object_id} was read") as sink:
        run_until_signal(_get(platform, signer, asked, part, sink))


def _require_range(part: str) -> None:
    """Raise CommandError unless it is one range that can be: HTTP takes any other for none, and reads all."""
    found = RANGE.fullmatch(part)
    if found is None:
        raise CommandError(Exit.USAGE, "--range: 0-99, 100- or -100; nothing was read")
    if found[1] and found[2] and int(found[1]) > int(found[2]):
        raise CommandError(Exit.USAGE, f"--range: {part} ends before it begins; nothing was read")


async def _get(
    platform: Platform, signer: LocalSigner, asked: dict[str, Any], part: str | None, sink: Sink
) -> None:
    """Read an object, or the part of it, into what takes its pieces; raises CommandError."""
    token = await _decision(platform, signer, asked)
    url, auth = require_service(platform, "storage"), signing(signer, "storage", platform.network)
    timeout = httpx.Timeout(CALL_S_MAX)
    try:
        with answering("storage"):
            async with (
                raw_client(trust_env=False, base_url=url, timeout=timeout) as http,
                open_object(
                    http,
                    asked["object"],
                    patient=asked["patient"],
                    decision=token,
                    auth=auth,
                    byte_range=part,
                ) as stream,
            ):
                with transfer_bar("reading", stream.length) as advance:
                    async for piece in stream.pieces():
                        sink(piece)
                        advance(len(piece))
    except ObjectRefusedError as refused:
        raise refusal("storage", refused.answer) from None
    except ObjectBrokenOffError as error:
        told = f"the read was broken off: {error}; `salus audit search --patient` says why"
        raise CommandError(Exit.NO, told) from error


async def _decision(platform: Platform, signer: LocalSigner, asked: dict[str, Any]) -> str:
    """Return the token of a decision; raises CommandError if it is denied."""
    answer = await call(platform, "consent", "POST", "/decisions", signer=signer, body=asked)
    decision = read_answer("consent", answer.content, Decision)
    if not decision.allowed:
        raise denial(decision.reasons, decision.explanation)
    return str(decision.token)


@app.command("open")
def open_(
    event: Annotated[Path, typer.Argument(help="The event, as it is on its topic.", exists=True)],
    field: Annotated[str, typer.Option(help="The sealed field of its data.")] = "content",
    output: Output = None,
    force: Force = False,
    purpose: Purpose = None,
    break_glass: BreakGlass = None,
    as_name: As = "operator",
    key: KeyFile = None,
    key_id: KeyId = None,
) -> None:
    """Ask for a decision and read what is sealed in a field of an event."""
    require_place(output, undone="nothing was read", force=force)
    platform = running_platform()
    signer = signer_of(platform, as_name, key, key_id)
    value = event.read_bytes()
    try:
        shown = decode_event(value, catalogue_for(value, platform))
    except RejectedError as error:
        raise CommandError(Exit.USAGE, f"the file is no event of the network: {error}") from None
    envelope, record = shown.envelope, records_of(shown)[0]
    asked = question(envelope.subject, record, action="read", purpose=purpose, break_glass=break_glass)
    query = {"patient": envelope.subject, "source": envelope.source, "id": envelope.id, "field": field}
    content = run_until_signal(_open(platform, signer, value, asked, query))
    hand_over(content, output, done=f"the event {envelope.id} was opened", private=True)


async def _open(
    platform: Platform, signer: LocalSigner, value: bytes, asked: dict[str, Any], query: dict[str, str]
) -> bytes:
    token = await _decision(platform, signer, asked)
    headers = {"Salus-Decision": token, "Content-Type": CONTENT_TYPE}
    url, auth = require_service(platform, "storage"), signing(signer, "storage", platform.network)
    with answering("storage"):
        async with (
            asyncio.timeout(ANSWER_S_MAX),
            bounded_client(ANSWER_BYTES_MAX, trust_env=False, base_url=url, timeout=CALL_S_MAX) as http,
        ):
            answer = await http.post("/sealed/open", params=query, content=value, headers=headers, auth=auth)
    require_done("storage", answer)
    return answer.content


@app.command()
def verify(
    object_id: Annotated[str, typer.Argument(metavar="OBJECT", help="The object's id.")],
    patient: PatientOption,
    as_name: As = "operator",
    key: KeyFile = None,
    key_id: KeyId = None,
    as_json: Json = False,
) -> None:
    """Compare what is stored with what the ledger commits to; exits with 1 if it differs."""
    platform = running_platform()
    signer = signer_of(platform, as_name, key, key_id)
    path, query = f"/objects/{object_id}/verify", [("patient", patient)]
    answer = asyncio.run(call(platform, "storage", "GET", path, signer=signer, query=query))
    report = checked_answer("storage", answer.content, _Report)
    if as_json:
        emit(report)
    elif report["intact"]:
        out.print(f"{object_id} is as the ledger says: {', '.join(report['checked'])}", highlight=False)
    if not report["intact"]:
        faults = "; ".join(_sentence(fault) for fault in report["faults"])
        raise CommandError(Exit.NO, f"{object_id} is damaged: {faults}")


def _sentence(fault: dict[str, Any]) -> str:
    segment = "" if fault.get("segment") is None else f" {fault['segment']}"
    return f"{fault['part']}{segment}: {fault['fault']}"


@app.command()
def erase(
    patient: PatientArgument,
    basis: Annotated[
        str,
        typer.Option(help=f"Why: {', '.join(BASES.values)}.", **BASES.typed("BASIS")),
    ],
    yes: Annotated[bool, typer.Option("--yes", help="Erase without asking, for scripts.")] = False,
    as_name: As = "operator",
    key: KeyFile = None,
    key_id: KeyId = None,
    as_json: Json = False,
) -> None:
    """Destroy a patient's key: all that it sealed is unreadable for ever, and every proof still holds.

    It asks before.
    """
    if not yes:
        require_terminal(undone=NOTHING_ERASED)
    platform = running_platform()
    signer = signer_of(platform, as_name, key, key_id)
    if not yes:
        told = f"What is sealed for {patient} will be unreadable for ever, for everybody."
        err.print(told, highlight=False, soft_wrap=True)
        require_yes("Erase?", undone=NOTHING_ERASED)
    path = f"/subjects/{patient}/key"
    answer = asyncio.run(call(platform, "storage", "DELETE", path, signer=signer, body={"basis": basis}))
    erased = checked_answer("storage", answer.content, _Erased)
    if as_json:
        emit(erased)
    else:
        out.print(f"the key of {patient} is gone; objects gone with it: {erased['objects']}", highlight=False)
