"""A small network in memory: one shard, a hospital that signs, and everything a sequencer works through."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, partial
from hashlib import sha256
from typing import Literal, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.asking import NETWORK, UNASKED, truly_asked

from salus.archive.body import ACCEPTED, decode_body
from salus.archive.duplicates import WindowSize
from salus.events.contexts import CATALOGUE
from salus.events.contexts.clinical import DocumentRegistered
from salus.events.contexts.identity import KeyRevoked, PartyRegistered, PublicKey
from salus.events.did import LocalSigner, multibase_of
from salus.events.envelope import encode_event
from salus.events.event_types import EventData, type_of
from salus.events.keyring import KeyRing
from salus.events.parties import Founder
from salus.events.requests import Request
from salus.events.signature import sign_values
from salus.ledger.block import Header, Leaf, body_key, check_succession, header_key, open_header, parse_header
from salus.ledger.key_periods import Keys
from salus.ledger.merkle import leaf_hash, root_of
from salus.ledger.note import NoteSigner, NoteVerifier, split_note
from salus.ledger.records import SIGNATURE_HEADER, timestamp_at
from salus.messaging import Record, RestoredRanges
from salus.objects.memory import MemoryObjects
from salus.sequencer.adapters.archive import ObjectArchive
from salus.sequencer.adapters.memory import (
    MemoryAnnouncements,
    MemoryClock,
    MemoryIdentities,
    MemoryLog,
    MemoryTopics,
    SilentObserver,
    inline,
)
from salus.sequencer.adapters.patience import Patience
from salus.sequencer.domain import Partition, draft_block
from salus.sequencer.gathering import Limits
from salus.sequencer.handlers import Sequencer, run
from salus.sequencer.ports import Offload
from salus.sequencer.restoring import Shard

IDENTITY = ("salus.identity.events", 0)
CLINICAL = "salus.clinical.events"
PARTITIONS: tuple[Partition, ...] = ((CLINICAL, 0), (CLINICAL, 1), IDENTITY)
PATIENT = "urn:uuid:00000000-0000-4000-8000-000000000001"
FROM = datetime(2026, 1, 1, tzinfo=UTC)
ROOT = LocalSigner.from_seed(b"R" * 32)
HOSPITAL = LocalSigner.from_seed(b"H" * 32)
NEWCOMER = LocalSigner.from_seed(b"W" * 32)
OPERATOR = LocalSigner.from_seed(b"O" * 32)
FOUNDING = Request.of_service(ROOT.did)
_T = TypeVar("_T")
NOTE_KEY = NoteSigner("test/shard/0", Ed25519PrivateKey.from_private_bytes(b"N" * 32))


def public_key(signer: LocalSigner) -> PublicKey:
    return PublicKey(
        id=signer.verification_method, multibase=multibase_of(signer.public_key), valid_from=FROM
    )


@cache
def document(number: int, *, id_: str | None = None) -> bytes:
    data = DocumentRegistered(patient=PATIENT, object=f"object-{number}", media_type="text/plain")
    return encoded(data, id_=id_ or f"id-{number}", signer=HOSPITAL, subject=PATIENT)


def encoded(  # what an event is made of
    data: EventData,
    *,
    id_: str,
    signer: LocalSigner,
    subject: str,
    time: datetime = FROM,
    version: int = 0,
) -> bytes:
    """`version` is the one that is expected, if the event changes its subject."""
    expected = version if type_of(data).changes else None
    return encode_event(
        data, id=id_, source=signer.did, subject=subject, time=time, expected_version=expected
    )


def hospital_leaves(reason: Literal["left", "compromised"], *, time: datetime = FROM) -> bytes:
    """The hospital revokes the key by which it was registered."""
    key = HOSPITAL.verification_method
    revoked = KeyRevoked(did=HOSPITAL.did, key_id=key, reason=reason, request=UNASKED)
    asked = truly_asked(revoked, HOSPITAL, at=time)
    return encoded(asked, id_="revoke", signer=ROOT, subject=HOSPITAL.did, time=time, version=1)


def hospital_joins() -> bytes:
    data = PartyRegistered(did=HOSPITAL.did, kind="member", keys=(public_key(HOSPITAL),), request=FOUNDING)
    return encoded(data, id_="hospital", signer=ROOT, subject=HOSPITAL.did)


def new_ring() -> KeyRing:
    """The ring of a network that was founded by an operator, who is there, and two members, who may join."""
    founders = (Founder(each.did, "member", (), public_key(each)) for each in (HOSPITAL, NEWCOMER))
    ring = KeyRing.rooted(CATALOGUE, network=NETWORK, did=ROOT.did, key=public_key(ROOT), founders=founders)
    key = (public_key(OPERATOR),)
    ring.apply(PartyRegistered(OPERATOR.did, "person", key, ("operator",), request=FOUNDING))
    return ring


@cache
def signed(value: bytes, signer_seed: bytes = b"H" * 32) -> tuple[tuple[str, bytes], ...]:
    return ((SIGNATURE_HEADER, sign_values([value], LocalSigner.from_seed(signer_seed))[0]),)


@cache
def next_offsets_of(note: bytes) -> dict[Partition, int]:
    return parse_header(split_note(note)[0]).next_offsets


@dataclass
class Judge:
    """An `Offload` that judges for as long as `meanwhile` lasts, which is told how many blocks were before.

    Whatever else is offloaded is done at once. Records are judged by a ring that must not grow meanwhile.
    """

    meanwhile: Callable[[int], Awaitable[None]]
    judged: int = 0

    async def __call__(self, work: Callable[[], _T]) -> _T:
        if isinstance(work, partial) and work.func is draft_block:
            await self._judging(work.keywords["ring"])
        return work()

    async def _judging(self, ring: KeyRing) -> None:
        position = ring.position
        await self.meanwhile(self.judged)
        assert ring.position == position, "the ring grew while records were judged by it"
        self.judged += 1


@dataclass
class World:
    """Topics, a store and the announcements; `sequencer()` gives one more sequencer on them."""

    store: MemoryObjects = field(default_factory=MemoryObjects)
    topics: MemoryTopics = field(default_factory=lambda: MemoryTopics({at: [] for at in PARTITIONS}))
    clock: MemoryClock = field(default_factory=MemoryClock)
    announcements: MemoryAnnouncements = field(default_factory=MemoryAnnouncements)
    limits: Limits = field(default_factory=Limits)
    # A sequencer takes its whole window's memory when it starts, and here many start, for few events.
    window: WindowSize = field(default_factory=lambda: WindowSize(pairs=10_000))
    note_key: NoteSigner = NOTE_KEY
    seals: Shard | None = None
    offload: Offload = inline
    restored: RestoredRanges = field(default_factory=dict)

    @classmethod
    def with_hospital(cls, **choices: object) -> World:
        world = cls(**choices)  # type: ignore[arg-type]  # a test's choices
        world.publish(hospital_joins(), at=IDENTITY, seed=b"R" * 32, key=HOSPITAL.did.encode())
        return world

    @property
    def shard(self) -> Shard:
        if self.seals is not None:
            return self.seals
        verifier = NoteVerifier.from_vkey(self.note_key.vkey)
        return Shard(id=0, verifier=verifier, partitions=PARTITIONS, identity=IDENTITY)

    def sequencer(self) -> Sequencer:
        return Sequencer(
            shard=self.shard,
            signer=self.note_key,
            archive=ObjectArchive(self.store, Patience(pause_first_s=0)),
            log=MemoryLog(self.topics, self.clock, restored=self.restored),
            identities=MemoryIdentities(self.topics, IDENTITY, new_ring),
            announcements=self.announcements,
            observer=SilentObserver(),
            clock=self.clock,
            offload=self.offload,
            limits=self.limits,
            window=self.window,
        )

    def publish(
        self,
        value: bytes | None,
        *,
        at: Partition = (CLINICAL, 0),
        seed: bytes = b"H" * 32,
        key: bytes | None = PATIENT.encode(),
        headers: Sequence[tuple[str, bytes]] | None = None,
    ) -> Record:
        sent = headers if headers is not None else signed(value or b"", seed)
        return self.topics.append(*at, key=key, value=value, headers=sent)

    async def seal_everything(self) -> None:
        """Run a sequencer until every record is in a block."""
        await self.run_until(self.is_everything_sealed)

    async def run_until(self, condition: Callable[[], bool]) -> None:
        stop = asyncio.Event()
        running = asyncio.create_task(run(self.sequencer(), stop))
        while not running.done() and not condition():  # noqa: ASYNC110  # each step of the loop is a step of the world
            await asyncio.sleep(0)
        stop.set()
        await running

    def is_everything_sealed(self) -> bool:
        last = max((key for key in self.store.objects if key.endswith("/header")), default=None)
        sealed = {} if last is None else next_offsets_of(self.store.objects[last][0])
        lasts = {
            at: max((r.offset for r in rs if r), default=-1) for at, rs in self.topics.partitions.items()
        }
        return all(sealed.get(at, 0) > last for at, last in lasts.items())

    def notes(self) -> list[bytes]:
        """Return every header note of the store, which must have consecutive heights."""
        keys = sorted(key for key in self.store.objects if key.endswith("/header"))
        assert keys == [header_key(0, height) for height in range(len(keys))]
        return [self.store.objects[key][0] for key in keys]

    def headers(self) -> list[Header]:
        return [open_header(note, self.shard.verifier) for note in self.notes()]

    def rows(self) -> list[dict[str, object]]:
        """Check the whole chain from the store alone and return every leaf's row, in order."""
        assert len(self.notes()) == sum(key.endswith("/header") for key in self.store.objects)
        return rows_of(self.store, 0, self.shard.verifier)

    def statuses(self) -> dict[tuple[str, int, int], str]:
        return {(r["topic"], r["partition"], r["offset"]): r["status"] for r in self.rows()}  # type: ignore[misc]  # rows are Any


