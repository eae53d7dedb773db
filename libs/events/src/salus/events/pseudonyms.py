"""How a patient's pseudonym is made: of her steward's DID and a nonce, so that nobody else can register it.

It is a UUID of version 8 (RFC 9562) whose other 122 bits are of a SHA-256. The registration's request holds
the nonce, so everybody who judges the event makes the pseudonym again.
"""

from __future__ import annotations

from hashlib import sha256
from uuid import UUID

import msgspec

from salus.events.fields import Pseudonym

ORIGIN = "salus.health/pseudonym/v1"
_VERSION, _VARIANT = 8 << 76, 0b10 << 62
_FIXED = (0xF << 76) | (0b11 << 62)


def is_pseudonym(text: str) -> bool:
    """Tell whether a text has the form of a pseudonym."""
    try:
        msgspec.convert(text, Pseudonym)
    except msgspec.ValidationError:
        return False
    return True


def pseudonym_of(steward: str, nonce: str) -> str:
    """Return the pseudonym that this steward makes of this nonce, which is random: 32 digits 0-9a-f."""
    digest = sha256(f"{ORIGIN}\n{steward}\n{nonce}".encode()).digest()
    number = int.from_bytes(digest[:16], "big")
    return UUID(int=number & ~_FIXED | _VERSION | _VARIANT).urn
