"""The content of an object in the store: each part of it is proven before a byte of that part is used.

The ledger has the root of the tree over the object's parts. Head and index are read and compared with it
first; each segment is compared with the index, then opened. So the first byte leaves after one segment, a
range takes its own segments only, and whoever can write to the store, and even who has the patient's key,
brings no byte of his own to a reader.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Protocol

from salus.crypto.commitment import require_commitment
from salus.crypto.errors import CryptoError, HeaderError, SegmentError
from salus.crypto.sealed_object import (
    HASH_BYTES,
    HEADER_BYTES_MAX,
    Layout,
    ObjectHeader,
    header_in,
    parse_header,
)
from salus.crypto.streaming_aead import STREAM_HEADER_BYTES, SegmentCipher, SegmentPlan
from salus.objects import NotFoundError, ObjectStore
from salus.storage.domain import ObjectState
from salus.storage.handlers.damage import Fault, corrupt, key_of, location, salt_of
from salus.storage.handlers.first_form import inspect_first_form
from salus.storage.handlers.segment_tree import SegmentIndex

if TYPE_CHECKING:
    from hashlib import _Hash as HASH  # what typeshed calls it

WHOLE_BYTES_MAX = 64 * 1024
"""Up to this size an object is read by one request, and held."""

PIECE_BYTES = 256 * 1024
"""What is handed on at once: a slow reader has to take this much within the time for one piece."""

OFFLOADED_BYTES_MIN = 64 * 1024
"""From this size on hashing and opening a segment take longer than handing them to a thread."""


class Content(Protocol):
    """What may be read of an object that was found to be what the ledger says."""

    def pieces(self, start: int, end: int) -> AsyncGenerator[bytes]:
        """Yield the content from byte `start` up to `end`; raises CryptoError before a wrong byte."""


@dataclass(frozen=True, slots=True)
class StoredBytes:
    """The bytes of one object in the store, by their places; `whole` if they were read already."""

    store: ObjectStore
    name: str
    whole: bytes | None = None

    async def read(self, start: int, end: int) -> bytes:
        """Return the bytes between two places; fewer if the object is shorter."""
        return b"".join([piece async for piece in self.stream(start, end)])

    async def stream(self, start: int, end: int) -> AsyncIterator[bytes]:
        """Yield them in pieces."""
        if self.whole is not None:
            yield self.whole[start:end]
            return
        async for piece in self.store.stream(self.name, start=start, end=end):
            yield piece

    async def parts(self, layout: Layout, first: int, last: int) -> AsyncIterator[tuple[int, bytes]]:
        """Yield these segments as they are stored, with their numbers; they end where the object does."""
        index, held = first, Held()
        start, end = layout.segment_start(first), layout.segment_start(last + 1)
        async for piece in self.stream(start, end):
            held.add(piece)
            while index <= last and held.size >= (due := layout.segment_bytes(index)):
                yield index, held.take(due)
                index += 1
        if held.size:
            yield index, held.take(held.size)


class Held:
    """Pieces of any size, out of which pieces of a certain size are taken; each byte is copied once."""

    def __init__(self) -> None:
        self.size = 0
        self._pieces: deque[memoryview] = deque()

    def add(self, piece: bytes) -> None:
        """Take in a piece."""
        self._pieces.append(memoryview(piece))
        self.size += len(piece)

    def take(self, size: int) -> bytes:
        """Return the first so many bytes, which have to be there."""
        taken, left = list[memoryview](), size
        while left:
            piece = self._pieces.popleft()
            if len(piece) > left:
                self._pieces.appendleft(piece[left:])
            taken.append(piece[:left])
            left -= len(taken[-1])
        self.size -= size
        return b"".join(taken)


@dataclass(frozen=True, slots=True)
class Head:
    """The head and the index of an object, compared with the ledger."""

    header: ObjectHeader
    stream_header: bytes
    layout: Layout
    index: SegmentIndex


async def stored_bytes(store: ObjectStore, stored: ObjectState) -> StoredBytes:
    """Return the bytes of an object, at once if it is small."""
    source = StoredBytes(store, location(stored))
    if stored.ciphertext_bytes > WHOLE_BYTES_MAX:
        return source
    return StoredBytes(store, source.name, await source.read(0, WHOLE_BYTES_MAX))


async def read_head(source: StoredBytes, stored: ObjectState) -> Head:
    """Read head and index of an object and compare them with the ledger.

    Raises:
        ProblemError: 502 `object-corrupt`.
        NotFoundError: nothing is there.
    """
    beginning = await source.read(0, HEADER_BYTES_MAX + STREAM_HEADER_BYTES)
    try:
        raw = header_in(beginning)
        header = parse_header(raw)
    except HeaderError:
        raise corrupt(Fault("header", "altered")) from None
    layout = Layout(len(raw), SegmentPlan(stored.plaintext_bytes, header.segment_bytes))
    if layout.size != stored.ciphertext_bytes:
        raise corrupt(Fault("header", "altered"))
    index = SegmentIndex(await source.read(layout.index_start, layout.size))
    if len(index.joined) != HASH_BYTES * (1 + layout.plan.count):
        raise corrupt(Fault("object", "truncated"))
    if index.root != stored.ciphertext_root:
        raise corrupt(Fault("index", "altered"))
    head = beginning[: layout.head_bytes]
    if not index.has_head(head) or not is_of(header, stored):
        raise corrupt(Fault("header", "altered"))
    return Head(header, head[layout.header_bytes :], layout, index)


def is_of(header: ObjectHeader, stored: ObjectState) -> bool:
    """Tell whether a header names this object, its patient and her key."""
    named = (header.object, header.patient, header.data_key.key)
    return named == (stored.object, stored.patient, key_of(stored))


@dataclass(frozen=True, slots=True)
class CommittedContent:
    """The content of an object whose parts the ledger commits to."""

    stored: ObjectState
    source: StoredBytes
    layout: Layout
    index: SegmentIndex
    cipher: SegmentCipher = field(repr=False)
    salt: bytes = field(repr=False)

    async def pieces(self, start: int, end: int) -> AsyncGenerator[bytes]:
        """Yield the content between two places, each segment proven and opened beside the one before it.

        All of it is compared with its commitment, too, before its last segment goes.

        Raises:
            SegmentError: names the first segment that is not the one of the ledger.
            CommitmentError: the ledger's tree and its commitment are of different content.
        """
        async with aclosing(_ahead(self._opened(start, end))) as segments:
            async for segment in segments:
                for at in range(0, len(segment), PIECE_BYTES):
                    yield segment[at : at + PIECE_BYTES]

    async def _opened(self, start: int, end: int) -> AsyncIterator[bytes]:
        plan = self.layout.plan
        first, last = plan.segment_at(start), plan.segment_at(max(start, end - 1))
        due = first
        digest = sha256() if (start, end) == (0, plan.plaintext_bytes) else None
        async for index, part in self.source.parts(self.layout, first, last):
            opened = await self._open(index, part, digest)
            at = plan.plaintext_start(index)
            yield opened[max(0, start - at) : end - at]
            due = index + 1
        if due <= last:
            raise SegmentError(segment=due, fault="truncated")

    async def _open(self, index: int, part: bytes, digest: HASH | None) -> bytes:
        if len(part) < OFFLOADED_BYTES_MIN:
            return self._proven(index, part, digest)
        return await asyncio.to_thread(self._proven, index, part, digest)

    def _proven(self, index: int, part: bytes, digest: HASH | None) -> bytes:
        plan = self.layout.plan
        if len(part) < self.layout.segment_bytes(index):
            raise SegmentError(segment=index, fault="truncated")
        if not self.index.has_segment(index, part):
            raise SegmentError(segment=index, fault="altered")
        last = index == plan.count - 1
        opened = self.cipher.open(index, part, last=last)
        if digest is not None:
            digest.update(opened)
            if last:
                commitment = bytes.fromhex(self.stored.commitment)
                require_commitment(commitment, salt=self.salt, plaintext_sha256=digest.digest())
        return opened


async def open_content(store: ObjectStore, stored: ObjectState, *, private_key: bytes) -> Content:
    """Return the content of an object, as far as it can be proven before it is read.

    Of an object of the first form that takes a pass over all of it.

    Raises:
        ProblemError: 502 `object-corrupt`.
        StoreAwayError: the store does not answer.
    """
    if not stored.ciphertext_root:
        report, checked = await inspect_first_form(store, stored, private_key=private_key)
        if checked is None:
            raise corrupt(*report.faults)
        return checked
    try:
        source = await stored_bytes(store, stored)
        head = await read_head(source, stored)
        cipher = head.header.open_cipher(private_key, stream_header=head.stream_header)
        salt = salt_of(stored, private_key)
    except NotFoundError:
        raise corrupt(Fault("object", "missing")) from None
    except CryptoError:
        raise corrupt(Fault("header", "altered")) from None
    return CommittedContent(stored, source, head.layout, head.index, cipher, salt)


async def _ahead(items: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    """Yield them, the next one being made while the one before is used."""
    following = asyncio.ensure_future(anext(items, None))
    try:
        while (item := await following) is not None:
            following = asyncio.ensure_future(anext(items, None))
            yield item
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
