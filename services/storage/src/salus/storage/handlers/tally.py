"""Size and digest of a stream that passes through."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterable, AsyncIterator

from salus.runtime.problems import ProblemError


class Tally:
    """Counts and hashes what passes."""

    def __init__(self) -> None:
        self.size = 0
        self._sha256 = hashlib.sha256()

    async def through(self, chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        """Pass the pieces on."""
        async for chunk in chunks:
            self.add(chunk)
            yield chunk

    def add(self, chunk: bytes) -> None:
        """Count one piece."""
        self.size += len(chunk)
        self._sha256.update(chunk)

    @property
    def sha256(self) -> bytes:
        """The SHA-256 of everything that passed."""
        return self._sha256.digest()


def too_large(size_max: int) -> ProblemError:
    """Return the answer to a body that is larger than the operator allows."""
    return ProblemError(413, "too-large", f"an object has at most {size_max} bytes")
