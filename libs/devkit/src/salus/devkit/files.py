"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path


def write_new(path: Path, content: bytes, *, mode: int) -> None:
    """Write a file unless it exists; whoever was first wins."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = _written(path, content, mode=mode)
    try:
        os.link(fresh, path)
    except FileExistsError:
        pass
    finally:
        fresh.unlink()


def replace(path: Path, content: bytes, *, mode: int) -> None:
    """Write a file in place of the one that is there; a reader sees the old one or the whole new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _written(path, content, mode=mode).replace(path)


def _written(path: Path, content: bytes, *, mode: int) -> Path:
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    return fresh
