"""What records of the topics that a service folds state, by the key ring that it follows."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import chain

from salus.events.batch_judging import BatchJudging
from salus.events.effect import Applied, Refused, WithoutEffect
from salus.events.envelope import Event, decode_event
from salus.events.errors import RejectedError
from salus.events.judging import judge
from salus.ledger.records import SIGNATURE_HEADER, appended_at
from salus.messaging import Record
from salus.runtime.identity_view import IDENTITY_TOPIC, IdentityView
from salus.runtime.refusal_tally import RefusalTally
from salus.runtime.unread_records import require_key_gone, unread

JUDGED_AT_ONCE = 250
# So many records are a backlog, whose signatures are worth a thread.
JUDGED_TOGETHER_MIN = 100

Verdict = Event | WithoutEffect | Refused
"""What a record states, or why that changes nothing."""


class RecordJudge:
    """Judges records by an identity view, which it catches up with first."""

    def __init__(self, identity: IdentityView) -> None:
        self._identity = identity
        self._refused = RefusalTally()

    async def verdicts_on(self, records: Sequence[Record]) -> list[Verdict]:
        """Return what each record states, or why that changes nothing.

        Of many, threads verify the signatures while more is judged here. Of few, most are known already: who
        sent the request was asked for the same.
        """
        await self._identity.catch_up()
        try:
            return await self._verdicts_on(records)
        finally:
            self._refused.tell()

    async def _verdicts_on(self, records: Sequence[Record]) -> list[Verdict]:
        if len(records) < JUDGED_TOGETHER_MIN:
            return [self._event_of(record) for record in records]
        found: list[Verdict] = []
        judging: list[BatchJudging] = []
        async with asyncio.TaskGroup() as verifying:
            for first in range(0, len(records), JUDGED_AT_ONCE):
                some = records[first : first + JUDGED_AT_ONCE]
                others = [record for record in some if _is_judged_with_others(record)]
                judging.append(BatchJudging(others, ring=self._identity.ring))
                verifying.create_task(asyncio.to_thread(judging[-1].verify))
                # So that /healthz is answered while much is folded.
                await asyncio.sleep(0)
        verdicts = chain.from_iterable(each.verdicts() for each in judging)
        for record in records:
            if not _is_judged_with_others(record):
                found.append(self._event_of(record))
                continue
            verdict = next(verdicts)
            found.append(verdict if isinstance(verdict, Event) else self._refusal(record, verdict))
        return found

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
