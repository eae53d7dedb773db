"""Ids of events, which sort by time (UUIDv7, RFC 9562) so that indexes stay small, and random ones."""

from __future__ import annotations

import os
import secrets
from collections import deque
from datetime import datetime
from uuid import UUID

_UUID_BYTES = 16
# Each question to the system gives the interpreter lock away, which other threads wait for.
_UUIDS_AT_ONCE = 256
_random: deque[bytes] = deque()
# What is drawn already is the parent's: no two processes make the same ids.
os.register_at_fork(after_in_child=_random.clear)


def new_id(at: datetime) -> str:
    """Return a fresh UUIDv7 whose first 48 bits are the milliseconds since 1970 of `at`."""
    milliseconds = int(at.timestamp() * 1000) & ((1 << 48) - 1)
    random = secrets.randbits(74)
    number = milliseconds << 80 | 0x7 << 76 | (random >> 62) << 64 | 0b10 << 62 | random & ((1 << 62) - 1)
    return str(UUID(int=number))


def random_uuid() -> UUID:
    """Return a UUIDv4, made of what the system's random source gave for many at once."""
    try:
        drawn = _random.pop()
    except IndexError:
        fresh = os.urandom(_UUID_BYTES * _UUIDS_AT_ONCE)
        first, *others = (fresh[at : at + _UUID_BYTES] for at in range(0, len(fresh), _UUID_BYTES))
        _random.extend(others)
        drawn = first
    return UUID(bytes=drawn, version=4)
