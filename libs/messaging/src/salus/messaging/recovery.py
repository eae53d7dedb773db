"""A producer that outlives its sessions: what one left unacknowledged, the next sends again in its order."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from types import TracebackType
from typing import Self

from salus.messaging.admin import ping
from salus.messaging.brokers import Bootstrap
from salus.messaging.errors import (
    BrokerAwayError,
    DeliveryError,
    MessagingError,
    NotAuthorizedError,
    NotSentError,
    RecordRefusedError,
)
from salus.messaging.producer import LINGER_MS, Producer
from salus.messaging.record import Position

RETRY_S_MIN = 0.1
RETRY_S_MAX = 5.0
# A session that got no answer for so long, while a broker does answer others, is given up.
STUCK_S_MAX = 15.0
# No new session mends these, so whoever sent the record is told.
_FINAL = (RecordRefusedError, NotAuthorizedError)


@dataclass(eq=False, slots=True)
class _Unanswered:
    """A record that a session was given, until it is known where it stands."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    partition: int | None
    answer: asyncio.Future[Position] = field(repr=False)


class RecoveringProducer:
    """A producer that begins a new session when one is over; use it as an async context manager.

    Callers may rely on: records of one partition are stored in the order of the `enqueue` calls, each at
    least once; a record is there twice only if the answer to it was lost. Of repeated records, the first
    ones stand in the order of the calls as well, whatever of an old connection or session arrives late: all
    send the same records in the same order, one request of a partition after the other. A position is one
    where the record stands, which an `idempotent` producer alone cannot promise (see `Producer`).

    An awaitable of `enqueue` ends with a position, or with DeliveryError if the broker refuses the record or
    the producer is closed before. An outage alone never ends it; how long to wait is the caller's to choose.
    `trouble` says why nothing is acknowledged, while that is so.
    """

    def __init__(
        self, bootstrap: Bootstrap, *, client_id: str, linger_ms: int = LINGER_MS, idempotent: bool = False
    ) -> None:
        """Take what `Producer` takes."""
        self._bootstrap = bootstrap
        self._new_session = partial(
            Producer, bootstrap, client_id=client_id, linger_ms=linger_ms, idempotent=idempotent
        )
        self._session: Producer | None = None
        self._ready = asyncio.Event()
        # By number, in the order in which the sessions were given them.
        self._unanswered: dict[int, _Unanswered] = {}
        self._numbers = count()
        self._answers = 0
        self._retry_s = RETRY_S_MIN
        self._recovering: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._closed = True
        self.trouble: str | None = None
        self.sessions = 0

    async def __aenter__(self) -> Self:
        """Connect; raises BrokerAwayError."""
        self._session = await self._open()
        self._closed = False
        self._ready.set()
        self._watching = asyncio.create_task(self._watch(), name="salus-producer-watch")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Flush and disconnect; what is not acknowledged within CLOSE_S_MAX ends with DeliveryError."""
        session, self._session = self._session, None
        tasks = [task for task in (self._watching, self._recovering) if task is not None]
        self._closed = True
        self._ready.set()
        try:
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks)
            if session is not None:
                await session.__aexit__(None, None, None)
        finally:
            self._abandon(f"the producer was closed: {self.trouble or 'no answer'}")

    def partition_of(self, topic: str, key: bytes) -> int | None:
        """Return what `Producer.partition_of` does; None also while there is no session."""
        return self._session.partition_of(topic, key) if self._session is not None else None

    async def enqueue(
        self,
        topic: str,
        *,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes]] = (),
        partition: int | None = None,
    ) -> asyncio.Future[Position]:
        """Wait for a session with room for the record; return an awaitable of the acknowledged position.

        Whoever is cancelled here has sent nothing.

        Raises:
            NotSentError: the topic is not known, there is no room, or the producer is closed.
            RecordRefusedError, NotAuthorizedError: the record cannot be sent at all.
        """
        record = _Unanswered(
            topic, key, value, tuple(headers), partition, asyncio.get_running_loop().create_future()
        )
        while not self._closed:
            session = self._session
            if session is None:
                # Who is woken may find that the next session is over as well.
                await self._ready.wait()
                continue
            _choose_partition(session, record)
            try:
                sent = await _give(session, record)
            except DeliveryError as error:
                if not session.is_over or isinstance(error, _FINAL):
                    raise
                self._lost(session, error)
            else:
                self._await_answer(session, next(self._numbers), record, sent)
                return record.answer
        raise NotSentError("the producer is not open")

    async def send(
        self,
        topic: str,
        *,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> Position:
        """Enqueue and wait for the acknowledgement."""
        return await (await self.enqueue(topic, key=key, value=value, headers=headers))

    async def _open(self) -> Producer:
        session = self._new_session()
        await session.__aenter__()
        self.sessions += 1
        return session

    def _await_answer(
        self, session: Producer, number: int, record: _Unanswered, sent: asyncio.Future[Position]
    ) -> None:
        _choose_partition(session, record)
        self._unanswered[number] = record
        sent.add_done_callback(partial(self._answered, session, number))

    def _answered(self, session: Producer, number: int, sent: asyncio.Future[Position]) -> None:
        error = asyncio.CancelledError() if sent.cancelled() else sent.exception()
        if error is None:
            self._answers += 1
            self._retry_s = RETRY_S_MIN
            self.trouble = None
            self._settle(number, sent.result())
            return
        if isinstance(error, _FINAL):
            self._settle(number, error)
        self._lost(session, error)

    def _settle(self, number: int, outcome: Position | DeliveryError) -> None:
        record = self._unanswered.pop(number, None)
        if record is None or record.answer.done():
            return
        if isinstance(outcome, Position):
            record.answer.set_result(outcome)
        else:
            record.answer.set_exception(outcome)

    def _abandon(self, why: str) -> None:
        for number, record in list(self._unanswered.items()):
            self._settle(number, DeliveryError(why))
            if not record.answer.cancelled():
                # Who closes the producer knows it, and need not ask each record.
                record.answer.exception()

    def _lost(self, session: Producer, error: BaseException) -> None:
        """Begin the recovery, once for each session."""
        if self._session is not session or self._closed:
            return
        self.trouble = str(error)
        self._session = None
        self._ready.clear()
        self._recovering = asyncio.create_task(self._recover(session), name="salus-producer-recovery")
        self._recovering.add_done_callback(self._recovery_ended)

    def _recovery_ended(self, task: asyncio.Task[None]) -> None:
        """After a defect in the recovery nothing is sent any more, and everybody is told."""
        if not task.cancelled() and task.exception() is not None:
            self._closed = True
            self._ready.set()
            self._abandon(f"the producer stopped: {type(task.exception()).__name__}")

    async def _recover(self, lost: Producer) -> None:
        """Close the session, then begin others until one has taken everything that is unanswered.

        The old session is closed first: by then each of its answers has come, or never will.
        """
        session: Producer | None = lost
        try:
            while True:
                if session is not None:
                    await session.__aexit__(None, None, None)
                await asyncio.sleep(self._retry_s)
                self._retry_s = min(2 * self._retry_s, RETRY_S_MAX)
                session = await self._begin()
                if session is not None and await self._send_again(session):
                    break
        except BaseException:
            if session is not None:
                await session.__aexit__(None, None, None)
            raise
        self._recovering = None
        self._session = session
        self._ready.set()
        if session.is_over:
            self._lost(session, NotSentError(self.trouble or "the session is over"))

    async def _begin(self) -> Producer | None:
        try:
            return await self._open()
        except BrokerAwayError as error:
            self.trouble = str(error)
            return None

    async def _send_again(self, session: Producer) -> bool:
        """Give the session what is unanswered, in order; tell whether it took all."""
        for number, record in list(self._unanswered.items()):
            if number not in self._unanswered:
                continue
            try:
                sent = await _give(session, record)
            except _FINAL as error:
                # Of an earlier attempt nobody knows.
                self._settle(number, DeliveryError(str(error)))
            except DeliveryError as error:
                self.trouble = str(error)
                return False
            else:
                self._await_answer(session, number, record, sent)
        return True

    async def _watch(self) -> None:
        """Give up a session that gets no answer although a broker is there.

        Its connections may lead to a broker that is gone for good. While no broker answers, nothing is
        gained by a new session, and the old one still knows which answers it may have lost.
        """
        while True:
            session, before, oldest = self._session, self._answers, next(iter(self._unanswered), None)
            await asyncio.sleep(STUCK_S_MAX)
            if session is None or oldest not in self._unanswered or self._answers != before:
                continue
            if await _answers(self._bootstrap) and self._answers == before:
                self._lost(session, NotSentError(f"no answer for {STUCK_S_MAX:.0f} s"))


def _choose_partition(session: Producer, record: _Unanswered) -> None:
    """A repetition must go where the first attempt went, also if partitions were added meanwhile.

    Of a topic's first record, the session knows the partitions only once it was sent.
    """
    if record.partition is None and record.key is not None:
        record.partition = session.partition_of(record.topic, record.key)


async def _answers(bootstrap: Bootstrap) -> bool:
    try:
        await ping(bootstrap)
    except MessagingError:
        return False
    return True


async def _give(session: Producer, record: _Unanswered) -> asyncio.Future[Position]:
    return await session.enqueue(
        record.topic,
        key=record.key,
        value=record.value,
        headers=record.headers,
        partition=record.partition,
    )
