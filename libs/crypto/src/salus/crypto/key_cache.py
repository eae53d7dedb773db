"""Unwrapped keys, held for a few seconds: what is destroyed in the KMS stops working within that time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256

KEYS_MAX = 1024


@dataclass
class KeyCache:
    """Keys by what they were unwrapped from and for what; each for `seconds`, and at most KEYS_MAX of them.

    A key goes when its time is over, whether anybody asks or not. Who was given it may hold it longer.
    """

    seconds: float
    clock: Callable[[], float]
    _held: dict[bytes, tuple[float, bytes]] = field(default_factory=dict, init=False, repr=False)

    def get(self, wrapped: bytes, *, context: str) -> bytes | None:
        """Return the key, or None if it is not held, or not any more."""
        until, key = self._held.get(_name(wrapped, context), (0.0, None))
        return key if self.clock() < until else None

    def put(self, wrapped: bytes, key: bytes, *, context: str, asked: float) -> None:
        """Hold a key whose KMS was asked for it at `asked`: a slow answer is held for as much less."""
        until = asked + self.seconds
        left = until - self.clock()
        if left <= 0:
            return
        if len(self._held) >= KEYS_MAX:
            del self._held[next(iter(self._held))]
        name = _name(wrapped, context)
        self._held[name] = (until, key)
        asyncio.get_running_loop().call_later(left, self._drop, name, until)

    def __len__(self) -> int:
        return len(self._held)

    def _drop(self, name: bytes, until: float) -> None:
        if self._held.get(name, (None, b""))[0] == until:
            del self._held[name]


def _name(wrapped: bytes, context: str) -> bytes:
    """Return what tells one use of a wrapped key from another; both have a length that is bound."""
    return sha256(sha256(wrapped).digest() + context.encode()).digest()
