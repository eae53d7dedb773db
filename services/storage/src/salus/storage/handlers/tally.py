"""Size and digest of a stream that passes through, up to a limit."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterable, AsyncIterator

from salus.runtime.problems import ProblemError


class Tally:
    """Counts and hashes what passes; more than `size_max` bytes is an error."""

    def __init__(self, size_max: int | None = None) -> None:
        self.size = 0
        self._sha256 = hashlib.sha256()
        self._size_max = size_max

    async def through(self, chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        """Pass the pieces on; raises ProblemError 413 `too-large`."""
        async for chunk in chunks:
            self.add(chunk)
            yield chunk

    def add(self, chunk: bytes) -> None:
        """Count one piece; raises ProblemError 413 `too-large`."""
        self.size += len(chunk)
        if self._size_max is not None and self.size > self._size_max:
            raise too_large(self._size_max)
        self._sha256.update(chunk)

    @property
    def sha256(self) -> bytes:
        """The SHA-256 of everything that passed."""
        return self._sha256.digest()


def too_large(size_max: int) -> ProblemError:
    """Return the answer to a body that is larger than the operator allows."""
    return ProblemError(413, "too-large", f"an object has at most {size_max} bytes")
