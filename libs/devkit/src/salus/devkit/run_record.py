"""What a state directory remembers: where things were (addresses.json) and what runs now (run.json)."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import msgspec

from salus.devkit.addresses import Addresses, Kind
from salus.devkit.processes import ProcessRecord


class RunningService(msgspec.Struct, frozen=True):
    """A service: its URL and its process."""

    url: str
    process: ProcessRecord


class Run(msgspec.Struct, frozen=True):
    """What was started from a state directory and not stopped since."""

    kind: Kind
    parts: Addresses
    detached: bool
    processes: tuple[ProcessRecord, ...] = ()
    services: dict[str, RunningService] = {}


class Remembered(msgspec.Struct, frozen=True):
    """Where things were the last time, so that they can be there again."""

    parts: Addresses | None = None
    service_ports: dict[str, int] = {}


class StateFolder:
    """A state directory; its files hold development keys, so only their owner may read them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def logs(self) -> Path:
        """Where every process writes its log."""
        return self.folder / "logs"

    @property
    def data(self) -> Path:
        """Where every process keeps its data."""
        return self.folder / "data"

    @property
    def lock(self) -> Path:
        """Held while a platform starts or stops."""
        return self.folder / "lock"

    def run(self) -> Run | None:
        """Return what was started and not stopped, or None."""
        path = self.folder / "run.json"
        return msgspec.json.decode(path.read_bytes(), type=Run) if path.exists() else None

    def write_run(self, run: Run | None) -> None:
        """Record what runs now; None: nothing."""
        if run is None:
            (self.folder / "run.json").unlink(missing_ok=True)
        else:
            self._write("run.json", run)

    def remembered(self) -> Remembered:
        """Return where things were the last time."""
        path = self.folder / "addresses.json"
        return msgspec.json.decode(path.read_bytes(), type=Remembered) if path.exists() else Remembered()

    def remember(self, remembered: Remembered) -> None:
        """Record where things are, for the next time."""
        self._write("addresses.json", remembered)

    def erase(self) -> None:
        """Remove everything but the lock that whoever erases is holding."""
        for path in self.folder.iterdir() if self.folder.exists() else ():
            if path == self.lock:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def _write(self, name: str, content: msgspec.Struct) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        fresh = self.folder / f".{name}.{os.getpid()}"
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(content), indent=1) + b"\n")
        fresh.replace(self.folder / name)
