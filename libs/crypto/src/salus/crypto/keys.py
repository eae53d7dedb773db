"""Ed25519 private keys in files: PEM (PKCS#8), mode 0600, written whole or not at all."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from salus.crypto.errors import ExposedKeyError, InvalidKeyError

_OTHERS_READ_OR_WRITE = stat.S_IRWXO
_GROUP_WRITES = stat.S_IWGRP


def save_ed25519(path: Path, key: Ed25519PrivateKey) -> None:
    """Write the key; a reader sees the old file or the whole new one, and only its owner may read it."""
    write_private(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def load_ed25519(path: Path) -> Ed25519PrivateKey:
    """Read a key.

    Raises:
        ExposedKeyError: others may read or change the file.
        InvalidKeyError: it holds something else.
        FileNotFoundError: there is no such file.
    """
    try:
        key = load_pem_private_key(read_private(path), password=None)
    except (ValueError, TypeError) as error:
        raise InvalidKeyError(f"{path} is not an unencrypted PEM private key") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise InvalidKeyError(f"{path} is not an Ed25519 key")
    return key


def write_private(path: Path, content: bytes, *, fresh: bool = False) -> None:
    """Write a private file by renaming a complete one over it; a crash leaves the old file.

    With `fresh`, an existing file is left as it is and FileExistsError raised.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # mkstemp makes the file with mode 0600.
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if fresh:
            path.hardlink_to(name)
        else:
            Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)


def read_private(path: Path) -> bytes:
    """Read a private file; raises ExposedKeyError if others may read it or its group may write it.

    The group may read, for Kubernetes mounts secrets so (fsGroup).
    """
    with path.open("rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        if mode & (_OTHERS_READ_OR_WRITE | _GROUP_WRITES):
            raise ExposedKeyError(path, mode)
        return file.read()
