"""`salus verify`: check a receipt offline, with nothing but a policy."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from salus.cli.console import Json, emit, out
from salus.cli.display import styled
from salus.cli.exits import CommandError, Exit
from salus.cli.state import running_folder
from salus.crypto.text_files import read_text_file
from salus.ledger.errors import PolicyError, ReceiptError
from salus.ledger.json_reader import JsonError, read_json
from salus.ledger.policy import Policy
from salus.ledger.receipt import VerifiedReceipt, verify_receipt
from salus.ledger.tlog_policy import parse_tlog_policy

PolicyFile = Annotated[
    Path | None,
    typer.Option(
        help="Whom to trust: a network.json, or a C2SP tlog-policy file in place of the policy in "
        "--network. The local platform's by default."
    ),
]
NetworkFile = Annotated[
    Path | None,
    typer.Option(help="network.json with the shards' keys, which a tlog-policy file does not have."),
]


def read_policy(path: Path | None, network: Path | None = None) -> Policy:
    """Return the policy of a network.json, or that of a tlog-policy file with the shards of `network`.

    Where nothing is given, the local platform's network.json is meant.

    Raises:
        CommandError: there is no such file, or it is something else.
    """
    if path is None:
        return _policy_of(network or running_folder() / "network.json")
    data = _read(path)
    try:
        chosen = parse_tlog_policy(data)
    except PolicyError as not_a_policy:
        return _policy_in(path, data, network, not_a_policy)
    try:
        return _policy_of(network or running_folder() / "network.json").under(chosen)
    except CommandError as error:
        hint = (
            ""
            if network
            else f"{path} is a tlog-policy, which has no shards' keys; name them with --network: "
        )
        raise CommandError(error.code, f"{hint}{error}") from None
    except PolicyError as error:
        raise CommandError(Exit.USAGE, f"{path}: {error}") from None


def _policy_in(path: Path, data: bytes, network: Path | None, not_a_policy: PolicyError) -> Policy:
    """Return the policy of a file that is no tlog-policy; an error is about this file and no other."""
    try:
        read_json(data)
    except JsonError as error:
        why = f"neither a network.json ({error.why}) nor a tlog-policy ({not_a_policy.detail})"
        raise CommandError(Exit.USAGE, f"{path} is {why}") from None
    if network is not None:
        raise CommandError(Exit.USAGE, f"{path} is a network.json: leave out --policy or --network")
    return _policy_of(path)


def _policy_of(network: Path) -> Policy:
    try:
        return Policy.from_network(_read(network))
    except PolicyError as error:
        raise CommandError(Exit.USAGE, f"{network}: {error}") from None


def _read(path: Path) -> bytes:
    try:
        return read_text_file(path)
    except OSError as error:
        raise CommandError(Exit.USAGE, f"{path}: {error.strerror}") from None


def verify(
    receipt: Annotated[Path, typer.Argument(help="The receipt file.", exists=True, dir_okay=False)],
    policy: PolicyFile = None,
    network: NetworkFile = None,
    event: Annotated[
        Path | None,
        typer.Option(help="The event's exact bytes, to check that it is its receipt.", exists=True),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check a receipt offline: leaf, block, log, checkpoint, quorum, each against the keys in the policy."""
    trusted = read_policy(policy, network)
    value = event.read_bytes() if event else None
    data = receipt.read_bytes()
    try:
        verified = verify_receipt(data, trusted, event=value)
    except ReceiptError as error:
        if as_json:
            emit({"valid": False, "code": error.code, "detail": str(error)})
        hint = "; its lines end with CR: an editor or a transfer changed the file" if b"\r" in data else ""
        raise CommandError(Exit.NO, f"the receipt does not verify: {error}{hint}") from None
    facts = _facts(verified, checked=event is not None)
    if as_json:
        emit(facts)
    else:
        _show(facts)


def _facts(verified: VerifiedReceipt, *, checked: bool) -> dict[str, Any]:
    leaf, header, checkpoint = verified.leaf, verified.header, verified.checkpoint
    return {
        "valid": True,
        "event_checked": checked,
        "leaf": {
            "topic": leaf.topic,
            "partition": leaf.partition,
            "offset": leaf.offset,
            "status": leaf.status,
            "digest": leaf.digest.hex(),
            "index": verified.index,
        },
        "block": {
            "origin": header.origin,
            "height": header.height,
            "leaves": header.leaves,
            "time": header.time.isoformat(),
        },
        "log": {
            "origin": checkpoint.origin,
            "index": verified.log_index,
            "size": checkpoint.size,
            "root": b64encode(checkpoint.root).decode(),
        },
        "cosigners": [
            {"name": cosigner.name, "seconds": cosigner.seconds} for cosigner in verified.cosigners
        ],
    }


def _show(facts: dict[str, Any]) -> None:
    leaf, block, log = facts["leaf"], facts["block"], facts["log"]
    table = Table(show_header=False, box=None)
    table.add_row(
        styled("[green]✓[/] event"),
        styled("its bytes are the ones" if facts["event_checked"] else "[dim]not given[/]"),
    )
    place = f"{leaf['topic']} {leaf['partition']} {leaf['offset']}"
    table.add_row(styled("[green]✓[/] leaf"), styled("{}: [bold]{}[/]", place, leaf["status"]))
    table.add_row(styled("[green]✓[/] block"), f"{block['origin']} {block['height']}, sealed {block['time']}")
    table.add_row(styled("[green]✓[/] log"), f"{log['origin']}, entry {log['index']} of {log['size']}")
    witnesses = ", ".join(cosigner["name"] for cosigner in facts["cosigners"]) or "none asked for"
    table.add_row(styled("[green]✓[/] witnesses"), witnesses)
    out.print(table)
