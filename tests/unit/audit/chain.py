"""A shard's chain of real, signed blocks in memory: the ledger that the indexer reads in unit tests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.unit.audit.people import new_ring
from tests.unit.audit.samples import MEMBER, NOON, asked_of

from salus.archive.body import BodyColumns, decode_body, encode_body
from salus.archive.errors import BodyError
from salus.audit.domain.identity_history import IDENTITY_TOPIC
from salus.audit.identity_chain import IdentityTopic
from salus.audit.ports import OutOfReachError, UnreadableBodyError
from salus.events.envelope import encode_event
from salus.events.event_types import EventData, type_of
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
from salus.ledger.key_periods import Keys
from salus.ledger.merkle import leaf_hash, root_of
from salus.ledger.note import NoteSigner
from salus.ledger.records import timestamp_at

TOPIC = "salus.clinical.events"
ORIGIN = "salus.local/dev/shard/0"
IDENTITY_PARTITION = (IDENTITY_TOPIC, 0)


def identity_topic(founder: str = ORIGIN) -> IdentityTopic:
    """Blocks here hold what nobody signed, so none is judged; test_judged_blocks.py has signed ones."""
    return IdentityTopic(IDENTITY_PARTITION, founder, new_ring, judge=lambda *_: {})


@dataclass(frozen=True)
class Accepted:
    """A record that the sequencer accepted; without a `version` it expects the one that its subject has."""

    data: EventData
    source: str = MEMBER
    name: str = "event-1"
    subject: str | None = None
    version: int | None = None
    time: datetime = NOON
    topic: str | None = None


@dataclass(frozen=True)
class Refused:
    """A record that the sequencer rejected."""

    reason: str
    value: bytes = b"garbage"


class Chain:
    """Makes blocks and serves them as a `Ledger`; `away` and `objects` are for tests to break.

    Identity's events go onto their own topic, which shard 0 seals besides `topic`.
    """

    def __init__(self, *, topic: str = TOPIC, origin: str = ORIGIN, shard: int = 0) -> None:
        self.signer = NoteSigner(origin, Ed25519PrivateKey.from_private_bytes(bytes([shard % 255 + 1]) * 32))
        self.shard = shard
        self.objects: dict[str, bytes] = {}
        self.height = 0
        self.away = False
        self._origin = origin
        self._topic = topic
        self.next: dict[str, int] = {topic: 0} | ({IDENTITY_TOPIC: 0} if shard == 0 else {})
        self._judged_at = 0
        self._previous = NO_PREVIOUS
        self._versions: Counter[str] = Counter()

    def seal(
        self,
        records: Sequence[Accepted | Refused],
        *,
        took: str | None = None,
        judged_at: int | None = None,
        takes: Mapping[str, tuple[str, int]] | None = None,
        gives: Mapping[str, str] | None = None,
        identity: tuple[str, int] = IDENTITY_PARTITION,
    ) -> Header:
        """Append a block of these records.

        It may take the chain's topic from the block of the origin `took`. `takes` says of other topics from
        which block, and at which offset; `gives` to which origin. Without `judged_at` it was judged at the
        end of the identity events that it holds, or where the block before was.
        """
        taken = {self._topic: (took, self.next[self._topic])} if took else {}
        taken |= takes or {}
        self.next |= {topic: offset for topic, (_, offset) in taken.items()}
        first = dict(self.next)
        columns = BodyColumns()
        for topic in sorted(self.next):
            for record in records:
                if self._topic_of(record) == topic:
                    at = NOON + timedelta(seconds=self.height)
                    _append(columns, topic, self.next[topic], record, self._versions, at=at)
                    self.next[topic] += 1
        handovers = [Handover("took", topic, 0, at, other) for topic, (other, at) in taken.items()]
        handovers += [Handover("gave", topic, 0, self.next[topic], to) for topic, to in (gives or {}).items()]
        self._judged_at = (
            max(self._judged_at, self.next.get(IDENTITY_TOPIC, 0)) if judged_at is None else judged_at
        )
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
            identity=(*identity, self._judged_at),
            ranges=tuple(Range(topic, 0, first[topic], self.next[topic]) for topic in sorted(self.next)),
            handovers=tuple(sorted(handovers)),
        )
        for topic in gives or {}:
            del self.next[topic]
        note = sign_header(header, self.signer)
        self.objects[body_key(self.shard, self.height, header.root)] = body
        self.objects[header_key(self.shard, self.height)] = note
        self._previous = leaf_hash(note)
        self.height += 1
        return header

    def _topic_of(self, record: Accepted | Refused) -> str:
        match record:
            case Accepted(topic=str(topic)):
                return topic
            case Accepted() if type_of(record.data).topic == IDENTITY_TOPIC:
                return IDENTITY_TOPIC
            case _:
                return self._topic

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
    columns: BodyColumns,
    topic: str,
    offset: int,
    record: Accepted | Refused,
    versions: Counter[str],
    *,
    at: datetime,
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
    columns.timestamp.append(timestamp_at(at))
    columns.status.append(status)
    columns.leaf_hash.append(Leaf(topic, 0, offset, timestamp_at(at), status, digest, signature).hash())
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


class Chains:
    """The chains of several shards as one `Ledger`."""

    def __init__(self, *chains: Chain) -> None:
        self._chains = {chain.shard: chain for chain in chains}

    async def header(self, shard: int, height: int) -> bytes | None:
        return await self._chains[shard].header(shard, height)

    async def body(self, shard: int, header: Header) -> bytes:
        return await self._chains[shard].body(shard, header)

    def rows(self, body: bytes) -> Sequence[Sequence[Any]]:
        return next(iter(self._chains.values())).rows(body)

    @property
    def keys(self) -> dict[int, Keys]:
        return {shard: chain.signer.verifier for shard, chain in self._chains.items()}
