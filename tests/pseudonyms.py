"""Pseudonyms as their stewards make them: the same one at each call, and its nonce is known to `asking`."""

from __future__ import annotations

from hashlib import sha256

from salus.events.pseudonyms import pseudonym_of

_NONCES: dict[str, str] = {}


def patient_of(steward: str, label: object = 0) -> str:
    """Return a pseudonym of this steward's; another label makes another one."""
    nonce = sha256(str(label).encode()).hexdigest()[:32]
    patient = pseudonym_of(steward, nonce)
    _NONCES[patient] = nonce
    return patient


def nonce_of(patient: str) -> str:
    """Return the nonce that a pseudonym of `patient_of` is made of; of any other, one that is wrong."""
    return _NONCES.get(patient, "0" * 32)
