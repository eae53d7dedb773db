"""Commit to content without revealing it: SHA-256(salt || SHA-256(plaintext)).

The ledger keeps the commitment for ever. The salt is random and sealed to the patient's key, so once that key
is destroyed nobody can test guesses of the content against the commitment.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets

from salus.crypto.errors import CommitmentError

SALT_BYTES = 32


def new_salt() -> bytes:
    """Return a fresh salt."""
    return secrets.token_bytes(SALT_BYTES)


def commit(*, salt: bytes, plaintext_sha256: bytes) -> bytes:
    """Return the 32-byte commitment to content of that SHA-256."""
    if len(salt) != SALT_BYTES or len(plaintext_sha256) != hashlib.sha256().digest_size:
        raise ValueError(f"a salt has {SALT_BYTES} bytes and a digest 32")
    return hashlib.sha256(salt + plaintext_sha256).digest()


def require_commitment(commitment: bytes, *, salt: bytes, plaintext_sha256: bytes) -> None:
    """Raise CommitmentError unless the commitment is to content of that SHA-256."""
    if not hmac.compare_digest(commitment, commit(salt=salt, plaintext_sha256=plaintext_sha256)):
        raise CommitmentError
