"""What callers may rely on from an object store, whichever one it is."""

from __future__ import annotations

import re
from collections.abc import AsyncIterable, AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from salus.objects.errors import StrayObjectError

STREAM_CHUNK_BYTES = 1024 * 1024
"""About how large the pieces of a stream are; the last may be smaller, none is empty."""

KEY_BYTES_MAX = 1024
_KEY = re.compile(r"[A-Za-z0-9!_.:=+@-]+(?:/[A-Za-z0-9!_.:=+@-]+)*")


@dataclass(frozen=True, slots=True)
class Entry:
    """One object in a listing: its key, its size in bytes and its ETag."""

    key: str
    size: int
    etag: str


@dataclass(frozen=True, slots=True)
class Stray:
    """An object whose key is none of this package: somebody else put it there."""

    key: str
    size: int

    @property
    def shown(self) -> str:
        """The key with everything but printable ASCII escaped, for logs, findings and terminals."""
        return self.key.encode("unicode_escape").decode("ascii")


OnStray = Callable[[Stray], None]
"""What a listing calls for each stray; every caller of `list` decides what a stray means there."""


class ObjectStore(Protocol):
    """One bucket. Keys are paths of `[A-Za-z0-9!_.:=+@-]` segments joined by `/`.

    A reader sees a whole object or none. After StoreAwayError a write may or may not have happened; each
    write may be repeated with the same bytes. What callers may not rely on: that an ETag is a hash of the
    content, or that equal content has equal ETags.
    """

    async def get(self, key: str, *, bytes_max: int) -> bytes:
        """Return the object's bytes, which fit into memory: whoever asks says how many they may be.

        Anybody who may write to a bucket decides how large an object there is, so each kind has a maximum.

        Raises:
            NotFoundError: there is none.
            TooLargeError: it has more bytes; none was kept.
        """

    async def get_with_etag(self, key: str, *, bytes_max: int) -> tuple[bytes, str]:
        """Return the object's bytes and the ETag to give to `replace`; raises as `get`."""

    def stream(self, key: str, *, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Yield the object's bytes in pieces, in constant memory; raises NotFoundError at the first step.

        From `start` on, and up to `end` if it is given. Of an object that ends before that, what there is.
        If the store goes away midway the iteration raises StoreAwayError; it never just ends early.
        """

    async def head(self, key: str) -> Entry:
        """Return the object's size and ETag; raises NotFoundError."""

    async def put(self, key: str, data: bytes) -> str:
        """Write the object, over what was there, and return its ETag."""

    async def put_stream(self, key: str, chunks: AsyncIterable[bytes]) -> str:
        """Write the object from pieces of any size in constant memory and return its ETag.

        If `chunks` raises, that error is raised here and there is no object.
        """

    async def create(self, key: str, data: bytes) -> str:
        """Write the object unless the key is taken, and return its ETag.

        An answer can be lost after the write happened, so finding exactly `data` there counts as success.
        Put the writer's name into `data` where it matters which of two wrote it.

        Raises:
            AlreadyExistsError: an object of other bytes has the key.
        """

    async def replace(self, key: str, data: bytes, etag: str) -> str:
        """Write the object if it still has this ETag, and return its new ETag.

        Finding exactly `data` there counts as success, as with `create`.

        Raises:
            ChangedError: the object is gone or another one.
        """

    async def time(self) -> datetime | None:
        """Return what time the store's clock shows, in whole seconds; None if its answers do not say.

        Raises:
            StoreAwayError: it does not answer.
        """

    def list(self, prefix: str = "", start_after: str = "", *, on_stray: OnStray) -> AsyncIterator[Entry]:
        """Yield the objects below the folder `prefix`, in the order of their keys' bytes.

        `prefix` names whole segments: "tile" and "tile/" both list `tile/0/000` and not `tiles/x`. Keys up
        to and including `start_after` are left out. An object key of S3 is any UTF-8 up to 1024 bytes; each
        object whose key is none of this package is given to `on_stray` and not yielded, so no such object
        ends a listing, and every key that is yielded may be read and removed.
        """

    async def delete(self, key: str) -> None:
        """Remove the object; nothing happens if there is none. In a versioned bucket older versions stay."""

    async def destroy(self, key: str) -> None:
        """Remove every version of the object, so that the store keeps no copy; fine if there is none.

        Raises:
            RefusedError: a version is under object lock.
        """


def is_key(key: str) -> bool:
    """Tell whether every store keeps the key exactly as it is."""
    return (
        len(key) <= KEY_BYTES_MAX
        and _KEY.fullmatch(key) is not None
        and not {".", ".."} & set(key.split("/"))
    )


def require_key(key: str) -> str:
    """Return the key, or raise ValueError if a store might not keep it exactly as it is."""
    if not is_key(key):
        raise ValueError(f"{key!r} is not a key of this package")
    return key


def folder_of(prefix: str) -> str:
    """Return what the keys of all objects below a folder begin with."""
    return prefix.rstrip("/") + "/" if prefix else ""


def refuse_stray(stray: Stray) -> None:
    """Raise StrayObjectError: for a listing of a folder that nobody else can have written to."""
    raise StrayObjectError(stray.shown)
