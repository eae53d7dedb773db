"""Records on their way into a fold: read, judged, and their signatures verified while others are written."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from salus.contracts.fold_batch import FoldBatch
from salus.contracts.projection import Contract
from salus.contracts.reactors import Reactor
from salus.contracts.record_judge import RecordJudge, Verdict
from salus.events.envelope import Event
from salus.messaging import Reader, Record

# The pages that a batch changes are written once: with more records, fewer for each.
BATCH_RECORDS_MAX = 4_000
# Each has some 25 MB while it waits: its records, and the events that they state.
BATCHES_AHEAD_MAX = 2
POLL_MS = 200


class Read(NamedTuple):
    """Records, the positions after them, what each states, and the batch that expects their events."""

    records: Sequence[Record]
    ends: Mapping[tuple[str, int], int]
    verdicts: Sequence[Verdict]
    batch: FoldBatch


class ReadAhead:
    """Reads and judges what a fold writes next, in the order of the topic."""

    def __init__(
        self,
        reader: Reader,
        judge: RecordJudge,
        *,
        contracts: Sequence[Contract[Any]],
        reactors: Sequence[Reactor[Any]],
    ) -> None:
        self._reader = reader
        self._judge = judge
        self._contracts = contracts
        self._reactors = reactors
        self._begun: deque[asyncio.Task[Read]] = deque()
        self._reading = asyncio.Lock()

    async def next(self) -> Read:
        """Return what comes next, which may have begun: no records if there are none for a while."""
        return await (self._begun.popleft() if self._begun else self._read())

    def begin(self) -> None:
        """Let what follows a batch of a backlog be read and judged while that is written.

        Not before its transaction has begun: short statements that compete for the interpreter lock with what
        is judged would take most of that time, and at the long ones nothing would be left to judge.
        """
        while len(self._begun) < BATCHES_AHEAD_MAX:
            self._begun.append(asyncio.create_task(self._read(), name="read-ahead"))

    async def forget(self) -> None:
        """Forget what was read: it is read again."""
        begun = [*self._begun]
        self._begun.clear()
        for reading in begun:
            reading.cancel()
        await asyncio.gather(*begun, return_exceptions=True)

    async def judged(
        self,
        records: Sequence[Record],
        ends: Mapping[tuple[str, int], int],
        verdicts: Sequence[Verdict],
    ) -> Read:
        """Return records whose verdicts are known, with the batch that expects their events."""
        batch = FoldBatch(self._contracts, self._reactors)
        found = zip(records, verdicts, strict=True)
        await batch.expect_all((record.topic, e) for record, e in found if isinstance(e, Event))
        return Read(records, ends, verdicts, batch)

    async def _read(self) -> Read:
        # Who waits longest reads first, so batches come in the order in which they were asked for.
        async with self._reading:
            records = await self._reader.poll(max_records=BATCH_RECORDS_MAX, timeout_ms=POLL_MS)
            ends = {at: await self._reader.position(*at) for at in self._reader.partitions}
            # Nothing behind a gap is folded: who starts after that would not see it any more.
            self._reader.require_whole(ends)
            begun = await self._judge.begin(records) if records else None
        verdicts = await self._judge.verdicts(begun) if begun else []
        return await self.judged(records, ends, verdicts)
