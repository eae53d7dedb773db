"""The service's own signing key, from the file that the operator provides."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from salus.events.did import LocalSigner


def load_ed25519(path: Path) -> Ed25519PrivateKey:
    """Read a PEM (PKCS#8) Ed25519 key.

    Raises:
        ValueError: the file holds something else; the message names the file.
    """
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except ValueError as error:
        raise ValueError(f"{path} is not a PEM private key") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError(f"{path} is not an Ed25519 key")  # noqa: TRY004  # the file is wrong, not the call
    return key


def load_signer(path: Path) -> LocalSigner:
    """Return the signer of the key in `path`, under its did:key."""
    return LocalSigner(load_ed25519(path))
