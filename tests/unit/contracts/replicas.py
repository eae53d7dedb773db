"""Replicas of storage with its reactor of erasures, over a real database and a topic that outlives them."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, cast

from sqlalchemy import select
from tests.asking import NETWORK, UNASKED, truly_asked
from tests.founding import public_key
from tests.pseudonyms import patient_of

from salus.client import DeliveryError
from salus.contracts.contract import ContractHost
from salus.contracts.facts import FactWriter
from salus.contracts.fold import Follower
from salus.contracts.fold_store import FoldStore
from salus.contracts.fold_tables import OBLIGATIONS
from salus.contracts.projection import digest_of
from salus.contracts.reactor_host import Obligation, Pace, ReactorHost
from salus.contracts.reactors import Reactor
from salus.devkit.waiting import until
from salus.events.contexts import CATALOGUE
from salus.events.contexts.identity import PartyRegistered
from salus.events.contexts.storage import SubjectErased, SubjectKeyDestroyed, SubjectRegistered
from salus.events.did import LocalSigner
from salus.events.envelope import decode_event, encode_event
from salus.events.event_types import EventData
from salus.events.keyring import KeyRing
from salus.events.requests import Request
from salus.events.signature import sign_values
from salus.ledger.records import SIGNATURE_HEADER
from salus.messaging import Position, Reader, Record
from salus.objects.memory import Fault
from salus.runtime.database import open_engine
from salus.runtime.problems import ProblemError
from salus.runtime.publishing import Stated
from salus.storage.adapters.facts import ERASURE, STORAGE_TOPIC, SUBJECTS
from salus.storage.domain import SubjectState, destruction_of

AT = (STORAGE_TOPIC, 0)
DEADLINE_S, PACE = 30, Pace()
STORAGE, HOSPITAL = (LocalSigner.from_seed(bytes([n]) * 32) for n in (1, 2))


PATIENT = patient_of(HOSPITAL.did, 1)


def ring() -> KeyRing:
    """Return what everybody judges by: storage and a hospital."""
    made = KeyRing(CATALOGUE, NETWORK)
    for signer, kind, roles in ((STORAGE, "service", ("storage",)), (HOSPITAL, "member", ())):
        party: dict[str, Any] = {"did": signer.did, "kind": kind, "roles": roles}
        made.apply(PartyRegistered(**party, keys=(public_key(signer),), request=UNASKED))
    return made


class FixedView:
    """The identity topic, which does not change here."""

    def __init__(self) -> None:
        self.ring = ring()

    async def catch_up(self) -> KeyRing:
        return self.ring


class Topic:
    """Storage's topic, for all who read it; with a file it outlives the process."""

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        lines = file.read_bytes().splitlines() if file is not None and file.exists() else []
        self.values: list[tuple[bytes, bytes]] = [
            (base64.b64decode(value), base64.b64decode(signature))
            for value, signature in (line.split(b" ") for line in lines)
        ]
        self._grown = asyncio.Event()

    def append(self, value: bytes, signature: bytes) -> int:
        if self._file is not None:
            with self._file.open("ab") as file:
                file.write(base64.b64encode(value) + b" " + base64.b64encode(signature) + b"\n")
        self.values.append((value, signature))
        self._grown.set()
        self._grown = asyncio.Event()
        return len(self.values) - 1

    async def from_offset(self, offset: int, *, wait_s: float) -> Sequence[Record]:
        if len(self.values) <= offset:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._grown.wait(), wait_s)
        now_ms = int(datetime.now(UTC).timestamp() * 1000)
        return [
            Record(*AT, number, now_ms, subject_of(value).encode(), value, ((SIGNATURE_HEADER, signature),))
            for number, (value, signature) in enumerate(self.values)
            if number >= offset
        ]

    def told(self, kind: type[EventData], patient: str = PATIENT) -> int:
        """Return how many events of a class there are about a patient, whatever became of them."""
        events = [decode_event(value, CATALOGUE) for value, _ in self.values]
        return sum(isinstance(e.data, kind) and e.envelope.subject == patient for e in events)


def subject_of(value: bytes) -> str:
    return decode_event(value, CATALOGUE).envelope.subject


class TopicReader:
    """Reads the topic as `salus.messaging.Reader` does."""

    partitions = (AT,)

    def __init__(self, topic: Topic, start: int) -> None:
        self._topic = topic
        self._next = start

    @property
    def seen_ends(self) -> Mapping[tuple[str, int], int]:
        return {AT: len(self._topic.values)}

    async def poll(self, *, max_records: int, timeout_ms: int) -> Sequence[Record]:
        found = (await self._topic.from_offset(self._next, wait_s=timeout_ms / 1000))[:max_records]
        self._next += len(found)
        return found

    async def position(self, *_: Any) -> int:
        return self._next

    async def end_offsets(self) -> Mapping[tuple[str, int], int]:
        return self.seen_ends

    def seek(self, at: Position) -> None:
        self._next = at.offset

    def require_whole(self, _: Any) -> None:
        """Nothing is gone."""

    def require_whole_topics(self) -> None:
        """It has one partition."""


@dataclass
class TopicWriter:
    """States what storage states; each statement may be LOST, or LATE."""

    topic: Topic
    faults: list[Fault] = field(default_factory=list)
    meanwhile: Callable[[EventData], Awaitable[None]] | None = None

    async def publish(
        self, data: EventData, *, subject: str, expected_version: int | None = None, event_id: str = ""
    ) -> Stated:
        if self.meanwhile is not None:
            await self.meanwhile(data)
        assert not event_id
        value, signature = signed(data, subject=subject, version=expected_version)
        fault = self.faults.pop(0) if self.faults else Fault.NONE
        if fault is Fault.LOST:
            raise DeliveryError([])
        offset = self.topic.append(value, signature)
        if fault is Fault.LATE:
            raise DeliveryError([])
        return Stated(Position(*AT, offset), value)


