"""Builds small valid ledgers, for tests and examples: real events, real signatures, real blocks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256

from salus.archive.body import ACCEPTED, BodyColumns, encode_body
from salus.events.contexts import CATALOGUE
from salus.events.contexts.clinical import DocumentRegistered
from salus.events.envelope import decode_event, encode_event
from salus.events.signature import Signer, sign_values
from salus.ledger.block import Handover, Header, Range, body_key, header_key, leaf_hashes, sign_header
from salus.ledger.merkle import leaf_hash, root_of
from salus.ledger.note import NoteSigner
from salus.ledger.records import timestamp_at
from salus.objects import ObjectStore

TOPIC = "salus.clinical.events"
IDENTITY = "salus.identity.events"
BEGIN = datetime(2026, 11, 22, 15, 0, tzinfo=UTC)
BEGIN_MS = timestamp_at(BEGIN)


@dataclass(frozen=True, slots=True)
class SampleRecord:
    """A record as the sequencer judged it; `value` None is a tombstone."""

    topic: str
    partition: int
    offset: int
    value: bytes | None
    signature: bytes | None
    status: str = ACCEPTED
    timestamp_ms: int = BEGIN_MS


def sample_value(number: int, signer: Signer, *, time: datetime = BEGIN) -> bytes:
    """Return the bytes of a small valid event."""
    patient = f"urn:uuid:00000000-0000-4000-8000-{number % 10**12:012d}"
    data = DocumentRegistered(patient=patient, object=f"object-{number}", media_type="application/json")
    source = signer.verification_method.partition("#")[0]
    return encode_event(data, id=f"event-{number}", source=source, subject=patient, time=time)


def sample_records(
    count: int, *, signer: Signer, partition: int = 0, first: int = 0, topic: str = TOPIC
) -> list[SampleRecord]:
    """Return accepted records of one partition from offset `first` on, signed in one batch.

    The broker appended one a millisecond from BEGIN on.
    """
    if count == 0:
        return []
    values = [sample_value(partition * 10**6 + first + i, signer) for i in range(count)]
    signatures = sign_values(values, signer)
    return [
        SampleRecord(topic, partition, first + i, value, signature, timestamp_ms=BEGIN_MS + first + i)
        for i, (value, signature) in enumerate(zip(values, signatures, strict=True))
    ]


@dataclass
class ChainBuilder:
    """Seals blocks of one shard into a store, as a sequencer does; without bodies it seals headers alone.

    The first header is dated `begin`, and each one a second after the one before.
    """

    objects: ObjectStore
    note_signer: NoteSigner
    event_signer: Signer
    shard: int = 0
    with_bodies: bool = True
    identity_position: int = 0
    begin: datetime = BEGIN
    headers: list[Header] = field(default_factory=list)
    notes: list[bytes] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    _next: dict[tuple[str, int], int] = field(default_factory=dict)

    def cover(self, partitions: Iterable[tuple[str, int]]) -> None:
        """Cover these partitions from their beginning, also while they are empty, as a sequencer does."""
        self._next = dict.fromkeys(partitions, 0) | self._next

    async def seal_samples(self, *counts: int) -> None:
        """Seal one block with so many accepted records on partitions 0, 1, … of the sample topic."""
        records = [
            record
            for partition, count in enumerate(counts)
            for record in sample_records(
                count,
                signer=self.event_signer,
                partition=partition,
                first=self._next.get((TOPIC, partition), 0),
            )
        ]
        await self.seal(records)

    async def seal(self, records: Sequence[SampleRecord], *, handovers: Sequence[Handover] = ()) -> bytes:
        """Seal a block of these records, which must go on where the last block ended; return its header note.

        Offsets may be left out: the ranges cover them all the same. A block that hands over has no records.
        """
        self._next |= {(h.topic, h.partition): h.offset for h in handovers if h.way == "took"}
        rows = sorted(records, key=lambda r: (r.topic, r.partition, r.offset))
        columns = columns_of(rows)
        body = encode_body(columns) if self.with_bodies else b""
        root = root_of(columns.leaf_hash)
        header = replace(self._header(rows, root=root, body=body), handovers=tuple(sorted(handovers)))
        for line in handovers:
            if line.way == "gave":
                del self._next[line.topic, line.partition]
        note = sign_header(header, self.note_signer)
        if self.with_bodies:
            await self.objects.put(body_key(self.shard, header.height, root), body)
        await self.objects.create(header_key(self.shard, header.height), note)
        self.headers.append(header)
        self.notes.append(note)
        self.bodies.append(body)
        return note

    def _header(self, rows: Sequence[SampleRecord], *, root: bytes, body: bytes) -> Header:
        first = dict(self._next)
        for row in rows:
            first.setdefault((row.topic, row.partition), row.offset)
            self._next[row.topic, row.partition] = row.offset + 1
        height = len(self.headers)
        return Header(
            origin=self.note_signer.name,
            height=height,
            leaves=len(rows),
            root=root,
            previous=leaf_hash(self.notes[-1]) if self.notes else bytes(32),
            time=self.begin + timedelta(seconds=height),
            accepted=sum(row.status == ACCEPTED for row in rows),
            body_bytes=len(body),
            body_sha256=sha256(body).digest(),
            identity=(IDENTITY, 0, self.identity_position),
            ranges=tuple(Range(t, p, first[t, p], self._next[t, p]) for t, p in sorted(self._next)),
        )


def columns_of(rows: Iterable[SampleRecord]) -> BodyColumns:
    """Return the body's columns of these records, which must be in leaf order."""
    columns = BodyColumns()
    for row in rows:
        digest = bytes(32) if row.value is None else leaf_hash(row.value)
        accepted = row.status == ACCEPTED and row.value is not None
        envelope = decode_event(row.value, CATALOGUE).envelope if accepted and row.value is not None else None
        columns.topic.append(row.topic)
        columns.partition.append(row.partition)
        columns.offset.append(row.offset)
        columns.timestamp.append(row.timestamp_ms)
        columns.status.append(row.status)
        columns.id.append(envelope.id if envelope else None)
        columns.source.append(envelope.source if envelope else None)
        columns.type.append(envelope.type if envelope else None)
        columns.subject.append(envelope.subject if envelope else None)
        columns.time.append(envelope.time if envelope else None)
        columns.digest.append(None if accepted else digest)
        columns.signature.append(row.signature)
        columns.value.append(row.value if accepted else None)
        leaf = (row.topic, row.partition, row.offset, row.timestamp_ms, row.status, digest, row.signature)
        columns.leaf_hash += leaf_hashes([leaf])
    return columns
