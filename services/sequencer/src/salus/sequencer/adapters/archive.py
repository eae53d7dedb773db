"""The archive on an object store: while the store is away it waits, so callers learn what happened."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TypeVar

from salus.objects.errors import (
    AlreadyExistsError,
    NotFoundError,
    RefusedError,
    StoreAwayError,
    TooLargeError,
)
from salus.objects.store import ObjectStore
from salus.sequencer.adapters.patience import Patience
from salus.sequencer.errors import ArchiveDamagedError

PART = "s3"
_T = TypeVar("_T")


class ObjectArchive:
    """One bucket; a refusal (no such bucket, no permission) is waited out too: an operator can mend it."""

    def __init__(self, store: ObjectStore, patience: Patience) -> None:
        self._store = store
        self._patience = patience

    async def read(self, key: str, *, bytes_max: int) -> bytes | None:
        """Return the object, or None if there is none."""
        try:
            return await self._outlast(lambda: self._store.get(key, bytes_max=bytes_max))
        except NotFoundError:
            return None
        except TooLargeError as error:
            raise ArchiveDamagedError(str(error)) from error

    async def exists(self, key: str) -> bool:
        """Tell whether there is such an object."""
        try:
            await self._outlast(lambda: self._store.head(key))
        except NotFoundError:
            return False
        return True

    async def create(self, key: str, data: bytes) -> bool:
        """Write the object if there is none; an answer that was lost is asked for again."""
        try:
            await self._outlast(lambda: self._store.create(key, data))
        except AlreadyExistsError:
            return False
        return True

    async def time(self) -> datetime | None:
        """Return what time the store says it is."""
        return await self._outlast(self._store.time)

    async def _outlast(self, attempt: Callable[[], Awaitable[_T]]) -> _T:
        return await self._patience.outlast(PART, attempt, errors=(StoreAwayError, RefusedError))
