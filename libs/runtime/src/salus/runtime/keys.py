"""The service's own signing key, from the file that the operator provides."""

from __future__ import annotations

from pathlib import Path

from salus.crypto.keys import load_ed25519
from salus.events.did import LocalSigner

__all__ = ["load_ed25519", "load_signer"]


def load_signer(path: Path, key_id: str | None) -> LocalSigner:
    """Return the signer of a key, under its id or else its did:key; raises as `load_ed25519` does."""
    return LocalSigner(load_ed25519(path), key_id)
