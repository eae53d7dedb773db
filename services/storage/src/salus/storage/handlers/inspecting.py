"""Check a stored object against the ledger, and name exactly what is wrong with it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Literal

from salus.crypto.commitment import require_commitment
from salus.crypto.errors import CommitmentError, HeaderError, SegmentError, UnknownSuiteError, UnsealError
from salus.crypto.sealed_object import ObjectHeader, split_header
from salus.crypto.sealing import unseal
from salus.crypto.segments import TAG_BYTES, Segments, cut
from salus.objects import NotFoundError, ObjectStore
from salus.runtime.problems import ProblemError
from salus.storage.domain import ObjectState, location_of
from salus.storage.handlers.tally import Tally

FAULTS_MAX = 16
"""An inspection names this many faults and then stops looking for more."""

SALT_CONTEXT = "salus.storage.object-stored.v1"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong: the whole object, its header, one segment (from 0), or what they add up to."""

    part: Literal["object", "header", "segment", "content"]
    fault: Literal["missing", "altered", "truncated", "extended"]
    segment: int | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What an inspection compared and found; without a key only the ciphertext can be compared."""

    object: str
    checked: tuple[str, ...]
    faults: tuple[Fault, ...]
    ciphertext_bytes: int

    @property
    def intact(self) -> bool:
        """Whether everything compared is as the ledger says."""
        return not self.faults


@dataclass(frozen=True, slots=True)
class Checked:
    """What a second pass is bound to: header, data key and content of the object that was found intact.

    Its header was compared with the ledger byte for byte, and only who knows its data key makes segments
    that open. So whatever lies in the store by then, nothing but that object's own segments is sent.
    """

    header: ObjectHeader
    segments: Segments = field(repr=False)
    plaintext_sha256: bytes


async def inspect(
    store: ObjectStore, stored: ObjectState, *, private_key: bytes | None
) -> tuple[Report, Checked | None]:
    """Read a whole object in constant memory and compare it with what the ledger says of it.

    What was checked is returned too, if the object is intact and its segments were opened.

    With the patient's key every segment is authenticated and the content compared with its commitment, so
    the wrong segment is named. Without it (she was erased) only SHA-256 and size of the ciphertext are
    compared, which tells that something is wrong but not where.

    Raises:
        StoreAwayError: the store does not answer.
    """
    raw = Tally()
    faults: list[Fault] = []
    compared = ["ciphertext"]
    checked: Checked | None = None
    chunks = raw.through(store.stream(_location(stored)))
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
                checked = Checked(header, segments, content.sha256)
        async for _ in chunks:
            pass
    except NotFoundError:
        return Report(stored.object, ("ciphertext",), (Fault("object", "missing"),), 0), None
    if not faults and raw.sha256.hex() != stored.ciphertext_sha256:
        faults.append(Fault("object", _by_size(raw.size, stored)))
    report = Report(stored.object, tuple(compared), tuple(faults), raw.size)
    return report, checked if report.intact else None


async def require_there(store: ObjectStore, stored: ObjectState) -> None:
    """Raise unless an object of the right size lies in the store; its bytes are not looked at.

    Raises:
        ProblemError: 502 `object-corrupt`.
        StoreAwayError: the store does not answer.
    """
    try:
        entry = await store.head(_location(stored))
    except NotFoundError:
        raise corrupt(Fault("object", "missing")) from None
    if entry.size != stored.ciphertext_bytes:
        raise corrupt(Fault("object", _by_size(entry.size, stored)))


async def stream_checked(store: ObjectStore, stored: ObjectState, checked: Checked) -> AsyncIterator[bytes]:
    """Yield the content of the object that was checked, whatever lies in the store by now.

    Raises:
        HeaderError: another object lies there; no byte was yielded.
        SegmentError: a segment is not that object's; what was yielded is.
        CommitmentError: the end of what was yielded is not its end.
    """
    header, rest = await split_header(store.stream(_location(stored)))
    if header != checked.header:
        raise HeaderError("it is not the object that was checked")
    content = Tally()
    async for piece in content.through(checked.segments.open_all(rest)):
        yield piece
    if content.sha256 != checked.plaintext_sha256:
        raise CommitmentError


async def _open_header(
    chunks: AsyncIterator[bytes], stored: ObjectState, private_key: bytes
) -> tuple[ObjectHeader, Segments, AsyncIterator[bytes]]:
    header, rest = await split_header(chunks)
    _require_header(header, stored)
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
        faults += _commitment(stored, content.sha256, private_key)
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


def _commitment(stored: ObjectState, plaintext_sha256: bytes, private_key: bytes) -> list[Fault]:
    try:
        require_commitment(
            bytes.fromhex(stored.commitment),
            salt=salt_of(stored, private_key),
            plaintext_sha256=plaintext_sha256,
        )
    except (CommitmentError, UnsealError, ValueError):
        return [Fault("content", "altered")]
    return []


def salt_of(stored: ObjectState, private_key: bytes) -> bytes:
    """Return the salt of an object's commitment; raises UnsealError."""
    if stored.salt is None:
        raise UnsealError("")
    return unseal(stored.salt, private_key=private_key, context=SALT_CONTEXT)


def _require_header(header: ObjectHeader, stored: ObjectState) -> None:
    key = stored.salt.key if stored.salt else ""
    if (header.object, header.patient, header.data_key.key) != (stored.object, stored.patient, key):
        raise HeaderError("it belongs to another object")


def _by_size(size: int, stored: ObjectState) -> Literal["altered", "truncated", "extended"]:
    if size == stored.ciphertext_bytes:
        return "altered"
    return "truncated" if size < stored.ciphertext_bytes else "extended"


def _location(stored: ObjectState) -> str:
    if stored.salt is None:
        raise ValueError("an object without a salt was never stored")
    return location_of(stored.object, stored.salt)


def corrupt(*faults: Fault) -> ProblemError:
    """Return what is answered where an object is not what the ledger says."""
    return ProblemError(
        502,
        "object-corrupt",
        f"the stored object is not what the ledger says: {_sentence(faults[0])}",
        faults=[as_json(fault) for fault in faults],
    )


def as_json(fault: Fault) -> dict[str, str | int]:
    """Return a fault as the API tells it."""
    told: dict[str, str | int] = {"part": fault.part, "fault": fault.fault}
    return told if fault.segment is None else {**told, "segment": fault.segment}


def _sentence(fault: Fault) -> str:
    part = fault.part if fault.segment is None else f"{fault.part} {fault.segment}"
    return f"{part} is {fault.fault}"
