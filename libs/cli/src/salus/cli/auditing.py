"""`salus audit`: search the trail, and follow it live."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Annotated, Any

import httpx
import msgspec
import typer
from rich.table import Table

from salus.cli.callers import (
    As,
    KeyFile,
    KeyId,
    call,
    complete_party,
    did_of,
    require_stream,
    signer_of,
    signing,
)
from salus.cli.choices import Choices
from salus.cli.console import Json, emit, emit_line, err, out
from salus.cli.display import plain, styled
from salus.cli.event_stream import StreamError, events_of
from salus.cli.exits import CommandError, Exit
from salus.cli.interrupts import run_until_signal
from salus.cli.reconciliation import reconcile
from salus.cli.service_answers import checked_answer
from salus.cli.state import require_service, running_platform
from salus.client import RequestSigner
from salus.client.bounded_http import bounded_client
from salus.ledger.json_reader import read_json


class _Place(msgspec.Struct, frozen=True):
    topic: str
    partition: int
    offset: int


class _Entry(msgspec.Struct, frozen=True):
    time: str
    outcome: str
    severity: int
    rules: tuple[str, ...]
    summary: str
    ledger: _Place
    actor: str | None = None
    in_doubt: tuple[str, ...] = ()


class _Page(msgspec.Struct, frozen=True):
    entries: tuple[_Entry, ...]
    next: str | None


app = typer.Typer(no_args_is_help=True, help="Who did what to whose data, when, why, and by which rule.")
RECONNECT_S = 1.0
# The stream sends a comment every 15 s when nothing happens.
SILENCE_S_MAX = 45.0
_DID_CHARS_MAX = 24
_SEVERITY_STYLES = {3: "yellow", 4: "red", 5: "bold red"}

Who = Annotated[
    str | None,
    typer.Option(
        help="Actor or member: a name given to `party register`, or a DID.", autocompletion=complete_party
    ),
]
Patient = Annotated[str | None, typer.Option(help="Patient's pseudonym.")]
ACTIONS = Choices(["C", "R", "U", "D", "E"])
OUTCOMES = Choices(["success", "refused", "rejected", "without-effect", "unentitled", "rights-pending"])
Action = Annotated[str | None, typer.Option(help="C, R, U, D or E.", **ACTIONS.typed("ACTION"))]
Type = Annotated[str | None, typer.Option("--type", help="Event type.")]
Object = Annotated[str | None, typer.Option("--object", help="Object id.")]
Outcome = Annotated[
    str | None,
    typer.Option(help=f"{', '.join(OUTCOMES.values)}.", **OUTCOMES.typed("OUTCOME")),
]


app.command()(reconcile)


@app.command()
def search(
    words: Annotated[list[str] | None, typer.Argument(help="Words that must all occur.")] = None,
    who: Who = None,
    patient: Patient = None,
    action: Action = None,
    event_type: Type = None,
    object_id: Object = None,
    outcome: Outcome = None,
    in_doubt: Annotated[
        str | None, typer.Option(metavar="KEY", help="What this key signed while it was in other hands.")
    ] = None,
    since: Annotated[str | None, typer.Option(help="Sealed from this time on (RFC 3339).")] = None,
    until: Annotated[str | None, typer.Option(help="Sealed before this time (RFC 3339).")] = None,
    stated_since: Annotated[
        str | None, typer.Option(help="Said by its author to be from this time on (RFC 3339).")
    ] = None,
    stated_until: Annotated[
        str | None, typer.Option(help="Said by its author to be before this time (RFC 3339).")
    ] = None,
    cursor: Annotated[str | None, typer.Option(help="The page after this one, as it says.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="So many entries at most.")] = 50,
    as_name: As = "operator",
    key: KeyFile = None,
    key_id: KeyId = None,
    as_json: Json = False,
) -> None:
    """Search the trail, newest first."""
    platform = running_platform()
    filters = _filters(
        who=who and did_of(platform, who),
        patient=patient,
        action=action,
        type=event_type,
        object=object_id,
        outcome=outcome,
        in_doubt=in_doubt,
        since=since,
        until=until,
        stated_since=stated_since,
        stated_until=stated_until,
        q=" ".join(words or []) or None,
        cursor=cursor,
        limit=str(limit),
    )
    signer = signer_of(platform, as_name, key, key_id)
    answer = asyncio.run(call(platform, "audit", "GET", "/trail", signer=signer, query=filters))
    page = checked_answer("audit", answer.content, _Page)
    if as_json:
        emit(page)
        return
    if not page["entries"]:
        out.print("the trail has no such entry; a record is there some seconds after it was sealed")
        return
    table = Table(box=None, header_style="bold")
    table.add_column("time", no_wrap=True)
    for column in ("outcome", "what", "rules", "record"):
        table.add_column(column, overflow="fold")
    for entry in page["entries"]:
        place = entry["ledger"]
        record = f"{place['topic']} {place['partition']} {place['offset']}"
        style = _SEVERITY_STYLES.get(entry["severity"], "")
        rules = ", ".join(entry["rules"])
        outcome_text = f"{entry['outcome']}, in doubt" if entry.get("in_doubt") else entry["outcome"]
        table.add_row(entry["time"][:23], outcome_text, what_of(entry), rules, record, style=style)
    out.print(table)
    if page["next"]:
        out.print(styled("[dim]there is more: --cursor {}[/]", page["next"]))


@app.command()
def tail(
    who: Who = None,
    patient: Patient = None,
    action: Action = None,
    event_type: Type = None,
    object_id: Object = None,
    outcome: Outcome = None,
    as_name: As = "operator",
    key: KeyFile = None,
    key_id: KeyId = None,
    as_json: Json = False,
) -> None:
    """Follow the trail live, until Ctrl-C."""
    platform = running_platform()
    url = require_service(platform, "audit")
    filters = _filters(
        who=who and did_of(platform, who),
        patient=patient,
        action=action,
        type=event_type,
        object=object_id,
        outcome=outcome,
    )
    auth = signing(signer_of(platform, as_name, key, key_id), "audit", platform.network)
    run_until_signal(_tail(url, auth, filters, as_json=as_json))


async def _tail(url: str, auth: RequestSigner, filters: list[tuple[str, str]], *, as_json: bool) -> None:
    timeout = httpx.Timeout(10.0, read=SILENCE_S_MAX)
    async with bounded_client(None, trust_env=False, base_url=url, timeout=timeout) as http:
        await watch(http, auth, filters, as_json=as_json)


async def watch(
    http: httpx.AsyncClient, auth: httpx.Auth, filters: list[tuple[str, str]], *, as_json: bool
) -> None:
    """Show every entry from now on; after a break go on from the last one, without a gap.

    Raises:
        CommandError: audit does not answer at the first attempt, or refuses.
    """
    last: str | None = None
    while True:
        headers = {"Last-Event-ID": last} if last else {}
        try:
            # A new bearer for each connection, for a stream outlives one.
            async with http.stream(
                "GET", "/trail/stream", params=tuple(filters), headers=headers, auth=auth
            ) as answer:
                if not answer.is_success:
                    if last is None or answer.status_code < httpx.codes.INTERNAL_SERVER_ERROR:
                        await require_stream("audit", answer)
                else:
                    async with aclosing(events_of(answer.aiter_bytes())) as events:
                        async for event in events:
                            last = event.last_id or last
                            if event.data is not None:
                                show_entry(event.data, event.last_id, as_json=as_json)
        except StreamError as error:
            raise CommandError(Exit.NOT_RUNNING, f"audit's stream cannot be read: {error}") from error
        except httpx.TransportError as error:
            if last is None:
                raise CommandError(Exit.NOT_RUNNING, f"audit does not answer: {error}") from error
        await asyncio.sleep(RECONNECT_S)


def show_entry(data: str, place: str | None, *, as_json: bool) -> None:
    """Show an entry; one that cannot be shown is named, and the watch goes on."""
    try:
        entry: dict[str, Any] = read_json(data.encode())
        style = _SEVERITY_STYLES.get(entry["severity"], "")
        text = f"{entry['time'][11:23]}  {entry['outcome']:9} {what_of(entry)}"
    except (ValueError, LookupError, TypeError) as error:
        err.print(
            plain(f"entry {place or '?'} cannot be shown: {type(error).__name__}", "yellow"), soft_wrap=True
        )
        return
    if as_json:
        emit_line(entry)
    else:
        out.print(plain(text, style), soft_wrap=True)


def what_of(entry: dict[str, Any]) -> str:
    """Return the sentence of an entry, with who did it if the sentence does not say that."""
    summary, actor = str(entry["summary"]), str(entry.get("actor") or "")
    # As audit shortens a DID in its sentences.
    short = actor if len(actor) <= _DID_CHARS_MAX else f"{actor[:13]}…{actor[-6:]}"
    return summary if short in summary else f"{summary} By {short}."


def _filters(**given: str | None) -> list[tuple[str, str]]:
    return [(name, value) for name, value in given.items() if value is not None]
