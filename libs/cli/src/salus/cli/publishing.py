"""`salus publish`: sign an event and send it, wait for its receipt if asked."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from salus.cli.callers import KeyFile, KeyId, complete_caller, signer_of
from salus.cli.console import Json, emit, out
from salus.cli.display import shown
from salus.cli.exits import CommandError, Exit
from salus.cli.interrupts import run_until_signal
from salus.cli.network_access import NetworkAccess
from salus.cli.outputs import Outputs, require_place
from salus.cli.state import require_service, running_platform
from salus.cli.type_facts import writable_type
from salus.client import (
    DeliveryError,
    EventRefusedError,
    IdReusedError,
    Publisher,
    Receipt,
    ReceiptUnavailableError,
)
from salus.client.identifiers import new_id
from salus.crypto.text_files import read_text_file
from salus.devkit.platform import Platform
from salus.events.contexts import CATALOGUE
from salus.events.did import LocalSigner
from salus.events.errors import RejectedError
from salus.events.event_types import EventData, EventType
from salus.events.type_names import is_own_name
from salus.ledger.json_reader import JsonError, read_json
from salus.ledger.policy import Policy

RECEIPT_S_MAX = 60.0


def _complete_type(incomplete: str) -> list[str]:
    return [known.name for known in CATALOGUE.types() if known.name.startswith(incomplete)]


def publish(  # the facts of one event
    type_name: Annotated[
        str,
        typer.Argument(
            metavar="TYPE",
            help="Event type, as salus.lab.result-released.v1.",
            autocompletion=_complete_type,
        ),
    ],
    subject: Annotated[str, typer.Option(help="What the event is about: a pseudonym, mostly.")],
    data: Annotated[str, typer.Option(help="The event's data as JSON; @FILE reads a file, - reads stdin.")],
    as_name: Annotated[
        str | None,
        typer.Option(
            "--as",
            help="Who signs: a name given to `party register`, or a service.",
            autocompletion=complete_caller,
        ),
    ] = None,
    key: KeyFile = None,
    key_id: KeyId = None,
    event_id: Annotated[str | None, typer.Option("--id", help="Its id; a new one by default.")] = None,
    receipt: Annotated[Path | None, typer.Option(help="Wait for the receipt and write it here.")] = None,
    event: Annotated[Path | None, typer.Option(help="Write the event's exact bytes here.")] = None,
    as_json: Json = False,
) -> None:
    """Sign an event with a key and send it to its topic."""
    platform = running_platform()
    if as_name is None and key is None:
        raise CommandError(
            Exit.USAGE, "say who signs: --as NAME, as given to `party register`, or --key FILE"
        )
    for file in (receipt, event):
        require_place(file, undone="nothing was sent")
    signer = signer_of(platform, as_name or "", key, key_id)
    content = _data_of(_type_named(type_name, platform, signer), data)
    outputs = Outputs()
    event_id = event_id or new_id(datetime.now(UTC))
    sending = _publish(
        platform, signer, content, outputs, subject=subject, event_id=event_id, files=(receipt, event)
    )
    try:
        result = run_until_signal(sending)
    except CommandError as error:
        if error.code is not Exit.INTERRUPTED:
            raise
        told = f"{error}; the event may arrive; repeat it with --id {event_id}"
        raise CommandError(error.code, told) from None
    sent = f"event {result['id']} is at {result['topic']} {result['partition']} {result['offset']}"
    with outputs.printing():
        if as_json:
            emit(result)
        else:
            out.print(sent, highlight=False, soft_wrap=True)
            if "receipt" in result:
                out.print(f"its receipt is in {receipt}", highlight=False, soft_wrap=True)
    outputs.require_all(f"{sent}; repeat it with --id {result['id']}")


async def _publish(
    platform: Platform,
    signer: LocalSigner,
    data: EventData,
    outputs: Outputs,
    *,
    subject: str,
    event_id: str,
    files: tuple[Path | None, Path | None],
) -> dict[str, Any]:
    receipt_file, event_file = files
    policy = Policy.from_network(read_text_file(platform.network.file))
    url = require_service(platform, "anchoring") if receipt_file else None
    try:
        async with Publisher(platform.kafka_bootstrap, signer, receipts_url=url, policy=policy) as publisher:
            handle = await publisher.publish(data, subject=subject, id=event_id)
            position = await handle.position()
            outputs.write(event_file, handle.value)
            result = {
                "id": handle.id,
                "source": signer.did,
                "topic": position.topic,
                "partition": position.partition,
                "offset": position.offset,
            }
            if receipt_file is not None:
                proof = await handle.receipt(RECEIPT_S_MAX)
                # Of a repetition, the bytes of the first attempt, which the receipt is of.
                outputs.write(event_file, proof.value or handle.value)
                result |= _place(proof)
                if outputs.write(receipt_file, proof.data):
                    result["receipt"] = str(receipt_file)
    except RejectedError as error:
        raise CommandError(Exit.NO, f"not sent: {error}") from None
    except IdReusedError as error:
        outputs.write(receipt_file, error.receipt)
        sentence = f"id-reused: another event with the id {error.id} is on the ledger; choose another id"
        raise CommandError(Exit.REFUSED, f"{sentence}{outputs.told}") from None
    except EventRefusedError as error:
        outputs.write(receipt_file, error.receipt)
        raise CommandError(Exit.REFUSED, f"{error}; the receipt proves it{outputs.told}") from None
    except DeliveryError as error:
        again = f"; repeat it with --id {error.undelivered[0].id}" if error.undelivered[0].may_arrive else ""
        raise CommandError(Exit.NOT_RUNNING, f"{error}{again}") from None
    except ReceiptUnavailableError as error:
        raise CommandError(Exit.NOT_RUNNING, f"{error}{outputs.told}") from None
    return result


def _place(proof: Receipt) -> dict[str, Any]:
    """Return where the accepted record is: of a repetition, where the first attempt put it."""
    if proof.verified is None:
        return {}
    leaf = proof.verified.leaf
    return {"topic": leaf.topic, "partition": leaf.partition, "offset": leaf.offset}


def _type_named(name: str, platform: Platform, signer: LocalSigner) -> EventType:
    """Return the type of the release, or of a member of this network if the signer may state it."""
    entry = CATALOGUE.type_named(name)
    if entry is not None:
        return entry
    if is_own_name(name):
        network = NetworkAccess(platform.network, require_service(platform, "identity"))
        return asyncio.run(writable_type(network, name, signer=signer.did))
    names = [known.name for known in CATALOGUE.types()]
    close = get_close_matches(name, names)
    hint = f"it has {', '.join(close)}" if close else "`salus catalogue list` lists them"
    raise CommandError(Exit.USAGE, f"the catalogue has no type {shown(name)}; {hint}")


def _data_of(entry: EventType, text: str) -> EventData:
    if text == "-":
        content = sys.stdin.buffer.read()
    elif text.startswith("@"):
        content = Path(text[1:]).read_bytes()
    else:
        content = text.encode("utf-8", "surrogateescape")
    try:
        return msgspec.convert(read_json(content), entry.data)
    except JsonError as error:
        sentence = f"not sent: not the data of a {entry.name}: {error.why}, in {error.place}"
        raise CommandError(Exit.USAGE, sentence) from None
    except ValueError as error:
        raise CommandError(Exit.NO, f"not sent: not the data of a {entry.name}: {error}") from None