def signed(
    data: EventData, *, subject: str, version: int | None, by: LocalSigner = STORAGE
) -> tuple[bytes, bytes]:
    now = datetime.now(UTC)
    value = encode_event(
        data, id=str(now.timestamp()), source=STORAGE.did, subject=subject, time=now, expected_version=version
    )
    return value, sign_values([value], by)[0]


def erasure(patient: str = PATIENT) -> SubjectErased:
    """Return what storage states of an erasure that the hospital asks for now."""
    data = SubjectErased(
        patient=patient,
        key=f"{patient}#1",
        requested_by=HOSPITAL.did,
        basis="gdpr-art-17",
        objects=0,
        request=UNASKED,
    )
    return truly_asked(data, HOSPITAL, at=datetime.now(UTC))


def destruction(patient: str = PATIENT) -> SubjectKeyDestroyed:
    """Return what storage states once the key is gone."""
    return SubjectKeyDestroyed(patient=patient, key=f"{patient}#1", request=Request.of_service(STORAGE.did))


def register(topic: Topic, patient: str = PATIENT) -> str:
    """State that a patient has a key; return her pseudonym."""
    data = SubjectRegistered(
        patient=patient,
        steward=HOSPITAL.did,
        suite="s",
        key=f"{patient}#1",
        public_key="AAAA",
        request=UNASKED,
    )
    asked = truly_asked(data, HOSPITAL, at=datetime.now(UTC))
    topic.append(*signed(asked, subject=patient, version=0))
    return patient


def erased(topic: Topic, label: object = 1) -> str:
    """State that a patient has a key, and that she is erased; return her pseudonym."""
    patient = register(topic, patient_of(HOSPITAL.did, label))
    topic.append(*signed(erasure(patient), subject=patient, version=1))
    return patient


@dataclass
class Clock:
    """The time of day, as a test lets it pass."""

    now: float = field(default_factory=lambda: datetime.now(UTC).timestamp() + 60)

    def __call__(self) -> float:
        return self.now


class OwnKey:
    """Storage's own key; `signs` says whether it does."""

    signs = True
    # At a start nobody has read yet who the service is.
    is_known = False

    async def check(self) -> None:
        self.is_known = True
        self.require_for("")

    def require_for(self, _: str) -> None:
        if not (self.signs and self.is_known):
            raise ProblemError(503, "service-key-invalid", "no")


@dataclass
class Replica:
    """One process of storage; `host` is the host of its commands, `reactor` the one of its erasures."""

    store: FoldStore
    follower: Follower
    publisher: TopicWriter
    own_key: OwnKey
    host: ContractHost[SubjectState]
    reactor: ReactorHost[SubjectState]
    clock: Clock

    def let_pass(self, seconds: float) -> None:
        """Let time pass, and have the reactor look what is due."""
        self.clock.now += seconds
        self.follower.obliged(ERASURE).set()

    async def open(self) -> set[tuple[str, str, int]]:
        """Return aggregate, key and attempts of what is open."""
        await self.follower.catch_up()
        async with self.store.engine.connect() as connection:
            c = OBLIGATIONS.c
            return {tuple(row) for row in await connection.execute(select(c.aggregate, c.key, c.attempts))}

    async def settled(self, *patients: str) -> None:
        """Return once nothing is owed of these patients."""

        async def are() -> bool:
            return not any(owed[0] in patients for owed in await self.open())

        assert await until(are, deadline_s=DEADLINE_S)


@asynccontextmanager
async def replica(
    url: str,
    topic: Topic,
    work: Callable[[Obligation[SubjectState]], Awaitable[None]],
    *,
    pace: Pace = PACE,
    clock: Clock | None = None,
    reactor: Reactor[SubjectState] = ERASURE,
    runs: bool = True,
    outcome: Callable[..., EventData] = destruction_of,
) -> AsyncIterator[Replica]:
    """Start a process of storage on a database that is migrated (`open_fold_store`), and end it."""
    view, time = cast("Any", FixedView()), clock or Clock()
    store = FoldStore(open_engine(url, is_rebuilt=True))
    tasks: list[asyncio.Task[None]] = []
    try:
        await store.begin([AT], code=digest_of([SUBJECTS], CATALOGUE, [reactor.declared]))
        reader = cast("Reader", TopicReader(topic, (await store.positions())[AT]))
        follower = Follower(reader, store=store, identity=view, contracts=[SUBJECTS], reactors=[reactor])
        publisher, own_key = TopicWriter(topic), OwnKey()
        writer = FactWriter(publisher, follower, own_key, ring=lambda: view.ring)
        host = ContractHost(SUBJECTS, follower=follower, store=store, writer=writer)
        made = ReactorHost(
            reactor,
            host=host,
            follower=follower,
            store=store,
            signs=own_key.check,
            work=work,
            outcome=partial(outcome, request=Request.of_service(STORAGE.did)),
            pace=pace,
            clock=time,
            chance=lambda: 1.0,
        )
        tasks.append(asyncio.create_task(follower.run()))
        await follower.check_rebuilt()
        if runs:
            tasks.append(asyncio.create_task(made.run()))
        yield Replica(store, follower, publisher, own_key, host, made, time)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await store.engine.dispose()
