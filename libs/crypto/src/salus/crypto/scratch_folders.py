"""Temporary folders that do not stay behind: what a killed process left is removed by the next one.

Whoever uses a folder holds a lock on a file in it, which the system releases when the process ends, however
it ends.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from salus.crypto.private_files import open_private

LOCK = "in-use"


@contextmanager
def scratch_folder(prefix: str, *, place: Path | None = None, keep: bool = False) -> Iterator[Path]:
    """Make a private folder, and remove it when the context is left, unless it is to be kept.

    First it removes folders of the same prefix and place whose processes ended without doing so.
    """
    place = place or Path(tempfile.gettempdir())
    _remove_left(prefix, place)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=place))
    with _locked(folder):
        try:
            yield folder
        finally:
            if keep:
                (folder / LOCK).unlink(missing_ok=True)
            else:
                shutil.rmtree(folder, ignore_errors=True)


def _locked(folder: Path) -> BinaryIO:
    """Return the folder's lock, held until it is closed; nobody ever sees it free."""
    fresh = folder / f".{LOCK}"
    file = open_private(fresh, os.O_EXCL)
    fcntl.flock(file, fcntl.LOCK_EX)
    fresh.rename(folder / LOCK)
    return file


def _remove_left(prefix: str, place: Path) -> None:
    """Remove the folders that have a lock which nobody holds; what else is there is not ours to judge."""
    for lock in place.glob(f"{prefix}*/{LOCK}"):
        try:
            file = lock.open("rb")
        except OSError:
            # Its user removes it at this moment, or is somebody else.
            continue
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            shutil.rmtree(lock.parent, ignore_errors=True)
