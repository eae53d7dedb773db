"""New pseudonyms for a steward's patients, made without asking anybody."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from salus.events.pseudonyms import pseudonym_of

NONCE_BYTES = 16


@dataclass(frozen=True, slots=True)
class NewPseudonym:
    """A pseudonym, and the nonce by which its steward registers it at storage (`POST /subjects`)."""

    patient: str
    nonce: str


def new_nonce() -> str:
    """Return a nonce as a pseudonym is made of."""
    return secrets.token_hex(NONCE_BYTES)


def new_pseudonym(steward: str) -> NewPseudonym:
    """Return a pseudonym that nobody but this steward can register. Keep the nonce until it has."""
    nonce = new_nonce()
    return NewPseudonym(pseudonym_of(steward, nonce), nonce)
