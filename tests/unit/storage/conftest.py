"""Storage's handlers with everything of the outside replaced by fakes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
from tests.asking import NETWORK, UNASKED, calling

from salus.contracts.contract import Contract
from salus.contracts.decision import Decision
from salus.contracts.testing import faults
from salus.contracts.testing.faults import Schedule
from salus.contracts.testing.memory import MemoryTopics
from salus.crypto.kms import RootsInUse
from salus.crypto.streaming_aead import SEGMENT_BYTES_MIN, STREAM_HEADER_BYTES, TAG_BYTES
from salus.events.contexts import CATALOGUE
from salus.events.event_types import EventData
from salus.events.keyring import KeyRing
from salus.events.parties import Party
from salus.events.requests import Request
from salus.events.state_positions import TopicPositions, state_positions
from salus.objects.memory import Fault, MemoryObjects
from salus.runtime.limits import AccountLimit, Rate
from salus.runtime.refusal import Refusal
from salus.storage.adapters.facts import EPOCHS, OBJECTS, SUBJECTS, FoldedFacts
from salus.storage.adapters.vault import BucketVault
from salus.storage.domain import (
    ObjectState,
    SubjectState,
    destruction_of,
    object_name,
    owed_destruction,
)
from salus.storage.handlers.reading import Reading
from salus.storage.handlers.refusals import Refusals
from salus.storage.handlers.sealed_reading import SealedReading
from salus.storage.handlers.standing import Standing
from salus.storage.handlers.storing import Storing, Upload
from salus.storage.handlers.subjects import Subjects
from salus.storage.handlers.upload_records import UploadRecords
from salus.storage.handlers.upload_sweep import UploadSweep
from salus.storage.handlers.uploading import Uploading, UploadLimits
from salus.storage.transfers import Limits

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
PATIENT = "urn:uuid:00000000-0000-4000-8000-000000000001"
HOSPITAL = Party(did="did:web:hospital", kind="member", roles=frozenset(), member=None)
LABORATORY = Party(did="did:web:laboratory", kind="member", roles=frozenset(), member=None)
DOCTOR = Party(did="did:web:doctor", kind="person", roles=frozenset({"clinician"}), member=HOSPITAL.did)
OFFICER = Party(
    did="did:web:officer", kind="person", roles=frozenset({"privacy-officer"}), member=HOSPITAL.did
)

# Small segments, so that an object of some of them is small.
SEGMENT_BYTES = SEGMENT_BYTES_MIN
FIRST_BYTES = SEGMENT_BYTES - TAG_BYTES - STREAM_HEADER_BYTES
# Small parts, too.
PART_BYTES = 1000
CONTENT = bytes(index % 251 for index in range(3 * SEGMENT_BYTES - 200))


class Topic:
    """Storage's topics in memory, which it sees through its own adapter."""

    def __init__(self, topics: MemoryTopics | None = None, own: Request = UNASKED) -> None:
        self.topics = topics or MemoryTopics(FOLDED, catalogue=CATALOGUE)
        # What an event of storage's own accord says.
        self.own = own
        self.restart()

    def restart(self) -> None:
        """Begin with a new replica."""
        replica = self.topics.replica()
        facts = FoldedFacts(replica, replica, replica.writer, replica.host(SUBJECTS))
        self.catch_up, self.view, self.destroyed = facts.catch_up, facts.view, facts.destroyed
        self.announce, self.execute = facts.announce, facts.execute

    def meet(self, faults: Iterable[Fault]) -> None:
        """Let the next events meet these; other stores may share the iterator."""
        self.topics.faults = Schedule(_MET[fault] for fault in faults)

    @property
    def events(self) -> list[EventData]:
        """What took effect, with what was late."""
        self.topics.arrive()
        return self.topics.applied

    async def subject(self, patient: str) -> SubjectState:
        return self.topics.state(SUBJECTS, patient)

    async def object(self, patient: str, name: str) -> ObjectState:
        return self.topics.state(OBJECTS, object_name(patient, name))

    def fold(self, data: EventData, patient: str) -> None:
        self.topics.append(data, subject=patient)


FOLDED: tuple[Contract[Any], ...] = (SUBJECTS, OBJECTS, EPOCHS)
_MET = {Fault.NONE: None, Fault.LOST: faults.Fault.LOST, Fault.LATE: faults.Fault.LATE}


@dataclass
class Performed:
    """Settles erasures as the reactor's host does, whose own tests are elsewhere."""

    topic: Topic
    vault: BucketVault

    async def perform(self, patient: str) -> None:
        for key in owed_destruction(await self.topic.subject(patient)):
            await self.vault.destroy(patient, key=key)

            def rule(state: SubjectState, key: str = key) -> EventData:
                if key not in owed_destruction(state):
                    raise Refusal("settled", "it is recorded")
                return destruction_of(state, key, request=self.topic.own)

            with suppress(Refusal):
                await self.topic.execute(patient, rule)


def positions(events: int, revocations: int = 0) -> tuple[TopicPositions, ...]:
    """Return what a statement rests on after so many events of the topics of storage and consent."""
    return state_positions(
        {
            ("salus.consent.events", 0): revocations,
            ("salus.identity.events", 0): 0,
            ("salus.storage.events", 0): events,
        }
    )


