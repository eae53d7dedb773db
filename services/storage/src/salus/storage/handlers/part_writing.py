"""Writes what comes of an upload as parts, in constant memory, and keeps its last bytes back."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import AsyncIterable, Awaitable, Callable
from dataclasses import dataclass

from salus.crypto.upload_parts import UploadKey
from salus.runtime.problems import ProblemError
from salus.storage.handlers.upload_parts import PARTS_MAX, UploadParts, beyond_length


class BrokenBodyError(Exception):
    """A body ended before its end; what came of it is kept. `cause` is what the caller is answered."""

    def __init__(self, cause: Exception) -> None:
        super().__init__("the body ended before its end")
        self.cause = cause


@dataclass(frozen=True, slots=True)
class Digest:
    """The digest that bytes must have; `wrong` is what is answered if they have another."""

    algorithm: str
    value: bytes
    wrong: ProblemError

    def require(self, data: bytes) -> None:
        """Raise ProblemError unless it is the digest of the data."""
        found = hashlib.new(self.algorithm, data, usedforsecurity=False).digest()
        if not hmac.compare_digest(found, self.value):
            raise self.wrong


@dataclass(frozen=True, slots=True)
class Patch:
    """Bytes that are to go on with an upload, from `offset` on.

    If they have to have `digests`, none is kept before all were compared, so they have to fit into a part.
    """

    patient: str
    object: str
    offset: int
    body: AsyncIterable[bytes]
    digests: tuple[Digest, ...] = ()


class PartWriter:
    """Writes what comes as parts, as long as it may come; `offset` is the end of what is durable."""

    def __init__(  # noqa: PLR0913  # where, from which byte on, and as long as what holds
        self,
        parts: UploadParts,
        key: UploadKey,
        *,
        offset: int,
        number: int,
        part_bytes: int,
        require: Callable[[bool], Awaitable[None]],
    ) -> None:
        """Write behind `number` parts. `require`, told if it must look now, raises unless this may go on."""
        self._parts = parts
        self._key = key
        self._number = number
        self._part_bytes = part_bytes
        self._require = require
        self.offset = offset

    async def streamed(self, body: AsyncIterable[bytes]) -> bytes | None:
        """Write a body while it comes; return the last bytes of the upload, which are not written."""
        held, size = bytearray(), self._part_bytes
        try:
            async for piece in body:
                self._require_room(len(held) + len(piece))
                held += piece
                while len(held) > size:
                    await self._write(bytes(held[:size]), must_look=False)
                    del held[:size]
        except BrokenBodyError:
            if held and not self._ends_with(len(held)):
                await self._write(bytes(held), must_look=True)
            raise
        return await self._rest(bytes(held))

    async def held(self, patch: Patch) -> bytes | None:
        """Write a body once its digests were compared; a body that broke off is not kept."""
        held = bytearray()
        async for piece in patch.body:
            self._require_room(len(held) + len(piece))
            if len(held) + len(piece) > self._part_bytes:
                detail = f"a body whose digest is named has at most {self._part_bytes} bytes"
                raise ProblemError(413, "too-large", detail)
            held += piece
        data = bytes(held)
        for digest in patch.digests:
            digest.require(data)
        return await self._rest(data)

    async def _rest(self, data: bytes) -> bytes | None:
        if self._ends_with(len(data)):
            return data
        if data:
            await self._write(data, must_look=True)
        return None

    async def _write(self, data: bytes, *, must_look: bool) -> None:
        if self._number >= PARTS_MAX:
            raise ProblemError(
                413, "too-many-parts", f"an upload has at most {PARTS_MAX} parts: send larger ones"
            )
        await self._require(must_look)
        await self._parts.add(data, start=self.offset, key=self._key)
        self.offset += len(data)
        self._number += 1

    def _ends_with(self, size: int) -> bool:
        return self.offset + size == self._parts.place.id.length

    def _require_room(self, size: int) -> None:
        length = self._parts.place.id.length
        if self.offset + size > length:
            raise beyond_length(length)
