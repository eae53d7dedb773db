"""The parts of an upload in the bucket of objects: sealed, each written once, one behind the other.

A part is called by its first byte and is created only where none is, so of two writers of one place one wins,
in whatever process they are. The offset of an upload is the end of the parts that follow each other without
a gap: what a listing says, and nothing else.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

from salus.crypto.errors import CryptoError
from salus.crypto.upload_parts import OVERHEAD_BYTES, UploadKey
from salus.objects import AlreadyExistsError, NotFoundError, ObjectStore, TooLargeError
from salus.runtime.problems import ProblemError
from salus.storage.handlers.upload_records import Place, UploadId, upload_corrupt

PARTS_FOLDER = "_uploads"
PART_BYTES = 4 * 1024 * 1024
"""So much of an upload is in memory, and is lost if its process is killed."""

PARTS_MAX = 20_000
"""An upload has at most so many parts: who sends very small ones lists no more."""

_PART = re.compile(
    rf"{PARTS_FOLDER}/(?P<owner>[0-9a-f]{{32}})/(?P<id>[^/]+)/(?P<start>[0-9]{{16}})", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Span:
    """The bytes of one part."""

    start: int
    end: int


@dataclass(frozen=True)
class UploadParts:
    """The parts of one upload."""

    store: ObjectStore
    place: Place

    async def spans(self) -> list[Span]:
        """Return the parts that follow each other from the beginning; what lies behind a gap is none.

        Nor is what would reach the end: storage never keeps the last bytes as a part, so somebody else put it
        there, and the offset must not say that the upload is an object.
        """
        spans: list[Span] = []
        end = 0
        async for entry in self.store.list(self._folder, on_stray=lambda _: None):
            reached = end + entry.size - OVERHEAD_BYTES
            if entry.key != self._name(end) or not end < reached < self.place.id.length:
                break
            spans.append(Span(end, reached))
            end = reached
        return spans

    async def add(self, data: bytes, *, start: int, key: UploadKey) -> None:
        """Make a part durable; raises ProblemError 409 `offset-mismatch` if there is one."""
        sealed = await asyncio.to_thread(key.seal, data, start=start)
        try:
            await self.store.create(self._name(start), sealed)
        except AlreadyExistsError:
            raise offset_mismatch() from None

    async def content(self, spans: list[Span], *, key: UploadKey, tail: bytes) -> AsyncIterator[bytes]:
        """Yield the bytes of the parts, then what was not stored; raises ProblemError before a wrong one.

        One that went meanwhile is 409 `offset-mismatch`: another request completed or ended the upload.
        """
        for span in spans:
            bytes_max = span.end - span.start + OVERHEAD_BYTES
            try:
                sealed = await self.store.get(self._name(span.start), bytes_max=bytes_max)
                data = await asyncio.to_thread(key.open, sealed, start=span.start)
            except NotFoundError:
                raise offset_mismatch() from None
            except (CryptoError, TooLargeError):
                raise upload_corrupt() from None
            if len(data) != span.end - span.start:
                raise upload_corrupt()
            yield data
        yield tail

    async def remove(self) -> None:
        """Remove every part; a crash midway leaves some that do not open any more, and are swept."""
        async for entry in self.store.list(self._folder, on_stray=lambda _: None):
            await self.store.delete(entry.key)

    @property
    def _folder(self) -> str:
        return f"{PARTS_FOLDER}/{self.place.name}"

    def _name(self, start: int) -> str:
        return f"{self._folder}/{start:016d}"


async def stored_parts(store: ObjectStore) -> AsyncIterator[tuple[str, Place]]:
    """Yield the name of each part of any upload, and which it is of."""
    async for entry in store.list(PARTS_FOLDER, on_stray=lambda _: None):
        if (place := place_of_part(entry.key)) is not None:
            yield entry.key, place


def place_of_part(name: str) -> Place | None:
    """Return which upload a part of this name is of; None if parts are not called so."""
    found = _PART.fullmatch(name)
    id_ = UploadId.parse(found["id"]) if found else None
    return Place(found["owner"], id_) if found and id_ else None


def offset_mismatch() -> ProblemError:
    """Return what is answered to who goes on at another place than where the upload is."""
    detail = "Upload-Offset: the upload is elsewhere, or somebody else goes on with it; ask with HEAD"
    return ProblemError(409, "offset-mismatch", detail)


def beyond_length(length: int) -> ProblemError:
    """Return what is answered to more bytes than the upload was to have."""
    return ProblemError(413, "too-large", f"Upload-Length: the upload has {length} bytes")


def unknown_upload() -> ProblemError:
    """Return what is answered where the caller has no such upload."""
    return ProblemError(404, "unknown-upload", "the caller has no such upload")
