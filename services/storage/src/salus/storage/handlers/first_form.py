"""Objects of the first form, of which the ledger has no tree: only a whole pass shows what they are.

What is sent of them is sent by a second pass, which is bound to the first.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field

from salus.crypto.errors import CommitmentError, HeaderError, SegmentError, UnknownSuiteError, UnsealError
from salus.crypto.sealed_object_v1 import ObjectHeader, split_header
from salus.crypto.segments import TAG_BYTES, Segments, cut
from salus.objects import NotFoundError, ObjectStore
from salus.storage.domain import ObjectState
from salus.storage.handlers.damage import (
    FAULTS_MAX,
    Fault,
    Report,
    by_size,
    commitment_faults,
    key_of,
    location,
)
from salus.storage.handlers.tally import Tally


@dataclass(frozen=True, slots=True)
class CheckedContent:
    """The content of an object that was found intact: header, data key and digest bind the second pass.

    Its header was compared with the ledger byte for byte, and only who knows its data key makes segments
    that open. So whatever lies in the store by then, nothing but that object's own segments is sent.
    """

    store: ObjectStore
    stored: ObjectState
    header: ObjectHeader
    segments: Segments = field(repr=False)
    plaintext_sha256: bytes

    async def pieces(self, start: int, end: int) -> AsyncGenerator[bytes]:
        """Yield the content from one byte to another, whatever lies in the store by now.

        Raises:
            HeaderError: another object lies there; no byte was yielded.
            SegmentError: a segment is not that object's; what was yielded is.
            CommitmentError: the end of what was yielded is not its end.
        """
        header, rest = await split_header(self.store.stream(location(self.stored)))
        if header != self.header:
            raise HeaderError("it is not the object that was checked")
        content = Tally()
        async for piece in self.segments.open_all(rest):
            at = content.size
            content.add(piece)
            wanted = piece[max(0, start - at) : max(0, end - at)]
            if wanted:
                yield wanted
            if content.size >= end and end < self.stored.plaintext_bytes:
                return
        if content.sha256 != self.plaintext_sha256:
            raise CommitmentError


async def inspect_first_form(
    store: ObjectStore, stored: ObjectState, *, private_key: bytes | None
) -> tuple[Report, CheckedContent | None]:
    """Read a whole object in constant memory and compare it with what the ledger says of it.

    Its content is returned too, if the object is intact and its segments were opened.

    With the patient's key every segment is authenticated and the content compared with its commitment, so
    the wrong segment is named. Without it (she was erased) only SHA-256 and size of the ciphertext are
    compared, which tells that something is wrong but not where.

    Raises:
        StoreAwayError: the store does not answer.
    """
    raw = Tally()
    faults: list[Fault] = []
    compared = ["ciphertext"]
    checked: CheckedContent | None = None
    chunks = raw.through(store.stream(location(stored)))
    try:
        if private_key is not None:
            compared += ["header", "segments", "commitment"]
            try:
                header, segments, rest = await _open_header(chunks, stored, private_key)
            except HeaderError:
                faults.append(Fault("header", "altered"))
            else:
                content = Tally()
                faults += await _with_key(segments, rest, stored, private_key, content)
                checked = CheckedContent(store, stored, header, segments, content.sha256)
        async for _ in chunks:
            pass
    except NotFoundError:
        return Report(stored.object, ("ciphertext",), (Fault("object", "missing"),), 0), None
    if not faults and raw.sha256.hex() != stored.ciphertext_sha256:
        faults.append(Fault("object", by_size(raw.size, stored)))
    report = Report(stored.object, tuple(compared), tuple(faults), raw.size)
    return report, checked if report.intact else None


async def _open_header(
    chunks: AsyncIterator[bytes], stored: ObjectState, private_key: bytes
) -> tuple[ObjectHeader, Segments, AsyncIterator[bytes]]:
    header, rest = await split_header(chunks)
    if (header.object, header.patient, header.data_key.key) != (
        stored.object,
        stored.patient,
        key_of(stored),
    ):
        raise HeaderError("it belongs to another object")
    try:
        return header, header.open_segments(private_key), rest
    except (UnsealError, UnknownSuiteError) as error:
        raise HeaderError("its data key does not open") from error


async def _with_key(
    segments: Segments,
    rest: AsyncIterator[bytes],
    stored: ObjectState,
    private_key: bytes,
    content: Tally,
) -> list[Fault]:
    faults = await _segments(segments, rest, content)
    if not faults and content.size != stored.plaintext_bytes:
        faults.append(Fault("content", "altered"))
    if not faults:
        faults += commitment_faults(stored, content.sha256, private_key)
    return faults


async def _segments(segments: Segments, chunks: AsyncIterator[bytes], content: Tally) -> list[Fault]:
    faults: list[Fault] = []
    index = 0
    async for segment, last in cut(chunks, segments.segment_bytes + TAG_BYTES):
        try:
            content.add(segments.open(index, segment, last=last))
        except SegmentError as error:
            faults.append(Fault("segment", error.fault, segment=index))
            if len(faults) == FAULTS_MAX:
                break
        index += 1
    return faults
