"""Check a stored object against the ledger, and name exactly what is wrong with it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

from salus.crypto.errors import CryptoError, HeaderError, SegmentError
from salus.crypto.sealed_object import HEADER_BYTES_MAX, Layout, ObjectHeader, header_in, parse_header
from salus.crypto.streaming_aead import STREAM_HEADER_BYTES, SegmentCipher, SegmentPlan
from salus.objects import NotFoundError, ObjectStore
from salus.storage.domain import ObjectState
from salus.storage.handlers.content import StoredBytes, is_of
from salus.storage.handlers.damage import (
    FAULTS_MAX,
    Fault,
    Report,
    by_size,
    commitment_faults,
    location,
)
from salus.storage.handlers.first_form import inspect_first_form
from salus.storage.handlers.segment_tree import SegmentIndex
from salus.storage.handlers.tally import Tally


async def inspect(store: ObjectStore, stored: ObjectState, *, private_key: bytes | None) -> Report:
    """Read a whole object in constant memory and compare it with what the ledger says of it.

    Each part is compared with the tree that the ledger commits to, with or without the patient's key. With
    it the segments are opened too, and the content compared with its commitment.

    Raises:
        StoreAwayError: the store does not answer.
    """
    if not stored.ciphertext_root:
        return (await inspect_first_form(store, stored, private_key=private_key))[0]
    try:
        size = (await store.head(location(stored))).size
        inspection = _Inspection(StoredBytes(store, location(stored)), stored, private_key, size)
        await inspection.run()
    except NotFoundError:
        return Report(stored.object, ("ciphertext",), (Fault("object", "missing"),), 0)
    compared = ("ciphertext", "header", "segments", *(("commitment",) if private_key is not None else ()))
    return Report(stored.object, compared, tuple(inspection.faults), size)


@dataclass
class _Inspection:
    """One pass over an object; what is wrong is gathered in `faults`."""

    source: StoredBytes
    stored: ObjectState
    private_key: bytes | None
    size: int
    faults: list[Fault] = field(default_factory=list)
    raw: Tally = field(default_factory=Tally)
    content: Tally = field(default_factory=Tally)

    async def run(self) -> None:
        beginning = await self.source.read(0, HEADER_BYTES_MAX + STREAM_HEADER_BYTES)
        header, layout = self._header(beginning)
        tail = await self.source.read(layout.index_start, layout.size)
        index = self._index(tail, layout)
        head = beginning[: layout.head_bytes]
        if header is None and index is None:
            # Nobody can tell where its segments are.
            del self.faults[1:]
            return
        if header is not None and not (index is None or index.has_head(head)):
            self._note_header()
            header = None
        cipher = self._cipher(header, head[layout.header_bytes :])
        self.raw.add(head)
        await self._segments(layout, index, cipher)
        self.raw.add(tail)
        if not self.faults and self.size != self.stored.ciphertext_bytes:
            self.faults.append(Fault("object", by_size(self.size, self.stored)))
        if not self.faults and self.raw.sha256.hex() != self.stored.ciphertext_sha256:
            self.faults.append(Fault("object", "altered"))
        if not self.faults and self.private_key is not None:
            self.faults += commitment_faults(self.stored, self.content.sha256, self.private_key)

    def _header(self, beginning: bytes) -> tuple[ObjectHeader | None, Layout]:
        """Return the header if it fits the event, and the layout: of it, or else as this version makes it."""
        plan = SegmentPlan(self.stored.plaintext_bytes)
        with suppress(HeaderError):
            raw = header_in(beginning)
            header = parse_header(raw)
            layout = Layout(len(raw), SegmentPlan(self.stored.plaintext_bytes, header.segment_bytes))
            if layout.size == self.stored.ciphertext_bytes and is_of(header, self.stored):
                return header, layout
        rest = Layout(0, plan).size
        self._note_header()
        return None, Layout(max(0, self.stored.ciphertext_bytes - rest), plan)

    def _note_header(self) -> None:
        self.faults.append(Fault("header", "altered"))

    def _index(self, tail: bytes, layout: Layout) -> SegmentIndex | None:
        index = SegmentIndex(tail)
        if index.root == self.stored.ciphertext_root:
            return index
        if len(tail) == layout.size - layout.index_start:
            self.faults.append(Fault("index", "altered"))
        return None

    def _cipher(self, header: ObjectHeader | None, stream_header: bytes) -> SegmentCipher | None:
        if header is None or self.private_key is None:
            return None
        try:
            return header.open_cipher(self.private_key, stream_header=stream_header)
        except CryptoError:
            self._note_header()
            return None

    async def _segments(
        self, layout: Layout, index: SegmentIndex | None, cipher: SegmentCipher | None
    ) -> None:
        due = 0
        async for number, part in self.source.parts(layout, 0, layout.plan.count - 1):
            fault = await asyncio.to_thread(self._segment, number, part, layout, index, cipher)
            if fault is not None:
                self.faults.append(Fault("segment", fault, segment=number))
            if len(self.faults) >= FAULTS_MAX:
                return
            due = number + 1
        if due < layout.plan.count and self.faults[-1:] != [Fault("segment", "truncated", segment=due - 1)]:
            self.faults.append(Fault("segment", "truncated", segment=due))

    def _segment(
        self,
        number: int,
        part: bytes,
        layout: Layout,
        index: SegmentIndex | None,
        cipher: SegmentCipher | None,
    ) -> Literal["altered", "truncated"] | None:
        self.raw.add(part)
        if len(part) < layout.segment_bytes(number):
            return "truncated"
        if index is not None and not index.has_segment(number, part):
            return "altered"
        if cipher is not None:
            try:
                self.content.add(cipher.open(number, part, last=number == layout.plan.count - 1))
            except SegmentError:
                return "altered"
        return None
