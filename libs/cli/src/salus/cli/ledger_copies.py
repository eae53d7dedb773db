"""Where a ledger is read: a platform's store, another network's, or a copy of both buckets in a folder."""

from __future__ import annotations

from pathlib import Path

from salus.archive.fsck import Stores
from salus.archive.trust import Trust
from salus.cli.checking import LEDGER_BUCKET, LOG_BUCKET, whom_and_where
from salus.cli.exits import CommandError, Exit
from salus.crypto.text_files import read_text_file
from salus.objects.folder import FolderObjects


def ledger_of(network: Path | None, archive: Path | None) -> tuple[Trust, Stores]:
    """Return whose signatures count, and the buckets; raises CommandError."""
    if archive is None:
        trust, address = whom_and_where(network)
        return trust, address.open()
    if network is None:
        raise CommandError(Exit.USAGE, "--archive needs --network: whose signatures count")
    missing = [name for name in (LEDGER_BUCKET, LOG_BUCKET) if not (archive / name).is_dir()]
    if missing:
        raise CommandError(Exit.USAGE, f"{archive} has no folder {' and no folder '.join(missing)}")
    try:
        trust = Trust.from_network(read_text_file(network))
    except (OSError, ValueError) as error:
        raise CommandError(Exit.USAGE, f"{network}: {error}") from None
    return trust, Stores(FolderObjects(archive / LEDGER_BUCKET), FolderObjects(archive / LOG_BUCKET))
