"""Event ids that sort by time (UUIDv7, RFC 9562), which keeps indexes over them small."""

from __future__ import annotations

import secrets
from datetime import datetime
from uuid import UUID


def new_id(at: datetime) -> str:
    """Return a fresh UUIDv7 whose first 48 bits are the milliseconds since 1970 of `at`."""
    milliseconds = int(at.timestamp() * 1000) & ((1 << 48) - 1)
    random = secrets.randbits(74)
    number = milliseconds << 80 | 0x7 << 76 | (random >> 62) << 64 | 0b10 << 62 | random & ((1 << 62) - 1)
    return str(UUID(int=number))