def rows_of(store: MemoryObjects, shard: int, verifier: Keys) -> list[dict[str, object]]:
    """Check one shard's chain from the store alone and return every leaf's row, in order."""
    before: tuple[Header, bytes] | None = None
    rows: list[dict[str, object]] = []
    while (stored := store.objects.get(header_key(shard, before[0].height + 1 if before else 0))) is not None:
        note = stored[0]
        header = open_header(note, verifier)
        check_succession(before, header)
        body = store.objects[body_key(shard, header.height, header.root)][0]
        assert (len(body), sha256(body).digest()) == (header.body_bytes, header.body_sha256)
        block = decode_body(body).to_pylist()
        assert root_of([_leaf_of(row).hash() for row in block]) == header.root
        assert [_leaf_of(row).hash() for row in block] == [row["leaf_hash"] for row in block]
        assert sum(row["status"] == ACCEPTED for row in block) == header.accepted
        assert len(block) == header.leaves
        _check_ranges(header, block)
        rows += block
        before = header, note
    return rows


def _leaf_of(row: dict[str, object]) -> Leaf:
    digest = row["digest"] if row["value"] is None else leaf_hash(row["value"])  # type: ignore[arg-type]  # rows are Any
    place = row["topic"], row["partition"], row["offset"], timestamp_at(row["timestamp"])  # type: ignore[arg-type]  # rows are Any
    return Leaf(*place, row["status"], digest, row["signature"])  # type: ignore[arg-type]  # rows are Any


def _check_ranges(header: Header, block: list[dict[str, object]]) -> None:
    places = [(row["topic"], row["partition"], row["offset"]) for row in block]
    assert places == sorted(set(places))
    covered = {(r.topic, r.partition): range(r.first, r.next) for r in header.ranges}
    assert all(offset in covered[topic, partition] for topic, partition, offset in places)  # type: ignore[index]  # rows are Any
