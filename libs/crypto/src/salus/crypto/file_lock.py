"""A lock beside a file: who loads, changes and saves the file holds it, so no two do so at once.

It holds between tasks, processes and, on NFSv4, machines. The system releases it when its holder ends,
however it ends. The lock's own file stays, for who removed it could have two hold the lock.
"""

from __future__ import annotations

import asyncio
import fcntl
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import BinaryIO

from salus.crypto.errors import LockedError
from salus.crypto.private_files import make_private_folder, open_private

LOCK_WAIT_S_MAX = 60.0
LOCK_LOOK_S = 0.05


@asynccontextmanager
async def changing(path: Path, *, wait_s: float = LOCK_WAIT_S_MAX) -> AsyncIterator[None]:
    """Hold the lock of a file, which need not exist. Who takes it twice waits for itself.

    Raises:
        LockedError: another one held it all the time.
        OSError: the folder cannot be written.
    """
    end = time.monotonic() + wait_s
    with _open(path) as lock:
        # Not in a thread: so many waiters would leave the holder none to work with.
        while not _is_taken(lock):
            if time.monotonic() >= end:
                raise LockedError(path, wait_s)
            await asyncio.sleep(LOCK_LOOK_S)
        yield


@contextmanager
def changing_now(path: Path, *, wait_s: float = LOCK_WAIT_S_MAX) -> Iterator[None]:
    """Hold the lock as `changing` does, for short work that waits for nothing else."""
    end = time.monotonic() + wait_s
    with _open(path) as lock:
        while not _is_taken(lock):
            if time.monotonic() >= end:
                raise LockedError(path, wait_s)
            time.sleep(LOCK_LOOK_S)
        yield


def _open(path: Path) -> BinaryIO:
    make_private_folder(path.parent)
    return open_private(path.with_name(f".{path.name}.lock"), 0)


def _is_taken(lock: BinaryIO) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
