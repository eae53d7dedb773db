"""Ed25519 private keys in files: PEM (PKCS#8), encrypted or not, mode 0600, written whole or not at all."""

from __future__ import annotations

import os
import re
import stat
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from salus.crypto.errors import ExposedKeyError, InvalidKeyError, KmsAwayError

_OTHERS_READ_OR_WRITE = stat.S_IRWXO
_GROUP_WRITES = stat.S_IWGRP
_PEM = re.compile(rb"-----BEGIN [A-Z ]+-----\n.*?-----END [A-Z ]+-----\n?", re.DOTALL)


def save_ed25519(path: Path, *keys: Ed25519PrivateKey, passphrase: str | None = None) -> None:
    """Write the keys; a reader sees the old file or the whole new one, and only its owner may read it.

    The passphrase is stretched by PBKDF2 with 2,048 rounds, which is what OpenSSL does: let it be random.
    """
    write_private(path, _encode(keys, passphrase))


def ensure_ed25519(path: Path) -> Ed25519PrivateKey:
    """Return the key in the file, made if there is no file; of several who make it at once one wins."""
    if not path.exists():
        with suppress(FileExistsError):
            write_private(path, _encode([Ed25519PrivateKey.generate()], None), fresh=True)
    return load_ed25519(path)


def load_ed25519(path: Path) -> Ed25519PrivateKey:
    """Read the key of an unencrypted file that holds just one; raises as `load_all_ed25519` does."""
    keys = load_all_ed25519(path)
    if len(keys) != 1:
        raise InvalidKeyError(f"{path} holds {len(keys)} keys instead of one")
    return keys[0]


def load_all_ed25519(path: Path, passphrase: str | None = None) -> list[Ed25519PrivateKey]:
    """Read the keys of a file, at least one.

    Raises:
        ExposedKeyError: others may read or change the file.
        InvalidKeyError: it holds something else, or the passphrase is not the one.
        KmsAwayError: there is no such file, or it cannot be read.
    """
    try:
        content = read_private(path)
    except OSError as error:
        raise KmsAwayError(f"{path} cannot be read: {error.strerror}") from error
    return _decode(path, content, passphrase)


def _encode(keys: Sequence[Ed25519PrivateKey], passphrase: str | None) -> bytes:
    encryption: KeySerializationEncryption = NoEncryption()
    if passphrase is not None:
        encryption = BestAvailableEncryption(passphrase.encode())
    return b"".join(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption) for key in keys)


def _decode(path: Path, content: bytes, passphrase: str | None) -> list[Ed25519PrivateKey]:
    keys = []
    for pem in _PEM.findall(content):
        try:
            key = load_pem_private_key(pem, None if passphrase is None else passphrase.encode())
        except TypeError as error:
            why = "is encrypted and needs a passphrase" if passphrase is None else "is not encrypted"
            raise InvalidKeyError(f"{path} {why}") from error
        except ValueError as error:
            raise InvalidKeyError(f"{path} is not a PEM private key, or the passphrase is wrong") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise InvalidKeyError(f"{path} is not an Ed25519 key")
        keys.append(key)
    if not keys:
        raise InvalidKeyError(f"{path} holds no PEM private key")
    return keys


def write_private(path: Path, content: bytes, *, fresh: bool = False, durable: bool = True) -> None:
    """Write a file of mode 0600 by renaming a complete one over it; a crash leaves the old file.

    With `fresh`, an existing file is left as it is and FileExistsError raised. What is not `durable` may be
    lost or cut off when the machine ends, so its reader checks it.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # mkstemp makes the file with mode 0600.
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            if durable:
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
