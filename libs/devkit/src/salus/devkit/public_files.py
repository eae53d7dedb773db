"""Files that everybody may read and that appear whole or not at all."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

FILE_MODE = 0o644


def write_public(path: Path, content: bytes, *, fresh: bool = False) -> None:
    """Write a file by renaming a complete one over it; with `fresh` one that exists stays as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # A name that nobody can foresee, made anew: a link in its place would be followed.
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), FILE_MODE)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if fresh:
            with suppress(FileExistsError):
                path.hardlink_to(name)
        else:
            Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)
