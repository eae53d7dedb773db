"""An object store in memory, with the two faults that every write can have; for tests.

It passes the contract tests of the real one (`tests/contracts/objects`).
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from itertools import count

from salus.objects.errors import (
    AlreadyExistsError,
    ChangedError,
    NotFoundError,
    StoreAwayError,
    TooLargeError,
)
from salus.objects.store import (
    STREAM_CHUNK_BYTES,
    Entry,
    ObjectStore,
    OnStray,
    Stray,
    folder_of,
    is_key,
    require_key,
)


class Fault(Enum):
    """What becomes of one write: all is well, it did not happen, or it happened and the answer was lost."""

    NONE = "none"
    LOST = "lost"
    LATE = "late"


@dataclass
class MemoryObjects(ObjectStore):
    """One bucket in memory.

    Each write (put, put_stream, create, replace, delete, destroy) takes the next of `faults`, so a test
    draws a list of them; when they are used up all is well. LOST and LATE both raise StoreAwayError. Give the
    same iterator to several fakes to draw one order of faults over all. `writes` counts the attempts.
    """

    faults: Iterable[Fault] = ()
    away: bool = False
    writes: int = 0
    objects: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    shows: Callable[[], datetime | None] = lambda: None
    _etags: Iterator[int] = field(default_factory=lambda: count(1))

    def __post_init__(self) -> None:
        self._faults = iter(self.faults)

    async def get(self, key: str, *, bytes_max: int) -> bytes:
        """Return the object's bytes."""
        return self._read(key, bytes_max)[0]

    async def get_with_etag(self, key: str, *, bytes_max: int) -> tuple[bytes, str]:
        """Return the object's bytes and its ETag."""
        return self._read(key, bytes_max)

    async def stream(self, key: str, *, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Yield the object's bytes in pieces."""
        data = self._found(key)[0][start:end]
        for at in range(0, len(data), STREAM_CHUNK_BYTES):
            yield data[at : at + STREAM_CHUNK_BYTES]

    async def head(self, key: str) -> Entry:
        """Return the object's size and ETag."""
        data, etag = self._found(key)
        return Entry(key=key, size=len(data), etag=etag)

    async def put(self, key: str, data: bytes) -> str:
        """Write the object."""
        fault = self._next_fault(key)
        return self._written(key, data, fault)

    async def put_stream(self, key: str, chunks: AsyncIterable[bytes]) -> str:
        """Write the object from pieces; memory is not constant here."""
        data = b"".join([chunk async for chunk in chunks])
        return self._written(key, data, self._next_fault(key))

    async def create(self, key: str, data: bytes) -> str:
        """Write the object unless the key is taken by other bytes."""
        fault = self._next_fault(key)
        taken = self.objects.get(key)
        if taken is None:
            return self._written(key, data, fault)
        _answer(key, fault)
        if taken[0] != data:
            raise AlreadyExistsError(key)
        return taken[1]

    async def replace(self, key: str, data: bytes, etag: str) -> str:
        """Write the object if it still has this ETag."""
        fault = self._next_fault(key)
        found = self.objects.get(key)
        if found is not None and found[1] == etag:
            return self._written(key, data, fault)
        _answer(key, fault)
        if found is None or found[0] != data:
            raise ChangedError(key)
        return found[1]

    def plant(self, key: str, data: bytes = b"") -> None:
        """Put an object of any key there, as somebody else with access to the bucket may."""
        self.objects[key] = (data, f'"{next(self._etags)}"')

    async def time(self) -> datetime | None:
        """Return what its clock shows."""
        self._require_here("")
        return self.shows()

    async def list(
        self, prefix: str = "", start_after: str = "", *, on_stray: OnStray
    ) -> AsyncIterator[Entry]:
        """Yield the objects below a folder."""
        self._require_here(prefix)
        folder = folder_of(prefix)
        for key in sorted(self.objects):
            if not key.startswith(folder) or key <= start_after:
                continue
            data, etag = self.objects[key]
            if is_key(key):
                yield Entry(key=key, size=len(data), etag=etag)
            else:
                on_stray(Stray(key, len(data)))

    async def delete(self, key: str) -> None:
        """Remove the object."""
        fault = self._next_fault(key)
        if fault is not Fault.LOST:
            self.objects.pop(key, None)
        _answer(key, fault)

    async def destroy(self, key: str) -> None:
        """Remove the object; there are no older versions here."""
        await self.delete(key)

    def _read(self, key: str, bytes_max: int) -> tuple[bytes, str]:
        found = self._found(key)
        if len(found[0]) > bytes_max:
            raise TooLargeError(key, len(found[0]), bytes_max=bytes_max)
        return found

    def _found(self, key: str) -> tuple[bytes, str]:
        self._require_here(key)
        try:
            return self.objects[require_key(key)]
        except KeyError:
            raise NotFoundError(key) from None

    def _next_fault(self, key: str) -> Fault:
        require_key(key)
        self.writes += 1
        self._require_here(key)
        return next(self._faults, Fault.NONE)

    def _require_here(self, key: str) -> None:
        if self.away:
            raise StoreAwayError(key, "away")

    def _written(self, key: str, data: bytes, fault: Fault) -> str:
        etag = f'"{next(self._etags)}"'
        if fault is not Fault.LOST:
            self.objects[key] = (bytes(data), etag)
        _answer(key, fault)
        return etag


def _answer(key: str, fault: Fault) -> None:
    if fault is not Fault.NONE:
        raise StoreAwayError(key, fault.value)
