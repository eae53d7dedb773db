"""What records of the topics that a service folds state, by the key ring that it follows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from typing import NamedTuple, TypeVar

from salus.events.batch_judging import BatchJudging, read_together
from salus.events.effect import Applied, Refused, WithoutEffect
from salus.events.envelope import Event, decode_event
from salus.events.errors import RejectedError
from salus.events.judging import judge
from salus.ledger.records import SIGNATURE_HEADER, appended_at
from salus.messaging import Record
from salus.runtime.identity_view import IDENTITY_TOPIC, IdentityView
from salus.runtime.refusal_tally import RefusalTally
from salus.runtime.unread_records import require_key_gone, unread

# What is read and verified by threads at a time: of less, most would be turns for the interpreter lock.
JUDGED_AT_ONCE = 1_000
JUDGED_IN_A_ROW = 25
# So many records are a backlog, whose signatures are worth a thread.
JUDGED_TOGETHER_MIN = 100

_T = TypeVar("_T")
Verdict = Event | WithoutEffect | Refused
"""What a record states, or why that changes nothing."""


class Begun(NamedTuple):
    """Records that are judged but for the signatures that a thread still verifies.

    `alone` are the places of those that are judged by themselves.
    """

    records: Sequence[Record]
    alone: set[int]
    together: list[BatchJudging]
    verifications: list[asyncio.Future[None]]

    def cancel(self) -> None:
        """Verify no more of them; what is being verified at this moment comes to its end."""
        for verification in self.verifications:
            verification.cancel()


class RecordJudge:
    """Judges records by an identity view, which it catches up with first."""

    def __init__(self, identity: IdentityView) -> None:
        self._identity = identity
        self._refused = RefusalTally()
        self._threads: dict[str, ThreadPoolExecutor] = {}

    async def verdicts_on(self, records: Sequence[Record]) -> list[Verdict]:
        """Return what each record states, or why that changes nothing."""
        return await self.verdicts(await self.begin(records))

    async def begin(self, records: Sequence[Record]) -> Begun:
        """Judge records but for the signatures of many, which a thread begins to verify meanwhile.

        Of few, most are known already: who sent the request was asked for the same.
        """
        await self._identity.catch_up()
        if len(records) < JUDGED_TOGETHER_MIN:
            return Begun(records, {*range(len(records))}, [], [])
        alone = {place for place, record in enumerate(records) if not _is_judged_with_others(record)}
        begun = Begun(records, alone, [], [])
        try:
            async for judging in self._read(records, alone):
                # So that /healthz is answered meanwhile, and the next statement of a batch that is written
                # waits for few: while the database is at work, there is something to judge then.
                while judging.judge(JUDGED_IN_A_ROW):  # noqa: ASYNC110  # nothing is waited for
                    await asyncio.sleep(0)
                begun.together.append(judging)
                begun.verifications.append(self._in_thread("verifier", judging.verify))
                await asyncio.sleep(0)
        except BaseException:
            begun.cancel()
            raise
        return begun

    async def _read(self, records: Sequence[Record], alone: set[int]) -> AsyncIterator[BatchJudging]:
        """Yield records to be judged together, some at a time; a thread reads the next ones meanwhile."""
        ring, reading = self._identity.ring, None
        for first in range(0, len(records), JUDGED_AT_ONCE):
            others = records[first : first + JUDGED_AT_ONCE]
            if alone:
                others = [record for place, record in enumerate(others, first) if place not in alone]
            further = others, self._in_thread("reader", partial(read_together, others, ring.catalogue))
            if reading is not None:
                yield BatchJudging(reading[0], ring=ring, read=await reading[1])
            reading = further
        if reading is not None:
            yield BatchJudging(reading[0], ring=ring, read=await reading[1])

    async def verdicts(self, begun: Begun) -> list[Verdict]:
        """Return what each record states, or why that changes nothing, once signatures are verified."""
        await asyncio.gather(*begun.verifications)
        try:
            return [*self._verdicts(begun)]
        finally:
            self._refused.tell()

    def close(self) -> None:
        """End the threads; others begin when there is more to read and to verify."""
        threads, self._threads = self._threads, {}
        for thread in threads.values():
            thread.shutdown(wait=False, cancel_futures=True)

    def _in_thread(self, name: str, call: Callable[[], _T]) -> asyncio.Future[_T]:
        """Call something in the one thread of that name.

        With more of them the event loop, for which all else waits, would have a core less often.
        """
        if name not in self._threads:
            self._threads[name] = ThreadPoolExecutor(1, thread_name_prefix=name)
        return asyncio.get_running_loop().run_in_executor(self._threads[name], call)

    def _verdicts(self, begun: Begun) -> Iterator[Verdict]:
        together = chain.from_iterable(each.verdicts() for each in begun.together)
        for place, record in enumerate(begun.records):
            if place in begun.alone:
                yield self._event_of(record)
                continue
            verdict = next(together)
            yield verdict if isinstance(verdict, Event) else self._refusal(record, verdict)

    def decoded(self, record: Record) -> Event:
        """Return the event of a record that was accepted."""
        return decode_event(record.value or b"", self._identity.ring.catalogue)

    def _event_of(self, record: Record) -> Verdict:
        """Return what a record states, or why that changes nothing.

        Of identity's topic the key ring says so, which judged each record by what was before it: folded anew,
        later keys and rights would be known.
        """
        if record.topic == IDENTITY_TOPIC:
            outcome = self._identity.outcome(record.offset)
            return self.decoded(record) if isinstance(outcome, Applied) else outcome
        try:
            return judge(
                topic=record.topic,
                key=record.key,
                value=record.value,
                signature=record.header(SIGNATURE_HEADER),
                ring=self._identity.ring,
                at=appended_at(record.timestamp_ms),
                flaw=record.flaw,
            ).event
        except RejectedError as error:
            return self._refusal(record, error)

    def _refusal(self, record: Record, error: RejectedError) -> Refused:
        ring, at = self._identity.ring, appended_at(record.timestamp_ms)
        if (unknown := unread(record, error.reason, ring=ring, at=at)) is not None:
            # Folded over, the state would lack what it states, a revocation for example.
            require_key_gone(unknown, ring=ring)
        self._refused.add(record.topic, record.partition, record.offset, str(error.reason))
        return Refused(str(error.reason))


def _is_judged_with_others(record: Record) -> bool:
    """Tell whether there is a signature to verify; what has none is refused at once, and may be millions."""
    return record.topic != IDENTITY_TOPIC and record.header(SIGNATURE_HEADER) is not None
