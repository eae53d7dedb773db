"""Files and folders that only their owner may read: keys, state, logs, databases, and what was decrypted."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from salus.crypto.errors import ExposedKeyError

FILE_MODE = 0o600
FOLDER_MODE = 0o700
UMASK = 0o077
"""For a process of which every file is private: also those that its libraries and children make."""

_OTHERS_READ_OR_WRITE = stat.S_IRWXO
_GROUP_WRITES = stat.S_IWGRP


def make_private_folder(path: Path) -> None:
    """Make a folder and those above it, each of mode 0700; one that is there stays as it is."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(mode=FOLDER_MODE, exist_ok=True)


def open_private(path: Path, flags: int) -> BinaryIO:
    """Open a file for writing by the flags of `os.open`; it has mode 0600 if this makes it."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | flags, FILE_MODE), "wb")


def write_private(path: Path, content: bytes, *, fresh: bool = False, durable: bool = True) -> None:
    """Write a file of mode 0600 by renaming a complete one over it, as `replacing_private` does."""
    with replacing_private(path, fresh=fresh, durable=durable) as file:
        file.write(content)


@contextmanager
def replacing_private(path: Path, *, fresh: bool = False, durable: bool = True) -> Iterator[BinaryIO]:
    """Yield a file of mode 0600 that takes the place of another once it is complete; a crash leaves the old.

    With `fresh`, an existing file is left as it is and FileExistsError raised. What is not `durable` may be
    lost or cut off when the machine ends, so its reader checks it. An error inside leaves the old file, too.

    Raises:
        OSError: among others, the path is a device, a pipe or a socket, which a file must not replace.
    """
    make_private_folder(path.parent)
    _require_replaceable(path)
    # mkstemp makes the file with mode 0600.
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        if fresh:
            path.hardlink_to(name)
        else:
            Path(name).replace(path)
        if durable:
            _keep_name(path.parent)
    finally:
        Path(name).unlink(missing_ok=True)


def _require_replaceable(path: Path) -> None:
    # /dev/stdout is a link into /proc: renamed over, it would be a plain file for every process from then on.
    leads_to_process = path.is_symlink() and path.readlink().is_relative_to("/proc")
    if leads_to_process or (path.exists() and not path.is_file() and not path.is_dir()):
        raise OSError(errno.EINVAL, "not a regular file", str(path))


def _keep_name(folder: Path) -> None:
    """Have the folder's entries survive the end of the machine, as the file's content does."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_private(path: Path) -> bytes:
    """Read a private file; raises ExposedKeyError if others may read it or its group may write it.

    The group may read, for Kubernetes mounts secrets so (fsGroup).
    """
    with path.open("rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        if mode & (_OTHERS_READ_OR_WRITE | _GROUP_WRITES):
            raise ExposedKeyError(path, mode)
        return file.read()
