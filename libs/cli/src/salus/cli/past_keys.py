"""`salus key list --at-block`: which keys of parties were valid at a block, from the ledger alone."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path

from rich.table import Table

from salus.archive.errors import ArchiveError
from salus.archive.keys_at_block import KeysAtBlock, keys_at_block
from salus.cli.console import emit, out
from salus.cli.display import plain, shown, shown_moment
from salus.cli.exits import CommandError, Exit
from salus.cli.interrupts import run_until_signal
from salus.cli.ledger_copies import ledger_of
from salus.cli.store_errors import store_error
from salus.ledger.errors import LedgerError
from salus.objects import ObjectsError

_PLACE = re.compile(r"(0|[1-9][0-9]{0,17})/(0|[1-9][0-9]{0,17})")


def list_valid_keys(
    at_block: str, *, party: str | None, network: Path | None, archive: Path | None, as_json: bool
) -> None:
    """Print the keys that could sign what was appended when a block was sealed.

    Raises:
        CommandError: there is no such block under the log's checkpoint, or the ledger is not as signed.
    """
    match = _PLACE.fullmatch(at_block)
    if match is None:
        raise CommandError(Exit.USAGE, f"--at-block: {shown(at_block)} is no SHARD/HEIGHT, as 0/120")
    trust, stores = ledger_of(network, archive)
    try:
        found = run_until_signal(keys_at_block(stores, trust, shard=int(match[1]), height=int(match[2])))
    except (ArchiveError, LedgerError) as error:
        raise CommandError(Exit.NO, f"{error}; `salus ledger fsck` says more") from None
    except ObjectsError as error:
        raise store_error(error) from None
    except ValueError as error:
        raise CommandError(Exit.USAGE, str(error)) from None
    keys = {key_id: key for key_id, key in sorted(found.keys.items()) if party in (None, key.did)}
    if as_json:
        emit(_described(at_block, found, [*keys]))
        return
    table = Table("key", "from", "until", "", box=None, header_style="bold")
    for key_id, key in keys.items():
        until = "-" if key.valid_until is None else shown_moment(key.valid_until)
        doubt = "in doubt" if key_id in found.doubted else ""
        table.add_row(plain(key_id), shown_moment(key.valid_from), until, doubt)
    out.print(table)


def _described(at_block: str, found: KeysAtBlock, key_ids: list[str]) -> dict[str, object]:
    return {
        "block": at_block,
        "sealed": found.header.time.isoformat(),
        "identity_position": found.header.identity[2],
        "keys": [
            {
                "id": key_id,
                "party": found.keys[key_id].did,
                "valid_from": found.keys[key_id].valid_from.isoformat(),
                "valid_until": _iso(found.keys[key_id].valid_until),
                "in_doubt": key_id in found.doubted,
            }
            for key_id in key_ids
        ],
    }


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
