"""What can keep a development platform from running; every message is one sentence for a person."""

from pathlib import Path


class DevkitError(Exception):
    """Base of all errors of this package."""


class MissingToolError(DevkitError):
    """The machine lacks a program that is needed to get Kafka or MinIO."""


class BuildError(DevkitError):
    """Fetching Kafka's jars or building MinIO failed; the message carries the end of the tool's output."""


class StartError(DevkitError):
    """A process did not become ready; the message carries the end of its log."""

    def __init__(self, name: str, why: str, *, log_tail: str = "") -> None:
        super().__init__(f"{name} {why}" + (f"; the end of its log:\n{log_tail}" if log_tail else ""))
        self.name = name


class AlreadyRunningError(DevkitError):
    """A platform already runs from this state directory."""


class StateFileError(DevkitError):
    """A file in which a platform remembers what it started cannot be read; it was left as it is."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(
            f"the platform's own file {path} cannot be read: {why}. If nothing of the platform runs any "
            "more, remove it, and start again"
        )
        self.path = path


class OtherVersionError(DevkitError):
    """A state folder was made by a version whose events or ledger this one does not read."""

    def __init__(self, folder: Path, why: str) -> None:
        super().__init__(
            f"{folder} was made by another version of Salus: {why}. Use that version, or begin anew: "
            "`salus down --erase` removes all that is in it"
        )
        self.folder = folder


class OtherPackageError(OtherVersionError):
    """A state folder has events that another version of a package made; what the release made is read."""

    def __init__(self, folder: Path, package: str, types: str) -> None:
        DevkitError.__init__(
            self,
            f"{folder} has events of {types}, made by another version of {package}: the version that is "
            "installed here does not read their schema. Install that version, or one whose types name the "
            "earlier `dataschema` in `older_dataschemas`",
        )
        self.folder = folder


class NotInstalledError(DevkitError):
    """A service has joined the network of a state folder, and its package is not installed here."""

    def __init__(self, service: str, package: str) -> None:
        super().__init__(
            f"{service} has joined this network and its package ({package}) is not installed here: install it"
        )


class SettingError(DevkitError):
    """What the environment says of the parts cannot be used."""


class NetworkFileError(DevkitError):
    """A network.json is not there, cannot be read, or lacks what was asked for."""


class NotRunningError(DevkitError):
    """No platform runs from this state directory."""
