"""A shard's chain of real, signed blocks in memory: the ledger that the indexer reads in unit tests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.unit.audit.samples import MEMBER, NOON, asked_of

from salus.archive.body import BodyColumns, decode_body, encode_body
from salus.archive.errors import BodyError
from salus.audit.ports import OutOfReachError, UnreadableBodyError
from salus.events.catalogue import EventData, type_of
from salus.events.envelope import encode_event
from salus.ledger.block import (
    ACCEPTED,
    NO_PREVIOUS,
    Handover,
    Header,
    Leaf,
    Range,
    body_key,
    header_key,
    sign_header,
)
from salus.ledger.merkle import leaf_hash, root_of
from salus.ledger.note import NoteSigner

TOPIC = "salus.clinical.events"
ORIGIN = "salus.local/dev/shard/0"


@dataclass(frozen=True)
class Accepted:
    """A record that the sequencer accepted; without a `version` it expects the one that its subject has."""

    data: EventData
    source: str = MEMBER
    name: str = "event-1"
    subject: str | None = None
    version: int | None = None
    time: datetime = NOON


@dataclass(frozen=True)
class Refused:
    """A record that the sequencer rejected."""

    reason: str
    value: bytes = b"garbage"


class Chain:
    """Makes blocks and serves them as a `Ledger`; `away` and `objects` are for tests to break."""

    def __init__(self, *, topic: str = TOPIC, origin: str = ORIGIN, shard: int = 0) -> None:
        self.signer = NoteSigner(origin, Ed25519PrivateKey.from_private_bytes(bytes([shard + 1]) * 32))
        self.shard = shard
        self.objects: dict[str, bytes] = {}
        self.height = 0
        self.away = False
        self._origin = origin
        self._topic = topic
        self._offset = 0
        self._previous = NO_PREVIOUS
        self._versions: Counter[str] = Counter()

    def seal(self, records: Sequence[Accepted | Refused], *, took: str | None = None) -> Header:
        """Append a block of these records; it may take the partition from the block of that origin."""
        columns = BodyColumns()
        for index, record in enumerate(records):
            _append(columns, self._topic, self._offset + index, record, self._versions)
        body = encode_body(columns)
        header = Header(
            origin=self._origin,
            height=self.height,
            leaves=len(records),
            root=root_of(columns.leaf_hash),
            previous=self._previous,
            time=NOON + timedelta(seconds=self.height),
            accepted=sum(isinstance(record, Accepted) for record in records),
            body_bytes=len(body),
            body_sha256=sha256(body).digest(),
            identity=("salus.identity.events", 0, 0),
            ranges=(Range(self._topic, 0, self._offset, self._offset + len(records)),),
            handovers=(Handover("took", self._topic, 0, self._offset, took),) if took else (),
        )
        note = sign_header(header, self.signer)
        self.objects[body_key(self.shard, self.height, header.root)] = body
        self.objects[header_key(self.shard, self.height)] = note
        self._previous, self._offset = leaf_hash(note), self._offset + len(records)
        self.height += 1
        return header

    async def header(self, shard: int, height: int) -> bytes | None:
        if self.away:
            raise OutOfReachError("the archive: away")
        return self.objects.get(header_key(shard, height))

    async def body(self, shard: int, header: Header) -> bytes:
        try:
            return self.objects[body_key(shard, header.height, header.root)]
        except KeyError:
            raise UnreadableBodyError("missing") from None

    def rows(self, body: bytes) -> Sequence[Sequence[Any]]:
        try:
            table = decode_body(body)
        except BodyError as error:
            raise UnreadableBodyError(str(error)) from error
        return list(zip(*(column.to_pylist() for column in table.columns), strict=True))


def _append(
    columns: BodyColumns, topic: str, offset: int, record: Accepted | Refused, versions: Counter[str]
) -> None:
    value, signature = None, b"v1 signature"
    match record:
        case Accepted():
            entry = type_of(record.data)
            field = entry.subject_field or ("patient" if hasattr(record.data, "patient") else "did")
            subject = record.subject or str(getattr(record.data, field))
            version = versions[subject] if record.version is None else record.version
            if entry.changes and version == versions[subject]:
                versions[subject] += 1
            value = encode_event(
                asked_of(record.data, source=record.source),
                id=record.name,
                source=record.source,
                subject=subject,
                time=record.time,
                expected_version=version if entry.changes else None,
            )
            status, digest = ACCEPTED, leaf_hash(value)
            _name(columns, (record.name, record.source, entry.name, subject, record.time))
        case Refused():
            status, digest = f"rejected:{record.reason}", leaf_hash(record.value)
            _name(columns, None)
    columns.topic.append(topic)
    columns.partition.append(0)
    columns.offset.append(offset)
    columns.status.append(status)
    columns.leaf_hash.append(Leaf(topic, 0, offset, status, digest, signature).hash())
    columns.digest.append(None if value is not None else digest)
    columns.signature.append(signature)
    columns.value.append(value)


def _name(columns: BodyColumns, named: tuple[str, str, str, str, datetime] | None) -> None:
    name, source, kind, subject, time = named or (None, None, None, None, None)
    columns.id.append(name)
    columns.source.append(source)
    columns.type.append(kind)
    columns.subject.append(subject)
    columns.time.append(time)
