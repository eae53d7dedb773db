"""Rotates and retires root keys in a process that is killed at a given line; run by `test_rotation.py`.

The bucket is in files, so that what a killed process had stored stays. Prints at how many lines that was.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from salus.crypto import file_kms, file_lock, private_files
from salus.crypto.errors import KmsError
from salus.crypto.file_kms import FileKms
from salus.objects.memory import MemoryObjects
from salus.storage.adapters import vault
from salus.storage.adapters.vault import BucketVault

TRACED = {str(module.__file__) for module in (file_kms, file_lock, private_files, vault)}
PATIENTS = [f"urn:uuid:00000000-0000-4000-8000-{n:012d}" for n in range(2)]
PRIVATE = b"k" * 32


class Filed(dict[str, tuple[bytes, str]]):
    """What a bucket holds, each object also in a file."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        for n, file in enumerate(sorted(folder.iterdir())):
            super().__setitem__(bytes.fromhex(file.name).decode(), (file.read_bytes(), f"old-{n}"))

    def __setitem__(self, key: str, value: tuple[bytes, str]) -> None:
        super().__setitem__(key, value)
        whole = self.folder.parent / "incoming"
        whole.write_bytes(value[0])
        whole.replace(self.folder / key.encode().hex())


def vault_of(folder: Path, kms_: FileKms) -> BucketVault:
    return BucketVault(MemoryObjects(objects=Filed(folder / "bucket")), kms_)


async def prepare(folder: Path) -> None:
    (folder / "bucket").mkdir(parents=True)
    made = vault_of(folder, await FileKms.create(folder / "kms"))
    for patient in PATIENTS:
        await made.keep(patient=patient, key=f"{patient}#aa", private_key=PRIVATE)


async def change(folder: Path) -> None:
    """Do what `python -m salus.storage.rotate` does, then what it does with `--retire`."""
    opened = await FileKms.open(folder / "kms")
    keys = vault_of(folder, opened)
    await opened.rotate()
    await keys.rewrap()
    await opened.retire(keys.roots_in_use)


async def readable(folder: Path) -> None:
    keys = vault_of(folder, await FileKms.open(folder / "kms"))
    for patient in PATIENTS:
        assert await keys.fetch(patient=patient, key=f"{patient}#aa") == PRIVATE


def die_at(line: int, traced: set[str]) -> None:
    """Have the process killed before it runs that line of these files, counted over all its threads."""
    left = line

    def trace(frame: FrameType, event: str, _: Any) -> Any:  # what sys.settrace takes
        nonlocal left
        if frame.f_code.co_filename not in traced:
            return None
        if event == "line":
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    threading.settrace(trace)
    sys.settrace(trace)


def main(folder: Path) -> None:
    asyncio.run(prepare(folder / "prepared"))
    line, was_killed = 0, True
    while was_killed:
        place = folder / str(line)
        shutil.copytree(folder / "prepared", place)
        child = os.fork()
        if child == 0:
            die_at(line, TRACED)
            asyncio.run(change(place))
            os._exit(0)
        was_killed = os.WIFSIGNALED(os.waitpid(child, 0)[1])
        asyncio.run(readable(place))
        asyncio.run(change(place))
        asyncio.run(readable(place))
        line += 1
    sys.stdout.write(f"{line - 1}\n")


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except KmsError as error:
        sys.exit(f"keys were lost: {error}")
