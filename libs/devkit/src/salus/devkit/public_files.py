"""Files that everybody may read and that appear whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

FILE_MODE = 0o644


def write_public(path: Path, content: bytes, *, fresh: bool = False) -> None:
    """Write a file by renaming a complete one over it; with `fresh` one that exists stays as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    written = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, FILE_MODE)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    if not fresh:
        written.replace(path)
        return
    try:
        os.link(written, path)
    except FileExistsError:
        pass
    finally:
        written.unlink()
