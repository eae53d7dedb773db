"""Which platform a command speaks to."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from salus.cli.console import err
from salus.cli.exits import CommandError, Exit
from salus.crypto.private_files import make_private_folder, open_private
from salus.devkit.platform import Platform
from salus.devkit.run_record import StateFolder

STATE_VARIABLE = "SALUS_STATE"

KafkaAccounts = Annotated[
    bool,
    typer.Option(
        "--kafka-accounts", help="Kafka asks for accounts, and each service's may do what it needs alone."
    ),
]


def state_folder() -> Path:
    """Return the folder of `up` and `down`: $SALUS_STATE, else `.salus` of this checkout or of here.

    Raises:
        CommandError: it is a file.
    """
    given = os.environ.get(STATE_VARIABLE)
    if given:
        folder = Path(given)
        if folder.exists() and not folder.is_dir():
            raise CommandError(Exit.USAGE, f"{STATE_VARIABLE}: {folder} is no folder")
        return folder
    for folder in Path(__file__).resolve().parents:
        if (folder / "libs" / "devkit").is_dir():
            return folder / ".salus"
    return Path.cwd() / ".salus"


def demo_folder() -> Path:
    """Return the folder of the demo's platform, which is another one than that of `up`."""
    return state_folder() / "demo"


def running_folder() -> Path:
    """Return the folder of the platform that runs: that of `up`, else the one a demo was kept in."""
    for folder in (state_folder(), demo_folder()):
        if StateFolder(folder).run() is not None:
            return folder
    return state_folder()


def running_platform() -> Platform:
    """Return the platform that runs.

    Raises:
        NotRunningError: none does.
    """
    return Platform.attach(running_folder())


def require_service(platform: Platform, name: str) -> str:
    """Return the URL of a service.

    Raises:
        CommandError: it was not started.
    """
    if name not in platform.services:
        raise CommandError(Exit.NOT_RUNNING, f"{name} does not run: see `salus status`")
    return platform.service_url(name)


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep two commands that start or stop the platform of one folder apart."""
    state = StateFolder(folder)
    make_private_folder(folder)
    with open_private(state.lock, 0) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            err.print("waiting for another salus command that starts or stops this platform")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
