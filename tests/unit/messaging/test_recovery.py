"""A producer that outlives its sessions: none lost, first occurrences in order, whatever arrives late."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain, repeat
from typing import Any, Self, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salus.messaging import (
    BrokerAwayError,
    DeliveryError,
    NotSentError,
    Position,
    RecordRefusedError,
    RecoveringProducer,
)
from salus.messaging import recovery as module

TOPIC = "t"


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_S_MIN", 0.0)
    monkeypatch.setattr(module, "RETRY_S_MAX", 0.0)


@dataclass
class Session:
    """One session of a broker in memory: it stores `stores` records, and answers the first `answers`.

    One that is not answered ends it soon, and the one numbered `takes` at once.
    """

    stored: list[bytes]
    answers: int = 1 << 30
    stores: int = 1 << 30
    takes: int = 1 << 30
    away: bool = False
    refuses: bytes | None = None
    is_over: bool = False
    taken: list[tuple[bytes, asyncio.Future[Position]]] = field(default_factory=list)
    closed: bool = False
    late: list[bytes] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        if self.away:
            raise BrokerAwayError("away")
        return self

    async def __aexit__(self, *_: object) -> None:
        self.end()
        self.closed = True

    def partition_of(self, topic: str, key: bytes) -> int:  # noqa: ARG002  # as the real one
        return key[0] % 2

    async def enqueue(
        self,
        topic: str,
        *,
        key: bytes | None,  # noqa: ARG002  # as the real one
        value: bytes | None,
        headers: Sequence[tuple[str, bytes]],  # noqa: ARG002
        partition: int | None,
    ) -> asyncio.Future[Position]:
        await asyncio.sleep(0)
        if self.is_over:
            raise NotSentError("over")
        assert value is not None
        if value == self.refuses:
            raise RecordRefusedError("refused")
        answer: asyncio.Future[Position] = asyncio.get_running_loop().create_future()
        number = len(self.taken)
        self.taken.append((value, answer))
        if number < max(self.stores, self.answers):
            self.stored.append(value)
        else:
            self.late.append(value)
        if number < self.answers:
            answer.set_result(Position(topic, partition or 0, len(self.stored) - 1))
        else:
            asyncio.get_running_loop().call_later(0.001, self.end)
        if len(self.taken) >= self.takes:
            self.end()
        return answer

    def end(self) -> None:
        self.is_over = True
        for _, answer in self.taken:
            if not answer.done():
                answer.set_exception(DeliveryError("no answer"))


class Recovering(RecoveringProducer):
    """With sessions of the test's."""

    def __init__(self, sessions: Iterable[Session]) -> None:
        super().__init__("nowhere:9092", client_id="test")
        left = iter(sessions)
        self._new_session = cast("Any", lambda: next(left))


async def send(producer: RecoveringProducer, count: int) -> list[asyncio.Future[Position]]:
    return [await producer.enqueue(TOPIC, key=b"k", value=b"%d" % number) for number in range(count)]


def firsts(stored: Sequence[bytes]) -> list[int]:
    return [int(value) for value in dict.fromkeys(stored)]


FAULTS = st.lists(
    st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(1, 8), st.integers(0, 6)), max_size=5
)


@given(count=st.integers(1, 20), faults=FAULTS)
def test_every_record_is_stored_and_first_occurrences_keep_the_order(
    count: int, faults: list[tuple[int, int, int, int]]
) -> None:
    """Each fault is a session: so many answers, so many more stored, and its end; a late rest comes after."""

    async def story() -> None:
        stored: list[bytes] = []
        ends = [
            Session(stored, answers=min(a, takes), stores=min(a + s, takes), takes=takes)
            for a, s, takes, _ in faults
        ]
        async with Recovering([*ends, Session(stored)]) as producer:
            answers = await send(producer, count)
            positions = await asyncio.gather(*answers)
        # What was in the buffers of connections that are gone is read at the very end.
        told = [int(stored[position.offset]) for position in positions]
        for session in ends:
            stored += session.late

        assert told == list(range(count))
        assert firsts(stored) == list(range(count))

    asyncio.run(story())


@given(data=st.data())
def test_bytes_of_an_old_session_may_be_read_at_any_time(data: st.DataObject) -> None:
    """The law behind it: both sessions write one sequence, the second from its first unanswered record."""
    count = data.draw(st.integers(1, 12))
    written = data.draw(st.integers(0, count), label="written by the old session before it was cut")
    resumed = data.draw(st.integers(0, written), label="first unanswered")
    old, new = list(range(written)), list(range(resumed, count))
    topic = old[:resumed]
    old = old[resumed:]
    while old or new:
        source = data.draw(st.sampled_from([rest for rest in (old, new) if rest]))
        topic.append(source.pop(0))

    assert list(dict.fromkeys(topic)) == list(range(count))


async def test_a_broker_that_is_away_is_asked_again() -> None:
    stored: list[bytes] = []
    away = [Session(stored, away=True) for _ in range(3)]
    async with Recovering([Session(stored, answers=1, takes=2), *away, Session(stored)]) as producer:
        answers = await send(producer, 3)
        await asyncio.gather(*answers)

        assert producer.trouble is None
        assert producer.sessions == 2


async def test_who_closes_is_told_of_what_was_not_answered() -> None:
    stored: list[bytes] = []
    producer = Recovering([Session(stored, answers=1)])
    async with producer:
        answered, silent = await send(producer, 2)
    assert (await answered).offset == 0
    with pytest.raises(DeliveryError):
        await silent
    with pytest.raises(NotSentError):
        await send(producer, 1)


async def test_closing_ends_a_recovery_and_those_who_wait_for_it() -> None:
    stored: list[bytes] = []
    away = repeat(Session(stored, away=True))
    producer = Recovering(chain([Session(stored, answers=0, takes=1)], away))
    async with producer:
        (answer,) = await send(producer, 1)
        waiting = asyncio.ensure_future(send(producer, 1))
        await asyncio.sleep(0.01)
        assert not waiting.done()
    with pytest.raises(DeliveryError, match="away"):
        await answer
    with pytest.raises(NotSentError):
        await waiting


async def test_what_is_refused_is_told_and_the_others_go_on() -> None:
    stored: list[bytes] = []
    async with Recovering([Session(stored, answers=0, takes=3), Session(stored, refuses=b"1")]) as producer:
        answers = await send(producer, 3)
        found = await asyncio.gather(*answers, return_exceptions=True)

    assert [type(one) for one in found] == [Position, DeliveryError, Position]
    # An earlier session may have stored it: nobody knows.
    assert not isinstance(found[1], RecordRefusedError)


async def test_a_record_is_repeated_where_it_was_sent_first() -> None:
    stored: list[bytes] = []
    second = Session(stored)
    async with Recovering([Session(stored, answers=0, takes=1), second]) as producer:
        answer = await producer.enqueue(TOPIC, key=b"\x01", value=b"0")

        assert (await answer).partition == 1
