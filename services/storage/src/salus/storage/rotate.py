"""Rotate the root key: `python -m salus.storage.rotate`, with the settings of the service.

Adds a root key to the KMS file and wraps every patient's key anew; no object is touched. It may run beside
the service, beside itself, and again after a crash. The old root keys stay in the file until `--retire`,
which wraps anew what is left, and forgets them only if no key in the bucket is wrapped under them then.
"""

from __future__ import annotations

import argparse
import asyncio
import sys

import structlog

from salus.crypto.errors import KmsError
from salus.runtime.telemetry import set_up
from salus.storage.adapters.vault import BucketVault
from salus.storage.settings import Settings
from salus.storage.stores import open_buckets, open_kms

_log = structlog.get_logger()


async def rotate(settings: Settings, *, retire: bool) -> int:
    """Rotate, or retire the old root keys; return how many keys were wrapped anew.

    A crash leaves keys under either root key, which both still open; running it again wraps the rest.

    Raises:
        KmsAwayError, StoreAwayError: a part is away; nothing was retired.
        UnwrapError: a key does not unwrap; nothing was retired.
        RootInUseError: another process has rotated meanwhile; nothing was retired.
        KmsError: another process changes the KMS file, or it cannot be written; nothing was changed.
    """
    _, keys = await open_buckets(settings)
    kms = await open_kms(settings, keys)
    if not retire:
        await kms.rotate()
    vault = BucketVault(keys, kms)
    changed = await vault.rewrap()
    if retire:
        await kms.retire(vault.roots_in_use)
    return changed


def main() -> None:
    """Run the command."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--retire", action="store_true", help="forget the old root keys")
    retire = arguments.parse_args().retire
    settings = Settings()
    set_up(settings)
    try:
        changed = asyncio.run(rotate(settings, retire=retire))
    except KmsError as error:
        sys.exit(f"{type(error).__name__}: {error}")
    _log.info("old root keys retired" if retire else "root key rotated", keys_wrapped_anew=changed)


if __name__ == "__main__":
    main()
