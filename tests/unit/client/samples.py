"""A network in memory, for the tests of this folder."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from tests.asking import NETWORK, UNASKED

from salus.events.contexts import CATALOGUE
from salus.events.contexts.clinical import DocumentRegistered
from salus.events.contexts.identity import PartyRegistered, PublicKey
from salus.events.did import LocalSigner, multibase_of
from salus.events.judging import Judged, judge
from salus.events.keyring import KeyRing
from salus.ledger.records import SIGNATURE_HEADER
from salus.messaging import DeliveryError, Position, RecordRefusedError

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
SIGNER = LocalSigner.from_seed(b"memb" * 8)
TOPIC = "salus.clinical.events"
Answer = Callable[[int], Exception | None]


def patient(number: int = 1) -> str:
    return f"urn:uuid:00000000-0000-4000-8000-{number:012d}"


def document(number: int = 0, *, of: int = 1, size: int = 0) -> DocumentRegistered:
    return DocumentRegistered(patient=patient(of), object=f"object-{number}", media_type="a/b" + "x" * size)


@dataclass
class Sent:
    """One record as the broker got it."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: dict[str, bytes]
    partition: int | None

    def judged(self) -> Judged:
        """What the sequencer would say; raises RejectedError."""
        ring = KeyRing(CATALOGUE, NETWORK)
        key = PublicKey(
            id=SIGNER.verification_method,
            multibase=multibase_of(SIGNER.public_key),
            valid_from=datetime(2026, 1, 1, tzinfo=UTC),
        )
        ring.apply(PartyRegistered(did=SIGNER.did, kind="member", keys=(key,), request=UNASKED))
        signature = self.headers[SIGNATURE_HEADER]
        return judge(
            topic=self.topic, key=self.key, value=self.value, signature=signature, ring=ring, at=NOON
        )


@dataclass
class MemoryBroker:
    """A `Sender`: it answers in order, or when it is told to, and may refuse, lose or be late.

    LOST: the record is not stored and its answer is an error. LATE: it is stored and its answer is an error.
    """

    lost: set[int] = field(default_factory=set)
    late: set[int] = field(default_factory=set)
    refused: set[int] = field(default_factory=set)
    silent: bool = False
    trouble: str | None = None
    partitions: int | None = None
    known: set[str] = field(default_factory=lambda: {TOPIC})
    stored: list[Sent] = field(default_factory=list)
    asked: int = 0
    open_answers: list[asyncio.Future[Position]] = field(default_factory=list)

    def partition_of(self, topic: str, key: bytes) -> int | None:
        return key[-1] % self.partitions if self.partitions and topic in self.known else None

    async def enqueue(
        self,
        topic: str,
        *,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes]] = (),
        partition: int | None = None,
    ) -> Awaitable[Position]:
        number, self.asked = self.asked, self.asked + 1
        self.known.add(topic)
        place = self.partition_of(topic, key or b"k") or 0 if partition is None else partition
        if number in self.refused:
            raise RecordRefusedError("refused")
        answer: asyncio.Future[Position] = asyncio.get_running_loop().create_future()
        if number not in self.lost:
            self.stored.append(Sent(topic, key, value, dict(headers), partition))
        if self.silent:
            self.open_answers.append(answer)
        elif number in self.lost | self.late:
            answer.set_exception(DeliveryError("no answer"))
        else:
            answer.set_result(Position(topic, place, len(self.stored) - 1))
        return answer

    def answer_all(self) -> None:
        """Confirm what is waiting for an answer."""
        for offset, answer in enumerate(self.open_answers):
            if not answer.done():
                answer.set_result(Position(TOPIC, 0, offset))
        self.open_answers.clear()
