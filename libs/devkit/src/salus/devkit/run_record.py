"""What a state directory remembers: where things were, what runs now, what not, and which version made it.

In addresses.json, run.json, removed.json and version.json.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

from salus.crypto.private_files import write_private
from salus.devkit.addresses import Addresses, Kind
from salus.devkit.errors import OtherVersionError, StateFileError
from salus.devkit.processes import ProcessRecord
from salus.devkit.state_version import StateVersion
from salus.runtime.manifests import Probes

_T = TypeVar("_T")


class RunningService(msgspec.Struct, frozen=True):
    """A service: its URL, its process, and what its manifest says of when it is ready.

    `catalogue` is the digest of the event types that were installed when it started.
    """

    url: str
    process: ProcessRecord
    ready_path: str = Probes().ready
    start_s_max: int = Probes().start_s_max
    catalogue: str = ""


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


class Removed(msgspec.Struct, frozen=True):
    """The shards whose sequencers are not started, though network.json names them for their chains."""

    shards: frozenset[int] = frozenset()


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
        return self._read("run.json", Run)

    def write_run(self, run: Run | None) -> None:
        """Record what runs now; None: nothing."""
        if run is None:
            (self.folder / "run.json").unlink(missing_ok=True)
        else:
            self._write("run.json", run)

    def remembered(self) -> Remembered:
        """Return where things were the last time."""
        return self._read("addresses.json", Remembered) or Remembered()

    def remember(self, parts: Addresses, service_ports: Mapping[str, int]) -> None:
        """Record where things are, for the next time; a service that is not named was where it was."""
        known = self.remembered().service_ports
        self._write("addresses.json", Remembered(parts, {**known, **service_ports}))

    def removed_shards(self) -> frozenset[int]:
        """Return the shards whose sequencers are not to be started."""
        return (self._read("removed.json", Removed) or Removed()).shards

    def remove_shards(self, shards: frozenset[int]) -> None:
        """Record the shards whose sequencers are not to be started: these, and no others."""
        self._write("removed.json", Removed(shards))

    def require_version(self) -> None:
        """Record that this version writes here, before it does.

        Raises:
            OtherVersionError: what is here was made by a version that this one does not continue.
            NotInstalledError: a service that ran here is not installed.
        """
        made_by = self._read("version.json", StateVersion)
        if made_by is None and (self.folder / "addresses.json").exists():
            raise OtherVersionError(self.folder, "it does not say by which")
        if made_by is None:
            version = StateVersion.current()
        else:
            # Whose state is here; who only was installed and waits for a second operator has none.
            ran = {path.name for path in self.data.glob("*")}
            version = made_by.continued(self.folder, ran=ran)
        if version != made_by:
            self._write("version.json", version)

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
        write_private(self.folder / name, msgspec.json.format(msgspec.json.encode(content), indent=1) + b"\n")

    def _read(self, name: str, kind: type[_T]) -> _T | None:
        """Return what a file of ours says, None if there is none; raises StateFileError."""
        path = self.folder / name
        try:
            return msgspec.json.decode(path.read_bytes(), type=kind)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError) as error:
            raise StateFileError(path, str(error)) from error
