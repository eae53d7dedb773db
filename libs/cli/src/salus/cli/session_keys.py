"""The keys of sessions in a network's folder: a key, and beside it the id that it signs under."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from salus.cli.exits import CommandError, Exit
from salus.crypto.keys import load_ed25519, save_ed25519
from salus.crypto.private_files import write_private
from salus.devkit.network import NetworkFolder

SESSIONS = "sessions"
KEY_ID_BYTES_MAX = 1024


class SessionKey(NamedTuple):
    """The key of a session, and its id."""

    key: Ed25519PrivateKey
    key_id: str


def session_file(folder: NetworkFolder, name: str) -> Path:
    """Return where the key of the session of that name is kept; raises CommandError if it is no name."""
    if not name or "/" in name or name.startswith("."):
        raise CommandError(Exit.USAGE, f"{name!r} cannot be a session's name")
    return folder.folder / "keys" / SESSIONS / f"{name}.pem"


def save_session(folder: NetworkFolder, name: str, session: SessionKey) -> Path:
    """Keep a session, in the place of the one of that name; return the file of its key."""
    file = session_file(folder, name)
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # One that is killed in between leaves a key under another's id, which nobody takes: log in again.
    save_ed25519(file, session.key)
    write_private(file.with_suffix(".id"), session.key_id.encode())
    return file


def forget_session(folder: NetworkFolder, name: str) -> None:
    """Remove the files of a session."""
    file = session_file(folder, name)
    for one in (file, file.with_suffix(".id")):
        one.unlink(missing_ok=True)


def load_session(folder: NetworkFolder, name: str) -> SessionKey | None:
    """Return the session of that name; None if there is none."""
    file = session_file(folder, name)
    beside = file.with_suffix(".id")
    if not file.exists() or not beside.exists():
        return None
    with beside.open("rb") as kept:
        return SessionKey(load_ed25519(file), kept.read(KEY_ID_BYTES_MAX).decode())
