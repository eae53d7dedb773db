"""An upload on its way into the store: cut into segments, sealed, hashed and counted, in constant memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator

from salus.crypto.sealed_object import ObjectHeader
from salus.crypto.streaming_aead import SegmentCipher
from salus.storage.handlers.content import OFFLOADED_BYTES_MIN, Held
from salus.storage.handlers.segment_tree import SegmentIndex, part_hash
from salus.storage.handlers.tally import Tally


class SealedUpload:
    """The stored form of one body; once `parts` has ended, what the event says of it."""

    def __init__(self, header: ObjectHeader, cipher: SegmentCipher) -> None:
        self.plain = Tally()
        self.raw = Tally()
        self._head = header.encode() + cipher.stream_header
        self._cipher = cipher
        self._leaves = bytearray()

    @property
    def root(self) -> str:
        """The root of the tree over head and segments."""
        return SegmentIndex(bytes(self._leaves)).root

    async def parts(self, body: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        """Yield head and segments as they are stored; `index` belongs behind them."""
        yield self._noted(self._head)
        index = 0
        async for segment, last in self._segments(body):
            if len(segment) < OFFLOADED_BYTES_MIN:
                yield self._sealed(index, segment, last=last)
            else:
                yield await asyncio.to_thread(self._sealed, index, segment, last=last)
            index += 1

    def index(self) -> bytes:
        """Return what is stored last."""
        leaves = bytes(self._leaves)
        self.raw.add(leaves)
        return leaves

    async def _segments(self, body: AsyncIterable[bytes]) -> AsyncIterator[tuple[bytes, bool]]:
        """Yield what fills each segment, and whether it is the last: it is known what follows it."""
        index, held = 0, Held()
        async for piece in body:
            held.add(piece)
            while held.size > (room := self._cipher.room(index)):
                yield held.take(room), False
                index += 1
        yield held.take(held.size), True

    def _sealed(self, index: int, segment: bytes, *, last: bool) -> bytes:
        self.plain.add(segment)
        return self._noted(self._cipher.seal(index, segment, last=last))

    def _noted(self, part: bytes) -> bytes:
        self._leaves += part_hash(part)
        self.raw.add(part)
        return part