class PlainKms:
    """Wraps by binding the context, and hides nothing."""

    async def wrap(self, key: bytes, *, context: str) -> bytes:
        return context.encode() + b"|" + key

    async def unwrap(self, wrapped: bytes, *, context: str) -> bytes:
        found, _, key = wrapped.partition(b"|")
        assert found == context.encode()
        return key

    async def rewrap(self, wrapped: bytes, *, context: str) -> bytes:
        return await self.wrap(await self.unwrap(wrapped, context=context), context=context)

    async def is_current(self, wrapped: bytes) -> bool:  # noqa: ARG002  # the port's form
        return True

    async def rotate(self) -> str:
        return "plain"

    async def retire(self, in_use: RootsInUse) -> None:
        await in_use()

    async def check(self) -> None:
        """Return: it is always there."""

    async def close(self) -> None:
        """Do nothing."""


class Tokens:
    """Takes the names of decisions for tokens."""

    def __init__(self) -> None:
        self.known: dict[str, Decision] = {}

    async def read(self, token: str, *, at: datetime) -> Decision:  # noqa: ARG002  # the port's form
        if token not in self.known:
            raise Refusal("invalid-decision", "no such decision", status=403)
        return self.known[token]

    def grant(self, name: str, **facts: object) -> str:
        self.known[name] = decision(**{"id": name, **facts})
        return name


class FixedRing:
    """The parties of these tests."""

    def __init__(self) -> None:
        self.known = KeyRing(
            CATALOGUE,
            NETWORK,
            parties={party.did: party for party in (HOSPITAL, LABORATORY, DOCTOR, OFFICER)},
        )

    @property
    def ring(self) -> KeyRing:
        return self.known

    async def catch_up(self) -> KeyRing:
        return self.known


def decision(**facts: object) -> Decision:
    right: dict[str, object] = {
        "id": "d-1",
        "principal": DOCTOR.did,
        "action": "read",
        "object": "o-1",
        "patient": PATIENT,
        "purpose": "TREAT",
        "epoch": 0,
        "break_glass": False,
        # As its holder's still are: a member has none.
        "roles": DOCTOR.roles if facts.get("principal", DOCTOR.did) == DOCTOR.did else frozenset(),
        "expires": NOW + timedelta(seconds=60),
    }
    return Decision(**{**right, **facts})  # type: ignore[arg-type]  # the tests say which facts


class Bench:
    """Storage as its handlers see it."""

    def __init__(self, met: Iterable[Fault] = ()) -> None:
        order = iter(met)
        self.topic = Topic()
        self.topic.meet(order)
        self.keys = MemoryObjects(faults=order)
        self.objects = MemoryObjects(faults=order)
        self.tokens = Tokens()
        self.ring = FixedRing()
        self.refused = AccountLimit("refused reads", Rate(burst=100, per_minute=1))
        self.numbers = count(1)
        self.now: Callable[[], datetime] = lambda: NOW
        self.restart()

    def restart(self) -> None:
        """Forget everything that only the process knew."""
        self.vault = BucketVault(self.keys, PlainKms())
        self.topic.restart()
        topic, standing = self.topic, Standing(self.topic, self.ring, self.now)
        self.erasures = Performed(topic, self.vault)
        self.subjects = Subjects(topic, topic, self.vault, self.erasures, standing)
        self.storing = Storing(topic, topic, self.objects, self.vault, self.tokens, 10_000_000, standing, 0)
        self.storing = replace(self.storing, segment_bytes=SEGMENT_BYTES)
        limits = UploadLimits(lifetime_s=3600, open_of_one_max=3, open_bytes_of_one_max=100_000)
        self.records = UploadRecords(self.keys)
        self.uploading = Uploading(self.storing, self.records, self.objects, limits, part_bytes=PART_BYTES)
        self.upload_sweep = UploadSweep(self.records, self.objects, self.now, 60)
        refusals = Refusals(topic, self.refused)
        self.reading = Reading(topic, topic, self.objects, self.vault, self.tokens, standing, 0, refusals)
        self.sealed = SealedReading(standing, topic, self.vault, self.tokens, refusals, lambda: CATALOGUE)

    async def registered(self) -> SubjectState:
        number = str(next(self.numbers))
        return await self.subjects.register(
            patient=PATIENT, steward=HOSPITAL.did, number=number, caller=calling(HOSPITAL)
        )

    async def stored(self, content: bytes, *, name: str = "o-1", patient: str = PATIENT) -> ObjectState:
        state, _ = await self.storing.store(
            Upload(name, patient, "text/plain", pieces(content)), caller=calling(HOSPITAL), token=None, at=NOW
        )
        return state

    async def read(self, name: str = "o-1", *, token: str | None = None) -> bytes:
        given = token or self.tokens.grant("right", object=name)
        outgoing = await self.reading.open(name, patient=PATIENT, caller=calling(DOCTOR), token=given, at=NOW)
        return b"".join([piece async for piece in outgoing.pieces()])

    def stored_bytes(self) -> bytearray:
        (entry,) = self.objects.objects.values()
        return bytearray(entry[0])

    def corrupt(self, data: bytes) -> None:
        ((key, (_, etag)),) = self.objects.objects.items()
        self.objects.objects[key] = (bytes(data), etag)


def limits_of(**changes: float) -> Limits:
    """Return limits that no test meets unless it says so."""
    facts: dict[str, Any] = {
        "object_bytes_max": 1_000_000,
        "transfers_max": 2,
        "transfers_of_one_max": 2,
        "verifications_max": 2,
        "body_idle_s_max": 60.0,
        "transfer_s_max": 60.0,
    }
    return Limits(**facts | changes)


def refused(code: str) -> pytest.RaisesExc[Refusal]:
    """Expect the contract to say no, with this code."""
    return pytest.raises(Refusal, check=lambda refusal: refusal.code == code)


async def bench_with(content: bytes) -> Bench:
    """Return a bench that has an object of this content."""
    bench = Bench()
    await bench.registered()
    await bench.stored(content)
    return bench


async def pieces(content: bytes, size: int = 70_000) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]
