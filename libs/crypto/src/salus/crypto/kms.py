"""A KMS wraps small keys with a root key that never leaves it: what we ask of one, and the wrapped form.

`FileKms` is for development and small sites, `TokenKms` is an HSM behind PKCS#11; storage has one of OpenBao.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Collection
from typing import Protocol

from salus.crypto.errors import UnwrapError

FORMAT = b"salus.health/wrapped-key/v1"
_WRAPPED = re.compile(rb"salus\.health/wrapped-key/v1 ([a-z0-9-]{1,64})\n(.+)", re.DOTALL)

RootsInUse = Callable[[], Awaitable[Collection[str]]]
"""Returns the names of the root keys that wrapped keys bear, as they are stored when it is called."""


class Kms(Protocol):
    """Wraps keys. Callers may rely on: a wrapped key opens only with the context it was wrapped with.

    Each method may raise KmsAwayError or KmsUnusableError; repeating the call is harmless. No error says
    anything of a key, and none of what it wraps stays in the KMS.
    """

    async def wrap(self, key: bytes, *, context: str) -> bytes:
        """Return the key encrypted under the current root key and bound to `context`."""

    async def unwrap(self, wrapped: bytes, *, context: str) -> bytes:
        """Return the key; raises UnwrapError."""

    async def rewrap(self, wrapped: bytes, *, context: str) -> bytes:
        """Return the same key wrapped under the current root key; unchanged bytes if it is already.

        The key is opened in any case: a root key of another KMS may have the same name.

        Raises:
            UnwrapError: as `unwrap`.
        """

    async def is_current(self, wrapped: bytes) -> bool:
        """Say whether a key that this KMS wrapped is under the root key that is current now."""

    async def rotate(self) -> str:
        """Add a root key, make it current, and return its name; older ones still unwrap."""

    async def retire(self, in_use: RootsInUse) -> None:
        """Forget every root key but the one that is current, for ever.

        What `in_use` lists must include what was stored before the call; who stores a key afterwards asks
        `is_current` again.

        Raises:
            RootInUseError: a key is wrapped under another than the current root key; none is forgotten.
        """

    async def check(self) -> None:
        """Return if the KMS answers and has a fit root key; whether it lets us use it shows in use."""

    async def close(self) -> None:
        """Release what was opened; the next call opens it again, or fails."""


def root_name(wrapped: bytes) -> str:
    """Return the name of the root key that a key is wrapped under; raises UnwrapError."""
    return parsed(wrapped)[0]


def wrapped_form(root: str, body: bytes) -> bytes:
    """Return a wrapped key as it is stored: what the KMS made of it, under the name of the root key."""
    return b"%b %b\n%b" % (FORMAT, root.encode("ascii"), body)


def parsed(wrapped: bytes) -> tuple[str, bytes]:
    """Return the name of the root key, and what the KMS made; raises UnwrapError."""
    match = _WRAPPED.fullmatch(wrapped)
    if match is None:
        raise UnwrapError("not a wrapped key")
    return match[1].decode("ascii"), match[2]


def bound_to(root: str, context: str) -> bytes:
    """Return the associated data of a wrapped key, where the KMS takes such."""
    return b"%b %b\n%b" % (FORMAT, root.encode("ascii"), context.encode())
