"""The user's cache folder, shared by every checkout: what was fetched or built once is not built again."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from salus.devkit.errors import DevkitError
from salus.devkit.narration import Narrator
from salus.devkit.waiting import until

LOCK_WAIT_S_MAX = 1800.0


def cache_dir() -> Path:
    """Return `$XDG_CACHE_HOME/salus`, `~/.cache/salus` by default."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "salus"


def is_cached(name: str, version: str) -> bool:
    """Say whether that version has been built already."""
    return (cache_dir() / name / version).is_dir()


@asynccontextmanager
async def _locked(path: Path, narrator: Narrator) -> AsyncIterator[None]:
    """Hold an exclusive lock that the system releases even if we are killed."""
    with path.open("w") as file:

        def taken() -> bool:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                narrator.update(f"waiting for another checkout that builds {path.stem}")
                return False
            return True

        if not await until(taken, deadline_s=LOCK_WAIT_S_MAX, period_s=0.5):
            raise DevkitError(f"another process has held {path} for {LOCK_WAIT_S_MAX:.0f} s")
        yield


def _publish(fresh: Path, target: Path) -> None:
    fresh.chmod(0o755)
    fresh.rename(target)


async def cached(
    name: str, version: str, build: Callable[[Path], Awaitable[None]], narrator: Narrator
) -> Path:
    """Return the folder `<cache>/<name>/<version>`, made by `build` if it is not there yet.

    `build` fills an empty folder that is then renamed into place, so an interrupted build leaves no half
    result behind, and two checkouts that build at once wait for each other.

    Raises:
        DevkitError: the cache folder cannot be written, or the build failed.
    """
    target = cache_dir() / name / version
    if target.is_dir():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DevkitError(f"the cache folder {cache_dir()} cannot be made: {error.strerror}") from error
    async with _locked(target.parent / f"{name}.lock", narrator):
        if not target.is_dir():
            fresh = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{version[:20]}-"))
            try:
                await build(fresh)
                _publish(fresh, target)
            finally:
                shutil.rmtree(fresh, ignore_errors=True)
    return target
