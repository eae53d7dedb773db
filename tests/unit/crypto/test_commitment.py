"""Commitments: bind to content, and say nothing without the salt."""

from __future__ import annotations

import hashlib

import pytest

from salus.crypto.commitment import commit, new_salt, require_commitment
from salus.crypto.errors import CommitmentError

DIGEST = hashlib.sha256(b"content").digest()


def test_a_commitment_is_sha256_of_salt_and_digest() -> None:
    salt = bytes(32)

    assert commit(salt=salt, plaintext_sha256=DIGEST) == hashlib.sha256(salt + DIGEST).digest()


def test_the_right_content_and_salt_are_accepted() -> None:
    salt = new_salt()

    require_commitment(commit(salt=salt, plaintext_sha256=DIGEST), salt=salt, plaintext_sha256=DIGEST)


def test_other_content_or_another_salt_is_refused() -> None:
    salt = new_salt()
    commitment = commit(salt=salt, plaintext_sha256=DIGEST)

    with pytest.raises(CommitmentError):
        require_commitment(commitment, salt=salt, plaintext_sha256=hashlib.sha256(b"other").digest())
    with pytest.raises(CommitmentError):
        require_commitment(commitment, salt=new_salt(), plaintext_sha256=DIGEST)


def test_a_salt_of_another_length_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        commit(salt=b"", plaintext_sha256=DIGEST)
