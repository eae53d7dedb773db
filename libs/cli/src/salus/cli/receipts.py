"""`salus receipts`: fetch the receipts of many events, by source and id, in one go."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any

import typer

from salus.cli.callers import did_of
from salus.cli.console import Json, emit_line, out
from salus.cli.display import shown, styled
from salus.cli.exits import CommandError, Exit
from salus.cli.interrupts import run_until_signal
from salus.cli.outputs import Outputs
from salus.cli.state import require_service, running_platform
from salus.cli.verdicts import ACCEPTED, REFUSED
from salus.client import EventName, NoReceipt, Receipt, ReceiptSource, ReceiptUnavailableError
from salus.crypto.text_files import read_text_file
from salus.ledger.errors import LedgerError, ReceiptError
from salus.ledger.json_reader import JsonError, read_json
from salus.ledger.merkle import leaf_hash
from salus.ledger.policy import Policy

_NAME_CHARS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.")
_NAME_CHARS_MAX = 100
# A receipt that is not of the event asked for, and none at all.
OTHER, MISSING = "other", "missing"


def receipts(
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Ids of events; - reads one a line.")],
    source: Annotated[
        str, typer.Option(help="Who published them: a name given to `party register`, or a DID.")
    ],
    to: Annotated[Path, typer.Option(help="The folder that the receipts are written to, as ID.salus.")],
    events: Annotated[
        Path | None,
        typer.Option(help="The folder with the events' exact bytes, as ID.json.", file_okay=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Fetch the receipts of accepted events by source and id, verify them, and write each to a file.

    A receipt names neither source nor id: that it is of the event asked for, only the event's bytes tell.
    Ends with 5 if a record was refused, with 1 if a receipt is missing or of another event.
    """
    platform = running_platform()
    publisher = did_of(platform, source)
    names = [EventName(publisher, id_) for id_ in _ids(ids)]
    policy = Policy.from_network(read_text_file(platform.network.file))
    to.mkdir(parents=True, exist_ok=True)
    url = require_service(platform, "anchoring")
    counts = run_until_signal(_fetch(url, policy, names, to, events, as_json=as_json))
    _raise_for(counts)


def _raise_for(counts: Counter[str]) -> None:
    if counts[OTHER]:
        raise CommandError(Exit.NO, f"{counts[OTHER]} of {counts.total()} receipts are of other events")
    if counts[MISSING]:
        raise CommandError(Exit.NO, f"{counts[MISSING]} of {counts.total()} have no receipt")
    if counts[REFUSED]:
        raise CommandError(Exit.REFUSED, f"{counts[REFUSED]} of {counts.total()} were refused by the ledger")


def _ids(arguments: Sequence[str]) -> list[str]:
    ids = list(arguments)
    if ids == ["-"]:
        lines = sys.stdin.buffer.read().decode("utf-8", "surrogateescape").split("\n")
        ids = [line for line in lines if line]
    for number, id_ in enumerate(ids, 1):
        try:
            id_.encode()
        except UnicodeEncodeError:
            raise CommandError(Exit.USAGE, f"id {number} is not UTF-8: {shown(id_)}") from None
    return ids


async def _fetch(  # what is asked, of whom, and where to
    url: str, policy: Policy, names: list[EventName], to: Path, events: Path | None, *, as_json: bool
) -> Counter[str]:
    """Return how many receipts had which of the outcomes."""
    counts: Counter[str] = Counter()
    try:
        async with ReceiptSource(url, policy) as source:
            rest = iter(names)
            async for found in source.fetch_many(names):
                name = next(rest)
                facts = _take(name, found, to / file_name(name.id), _event_of(name, events))
                counts[facts["outcome"]] += 1
                _tell(facts, as_json=as_json)
    except ReceiptUnavailableError as error:
        raise CommandError(Exit.NOT_RUNNING, str(error)) from None
    except LedgerError as error:
        raise CommandError(Exit.NO, f"a receipt does not verify: {error}") from None
    return counts


def _take(name: EventName, found: Receipt | NoReceipt, file: Path, event: bytes | None) -> dict[str, Any]:
    """Write one receipt to its file, unless it is of another event; return what is known of it."""
    facts: dict[str, Any] = {"id": name.id}
    if isinstance(found, NoReceipt):
        return facts | {"outcome": MISSING, "code": found.code, "detail": found.detail}
    if found.verified is None:
        raise ReceiptError("leaf", "it was not verified")
    leaf = found.verified.leaf
    if event is not None and leaf_hash(event) != leaf.digest:
        detail = f"the receipt is of another record, at {leaf.topic} {leaf.partition} {leaf.offset}"
        return facts | {"outcome": OTHER, "code": "other-event", "detail": detail}
    outputs = Outputs()
    outputs.write(file, found.data)
    outputs.require_all(f"the receipt of {name.id} was fetched")
    facts |= {"receipt": str(file), "compared": event is not None}
    if leaf.is_accepted:
        return facts | {"outcome": ACCEPTED}
    return facts | {"outcome": REFUSED, "reason": leaf.status.removeprefix("rejected:")}


def _event_of(name: EventName, events: Path | None) -> bytes | None:
    """Return the event's bytes from the folder, if they are there and say that they are this event."""
    if events is None:
        return None
    file = events / file_name(name.id, ".json")
    try:
        value = file.read_bytes()
    except FileNotFoundError:
        return None
    try:
        said = read_json(value)
    except JsonError as error:
        raise CommandError(Exit.USAGE, f"{file} is no event: {error.why}") from None
    if not isinstance(said, dict) or (said.get("source"), said.get("id")) != (name.source, name.id):
        raise CommandError(Exit.USAGE, f"{file} is not the event {name.id} of {name.source}")
    return value


def _tell(facts: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        emit_line(facts)
        return
    match facts["outcome"]:
        case "accepted" if facts["compared"]:
            line = styled("[green]✓[/] {}", facts["receipt"])
        case "accepted":
            line = styled("[dim]•[/] {}: not compared with the event", facts["receipt"])
        case "refused":
            apart = "" if facts["compared"] else "; not compared with the event"
            line = styled("[bold red]✗[/] {}: REFUSED: {}{}", facts["receipt"], facts["reason"], apart)
        case _:
            line = styled("[red]✗[/] {}: {}", facts["id"], facts["detail"])
    out.print(line, soft_wrap=True)


def file_name(id_: str, ending: str = ".salus") -> str:
    """Return the file name for an event's id: the id itself where it can be one, else its SHA-256."""
    plain = id_ and set(id_) <= _NAME_CHARS and not id_.startswith(".") and len(id_) <= _NAME_CHARS_MAX
    return f"{id_ if plain else sha256(id_.encode()).hexdigest()}{ending}"
