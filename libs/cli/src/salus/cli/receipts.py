"""`salus receipts`: fetch the receipts of many events, by source and id, in one go."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any

import typer

from salus.cli.callers import did_of
from salus.cli.console import Json, emit_line, out
from salus.cli.display import styled
from salus.cli.exits import CommandError, Exit
from salus.cli.interrupts import run_until_signal
from salus.cli.state import require_service, running_platform
from salus.client import EventName, NoReceipt, ReceiptSource, ReceiptUnavailableError
from salus.crypto.text_files import read_text_file
from salus.ledger.errors import LedgerError
from salus.ledger.policy import Policy

_NAME_CHARS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.")
_NAME_CHARS_MAX = 100


def receipts(
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Ids of events; - reads one a line.")],
    source: Annotated[
        str, typer.Option(help="Who published them: a name given to `party register`, or a DID.")
    ],
    to: Annotated[Path, typer.Option(help="The folder that the receipts are written to, as ID.salus.")],
    as_json: Json = False,
) -> None:
    """Fetch the receipts of accepted events by source and id, verify them, and write each to a file."""
    platform = running_platform()
    publisher = did_of(platform, source)
    names = [EventName(publisher, id_) for id_ in _ids(ids)]
    policy = Policy.from_network(read_text_file(platform.network.file))
    to.mkdir(parents=True, exist_ok=True)
    missing = run_until_signal(
        _fetch(require_service(platform, "anchoring"), policy, names, to, as_json=as_json)
    )
    if missing:
        raise CommandError(Exit.NO, f"{missing} of {len(names)} have no receipt")


def _ids(arguments: Sequence[str]) -> list[str]:
    if list(arguments) != ["-"]:
        return [*arguments]
    lines = sys.stdin.buffer.read().decode("utf-8", "surrogateescape").split("\n")
    return [line for line in lines if line]


async def _fetch(url: str, policy: Policy, names: list[EventName], to: Path, *, as_json: bool) -> int:
    missing = 0
    try:
        async with ReceiptSource(url, policy) as source:
            rest = iter(names)
            async for found in source.fetch_many(names):
                name = next(rest)
                facts: dict[str, Any] = {"id": name.id}
                if isinstance(found, NoReceipt):
                    missing += 1
                    facts |= {"code": found.code, "detail": found.detail}
                else:
                    file = to / file_name(name.id)
                    file.write_bytes(found.data)
                    facts |= {"receipt": str(file)}
                _tell(facts, as_json=as_json)
    except ReceiptUnavailableError as error:
        raise CommandError(Exit.NOT_RUNNING, str(error)) from None
    except LedgerError as error:
        raise CommandError(Exit.NO, f"a receipt does not verify: {error}") from None
    return missing


def _tell(facts: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        emit_line(facts)
    elif "receipt" in facts:
        out.print(styled("[green]✓[/] {}", facts["receipt"]), soft_wrap=True)
    else:
        out.print(styled("[red]✗[/] {}: {}", facts["id"], facts["detail"]), soft_wrap=True)


def file_name(id_: str) -> str:
    """Return the file name for an event's id: the id itself where it can be one, else its SHA-256."""
    plain = id_ and set(id_) <= _NAME_CHARS and not id_.startswith(".") and len(id_) <= _NAME_CHARS_MAX
    return f"{id_ if plain else sha256(id_.encode()).hexdigest()}.salus"
