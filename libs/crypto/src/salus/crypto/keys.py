"""Keys that sign, in files: PEM (PKCS#8), encrypted or not, mode 0600, written whole or not at all."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from salus.crypto.errors import InvalidKeyError, KmsAwayError
from salus.crypto.private_files import read_private, write_private
from salus.crypto.text_files import plain_text

# White space may follow a boundary, and anything may stand around it (RFC 7468, sections 2 and 3).
_PEM = re.compile(rb"-----BEGIN [A-Z ]+-----[ \t]*\n.*?-----END [A-Z ]+-----", re.DOTALL)


SigningKey = Ed25519PrivateKey | EllipticCurvePrivateKey
"""A private key of a party: Ed25519, or of the curve P-256."""


def save_ed25519(path: Path, *keys: Ed25519PrivateKey, passphrase: str | None = None) -> None:
    """Write the keys; a reader sees the old file or the whole new one, and only its owner may read it.

    The passphrase is stretched by PBKDF2 with 2,048 rounds, which is what OpenSSL does: let it be random.
    """
    write_private(path, _encode(keys, passphrase))


def create_ed25519(path: Path) -> bool:
    """Make a key in the file unless there is one; tell whether this made it: of several at once one does."""
    return _create(path, Ed25519PrivateKey.generate)


def create_p256(path: Path) -> bool:
    """Make a P-256 key; else as `create_ed25519`."""
    return _create(path, lambda: generate_private_key(SECP256R1()))


def _create(path: Path, generate: Callable[[], SigningKey]) -> bool:
    if path.exists():
        return False
    try:
        write_private(path, _encode([generate()], None), fresh=True)
    except FileExistsError:
        return False
    return True


def load_signing_key(path: Path) -> SigningKey:
    """Read the Ed25519 or P-256 key of an unencrypted file; raises as `load_all_ed25519` does."""
    found = _pem_keys(path, _read(path), None)
    if len(found) != 1:
        raise InvalidKeyError(f"{path} holds {len(found)} keys instead of one")
    key = found[0]
    if isinstance(key, EllipticCurvePrivateKey) and isinstance(key.curve, SECP256R1):
        return key
    if not isinstance(key, Ed25519PrivateKey):
        raise InvalidKeyError(f"{path} is neither an Ed25519 nor a P-256 key")
    return key


def ensure_ed25519(path: Path) -> Ed25519PrivateKey:
    """Return the key in the file, made if there is no file."""
    create_ed25519(path)
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
    keys = []
    for key in _pem_keys(path, _read(path), passphrase):
        if not isinstance(key, Ed25519PrivateKey):
            raise InvalidKeyError(f"{path} is not an Ed25519 key")
        keys.append(key)
    return keys


def _read(path: Path) -> bytes:
    try:
        return read_private(path)
    except OSError as error:
        raise KmsAwayError(f"{path} cannot be read: {error.strerror}") from error


def _encode(keys: Sequence[SigningKey], passphrase: str | None) -> bytes:
    encryption: KeySerializationEncryption = NoEncryption()
    if passphrase is not None:
        encryption = BestAvailableEncryption(passphrase.encode())
    return b"".join(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption) for key in keys)


def _pem_keys(path: Path, content: bytes, passphrase: str | None) -> list[PrivateKeyTypes]:
    keys = []
    for pem in _PEM.findall(plain_text(content)):
        try:
            key = load_pem_private_key(pem, None if passphrase is None else passphrase.encode())
        except TypeError as error:
            why = "is encrypted and needs a passphrase" if passphrase is None else "is not encrypted"
            raise InvalidKeyError(f"{path} {why}") from error
        except ValueError as error:
            raise InvalidKeyError(f"{path} is not a PEM private key, or the passphrase is wrong") from error
        keys.append(key)
    if not keys:
        raise InvalidKeyError(f"{path} holds no PEM private key")
    return keys
