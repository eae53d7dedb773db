"""Rotate the root key: `python -m salus.storage.rotate`, with the settings of the service.

Adds a root key to the KMS and wraps every patient's key anew; no object is touched. It may run beside the
service, beside itself, and again after a crash. `--rewrap` adds none: for a root key that the KMS rotates by
itself, for a KMS that takes over from another, and to go on with `--after` where another run ended. The old
root keys stay until `--retire`, which wraps anew what is left, and has the KMS forget them only if no key in
the bucket is wrapped under them then.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from dataclasses import dataclass, replace
from typing import Literal

import structlog

from salus.crypto.errors import CryptoError
from salus.objects import ObjectsError
from salus.runtime.telemetry import set_up
from salus.storage.adapters.vault import REWRAPPED_AT_ONCE, BucketVault
from salus.storage.settings import Settings
from salus.storage.stores import open_buckets, open_kms

Step = Literal["rotate", "rewrap", "retire"]
TOLD_EVERY = 1000

_log = structlog.get_logger()


@dataclass
class Progress:
    """Tells in the log how far it has come, and from where another run can go on."""

    seen: int = 0
    told: int = 0

    def __call__(self, keys: int, changed: int, last: str) -> None:
        """Count; tell after each TOLD_EVERY keys."""
        self.seen += keys
        if self.seen - self.told >= TOLD_EVERY:
            self.told = self.seen
            _log.info("keys are wrapped anew", seen=self.seen, wrapped_anew=changed, last=last)


async def rotate(settings: Settings, *, step: Step, after: str = "") -> int:
    """Rotate, wrap anew, or retire the old root keys; return how many keys were wrapped anew.

    A crash leaves keys under either root key, which both still open; running it again wraps the rest.

    Raises:
        KmsAwayError, ObjectsError: a part is away; nothing was retired.
        UnwrapError: a key does not unwrap; nothing was retired.
        RootInUseError: another process has rotated meanwhile; nothing was retired.
        KmsError: another process changes the KMS file, it cannot be written, or the KMS does not let us.
    """
    _, keys = await open_buckets(settings)
    kms = await open_kms(settings, keys)
    # A token does one thing at a time, and so many keys wait for it: each has the time of all their turns.
    kms = replace(kms, deadline_s=settings.kms_deadline_s * REWRAPPED_AT_ONCE)
    try:
        if step == "rotate":
            await kms.rotate()
        vault = BucketVault(keys, kms)
        changed = await vault.rewrap(after=after, tell=Progress())
        if step == "retire":
            await kms.retire(vault.roots_in_use)
    finally:
        await kms.close()
    return changed


def main() -> None:
    """Run the command."""
    arguments = argparse.ArgumentParser(description=__doc__)
    steps = arguments.add_mutually_exclusive_group()
    steps.add_argument("--rewrap", action="store_true", help="add no root key: only wrap anew")
    steps.add_argument("--retire", action="store_true", help="forget the old root keys")
    arguments.add_argument("--after", default="", metavar="NAME", help="with --rewrap: go on behind this key")
    asked = arguments.parse_args()
    if asked.after and not asked.rewrap:
        arguments.error("--after goes with --rewrap")
    step: Step = "retire" if asked.retire else "rewrap" if asked.rewrap else "rotate"
    settings = Settings()
    set_up(settings)
    try:
        changed = asyncio.run(rotate(settings, step=step, after=asked.after))
    except (CryptoError, ObjectsError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
    _log.info("done", step=step, keys_wrapped_anew=changed)


if __name__ == "__main__":
    main()
