"""A copy of a bucket in a folder, read only: what `mc mirror` or `aws s3 sync` leave, for work offline."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from datetime import datetime
from pathlib import Path

from salus.objects.errors import NotFoundError, RefusedError, TooLargeError
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


class FolderObjects(ObjectStore):
    """The files below a folder, each named by its key. An ETag is the file's size and time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def get(self, key: str, *, bytes_max: int) -> bytes:
        """Return the file's bytes."""
        return (await self.get_with_etag(key, bytes_max=bytes_max))[0]

    async def get_with_etag(self, key: str, *, bytes_max: int) -> tuple[bytes, str]:
        """Return the file's bytes and its ETag."""
        entry = await self.head(key)
        if entry.size > bytes_max:
            raise TooLargeError(key, entry.size, bytes_max=bytes_max)
        try:
            return self._path(key).read_bytes(), entry.etag
        except OSError as error:
            raise RefusedError(key, str(error.strerror)) from error

    async def stream(self, key: str, *, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Yield the file's bytes from `start` to before `end` in pieces."""
        left = (await self.head(key)).size if end is None else end
        left -= start
        with self._path(key).open("rb") as file:
            file.seek(start)
            while left > 0 and (piece := file.read(min(left, STREAM_CHUNK_BYTES))):
                left -= len(piece)
                yield piece

    async def head(self, key: str) -> Entry:
        """Return the file's size and ETag."""
        try:
            seen = self._path(key).stat()
        except (FileNotFoundError, NotADirectoryError):
            raise NotFoundError(key) from None
        except OSError as error:
            raise RefusedError(key, str(error.strerror)) from error
        return Entry(key, seen.st_size, f'"{seen.st_size}-{seen.st_mtime_ns}"')

    async def list(
        self, prefix: str = "", start_after: str = "", *, on_stray: OnStray
    ) -> AsyncIterator[Entry]:
        """Yield the files below a folder."""
        files = (path for path in self._folder.rglob("*") if path.is_file())
        for key in sorted(path.relative_to(self._folder).as_posix() for path in files):
            if not key.startswith(folder_of(prefix)) or key <= start_after:
                continue
            if is_key(key):
                yield await self.head(key)
            else:
                on_stray(Stray(key, (self._folder / key).stat().st_size))

    async def time(self) -> datetime | None:
        """Say nothing: a folder has no clock."""
        return None

    async def put(self, key: str, data: bytes) -> str:
        """Refuse."""
        raise _refused(key, data)

    async def put_stream(self, key: str, chunks: AsyncIterable[bytes]) -> str:
        """Refuse."""
        raise _refused(key, chunks)

    async def create(self, key: str, data: bytes) -> str:
        """Refuse."""
        raise _refused(key, data)

    async def replace(self, key: str, data: bytes, etag: str) -> str:
        """Refuse."""
        raise _refused(key, data, etag)

    async def delete(self, key: str) -> None:
        """Refuse."""
        raise _refused(key)

    async def destroy(self, key: str) -> None:
        """Refuse."""
        raise _refused(key)

    def _path(self, key: str) -> Path:
        return self._folder / require_key(key)


def _refused(key: str, *_: object) -> RefusedError:
    return RefusedError(key, "a copy in a folder is read only")
