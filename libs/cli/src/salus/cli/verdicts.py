"""What a receipt says, as facts, on the screen and as an exit code: accepted, refused, or no proof at all."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path
from typing import Any

from rich.table import Table

from salus.cli.console import out
from salus.cli.display import styled
from salus.cli.exits import CommandError, Exit
from salus.crypto.text_files import read_file
from salus.events.envelope import VALUE_BYTES_MAX
from salus.ledger.errors import ReceiptError
from salus.ledger.policy import Policy
from salus.ledger.receipt import RECEIPT_BYTES_MAX, VerifiedReceipt, verify_receipt

ACCEPTED, REFUSED, INVALID = "accepted", "refused", "invalid"
# From good to bad: of many receipts the worst decides how the command ends.
OUTCOMES = (ACCEPTED, REFUSED, INVALID)


def facts_of(file: Path, trusted: Policy, event: Path | None) -> dict[str, Any]:
    """Return what the receipt in a file says; `outcome` is one of OUTCOMES."""
    value = None if event is None else _read(event, VALUE_BYTES_MAX)
    try:
        data = read_file(file, bytes_max=RECEIPT_BYTES_MAX)
    except OSError as error:
        return {"outcome": INVALID, "code": "unreadable", "detail": f"{file}: {error.strerror}"}
    try:
        verified = verify_receipt(data, trusted, event=value)
    except ReceiptError as error:
        hint = "; its lines end with CR: an editor or a transfer changed the file" if b"\r" in data else ""
        return {"outcome": INVALID, "code": error.code, "detail": f"{error}{hint}"}
    return _facts(verified, checked=event is not None)


def _read(file: Path, bytes_max: int) -> bytes:
    try:
        return read_file(file, bytes_max=bytes_max)
    except OSError as error:
        raise CommandError(Exit.USAGE, f"{file}: {error.strerror}") from None


def raise_for(facts: dict[str, Any]) -> None:
    """End the command as the outcome says; of many receipts the facts name the `file`.

    Raises:
        CommandError: the record was refused, or the receipt does not verify.
    """
    whose = f"{facts['file']}: " if "file" in facts else ""
    if facts["outcome"] == INVALID:
        raise CommandError(Exit.NO, f"{whose}the receipt does not verify: {facts['detail']}")
    if facts["outcome"] == REFUSED:
        sentence = f"{whose}REFUSED: {facts['reason']}; this proves that it was refused"
        raise CommandError(Exit.REFUSED, sentence)


def show(facts: dict[str, Any]) -> None:
    """Show whom it was checked against, and what one receipt says unless it does not verify."""
    show_trusted(facts)
    if facts["outcome"] == INVALID:
        return
    leaf, block, log = facts["leaf"], facts["block"], facts["log"]
    table = Table(show_header=False, box=None)
    mark = styled("[green]✓[/]" if facts["outcome"] == ACCEPTED else "[red]•[/]")
    if facts["outcome"] == REFUSED:
        told = styled(
            "[bold red]{}[/]: the ledger did not accept this record; this proves that it was refused",
            facts["reason"],
        )
        table.add_row(styled("[bold red]✗ REFUSED[/]"), told)
    # What was not checked has no tick.
    unchecked = styled("[dim]•[/]")
    given = styled("its bytes are the ones" if facts["event_checked"] else "[dim]not given[/]")
    table.add_row(styled("{} event", mark if facts["event_checked"] else unchecked), given)
    place = f"{leaf['topic']} {leaf['partition']} {leaf['offset']}"
    table.add_row(styled("{} leaf", mark), styled("{}: [bold]{}[/]", place, leaf["status"]))
    table.add_row(styled("{} block", mark), f"{block['origin']} {block['height']}, sealed {block['time']}")
    table.add_row(styled("{} log", mark), f"{log['origin']}, entry {log['index']} of {log['size']}")
    witnesses = ", ".join(cosigner["name"] for cosigner in facts["cosigners"])
    table.add_row(styled("{} witnesses", mark if witnesses else unchecked), witnesses or "none asked for")
    out.print(table)


def show_trusted(facts: dict[str, Any]) -> None:
    """Show whose keys the receipts were checked against."""
    logs, files = (", ".join(facts["trusted"][name]) for name in ("logs", "files"))
    out.print(styled("trusted: {}, as in {}", logs, files), soft_wrap=True)


def show_line(file: Path, facts: dict[str, Any]) -> None:
    """Show in one line what one of many receipts says."""
    if facts["outcome"] == INVALID:
        line = styled("[bold red]✗[/] {}: does not verify: {}", file, facts["detail"])
    else:
        leaf = facts["leaf"]
        place = f"{leaf['topic']} {leaf['partition']} {leaf['offset']}"
        if facts["outcome"] == ACCEPTED:
            line = styled("[green]✓[/] {}: {}", file, place)
        else:
            line = styled("[bold red]✗[/] {}: {}: [bold red]REFUSED: {}[/]", file, place, facts["reason"])
    out.print(line, soft_wrap=True)


def _facts(verified: VerifiedReceipt, *, checked: bool) -> dict[str, Any]:
    leaf, header, checkpoint = verified.leaf, verified.header, verified.checkpoint
    reason = {} if leaf.is_accepted else {"reason": leaf.status.removeprefix("rejected:")}
    return {
        "outcome": ACCEPTED if leaf.is_accepted else REFUSED,
        **reason,
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
