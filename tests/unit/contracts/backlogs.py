"""A backlog of consent's topic in batches of four, and who folds it; as a program it is killed at a stage.

Its grants are of few patients, so batches change the same aggregates; two of them have no effect, and the
signature of one request is forged.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import msgspec
from sqlalchemy import select
from tests.unit.contracts.test_rebuilt_state import (
    CONSENT,
    CONSENT_TOPIC,
    GRANTED,
    HOSPITAL,
    View,
    a_record,
    founded,
    seconds,
)

from salus.consent.adapters.folded import PATIENTS
from salus.contracts import fold, record_judge
from salus.contracts.fold import Follower
from salus.contracts.fold_batch import FoldBatch
from salus.contracts.fold_store import FoldStore, open_fold_store
from salus.contracts.fold_tables import AGGREGATES, CLAIMS, OUTCOMES, POSITIONS
from salus.events.batch_judging import BatchJudging
from salus.events.signature import sign_values
from salus.ledger.records import SIGNATURE_HEADER
from salus.messaging import Position, Reader, Record
from salus.runtime.identity_view import IdentityView

AT = (CONSENT_TOPIC, 0)
BATCH = 4
# So many batches of a backlog are written by one transaction.
AT_ONCE = 2
COUNT = 24
STALE, AGAIN, FORGED = 7, 12, 17


def patient_of(number: int) -> str:
    return f"urn:uuid:00000000-0000-4000-8000-{number % 3:012d}"


def backlog() -> list[Record]:
    """Return the records, those without effect and the forged one included."""
    records: list[Record] = []
    versions = dict.fromkeys(map(patient_of, range(3)), 0)
    for offset in range(COUNT):
        patient = patient_of(offset)
        consent = f"{patient.removeprefix('urn:uuid:')}.{offset:08x}"
        record = a_record(
            CONSENT_TOPIC,
            msgspec.structs.replace(GRANTED, consent=consent, patient=patient, valid_until=seconds(99_999)),
            offset=offset,
            version=versions[patient] + 5 * (offset == STALE),
            said=seconds(offset),
            appended=seconds(offset),
            by=CONSENT,
            subject=patient,
            asker=HOSPITAL,
        )
        if offset == AGAIN:
            record = msgspec.structs.replace(records[offset - 3], offset=offset)
        if offset == FORGED:
            record = forged(record)
        versions[patient] += offset not in {STALE, AGAIN, FORGED}
        records.append(record)
    return records


def forged(record: Record) -> Record:
    """Return the record with a request that nobody signed, signed by the service all the same."""
    event = msgspec.json.decode(record.value or b"")
    token = event["data"]["request"]["proof"]
    # The first sign of the signature: what the last one says may be in no byte.
    head, _, signature = token.rpartition(".")
    other = "A" if signature[0] != "A" else "B"
    event["data"]["request"]["proof"] = f"{head}.{other}{signature[1:]}"
    value = msgspec.json.encode(event)
    header = (SIGNATURE_HEADER, sign_values([value], CONSENT)[0])
    return msgspec.structs.replace(record, value=value, headers=(header,))


class TopicOfBatches:
    """Consent's topic; each `poll` brings a batch, of four records unless something else is said."""

    partitions = (AT,)

    def __init__(self, records: Sequence[Record], *, start: int = 0, batch: int = BATCH) -> None:
        self._records = records
        self._next = start
        self._batch = batch
        self.seen_ends = {AT: len(records)}
        self.polls = 0

    async def poll(self, *, max_records: int, timeout_ms: int) -> Sequence[Record]:
        assert max_records >= self._batch
        assert timeout_ms
        await asyncio.sleep(0)
        self.polls += 1
        first, self._next = self._next, min(self._next + self._batch, len(self._records))
        return self._records[first : self._next]

    async def end_offsets(self) -> dict[tuple[str, int], int]:
        return {AT: len(self._records)}

    async def position(self, *_: Any) -> int:
        return self._next

    def require_whole(self, _: Any) -> None:
        """Nothing is gone."""

    def require_whole_topics(self) -> None:
        """It has one partition."""

    def seek(self, at: Position) -> None:
        self._next = at.offset


async def follower_on(store: FoldStore, topic: TopicOfBatches) -> Follower:
    """Return who folds the topic from where the database has it."""
    await store.begin([AT], code=b"1" * 32)
    stored = await store.restart()
    topic.seek(Position(*AT, stored[AT]))
    reader, view = cast("Reader", topic), cast("IdentityView", View(founded()))
    follower = Follower(reader, store=store, identity=view, contracts=[PATIENTS])
    follower._folded.update(stored)
    return follower


@asynccontextmanager
async def running(follower: Follower) -> AsyncIterator[asyncio.Task[None]]:
    """Let it fold, and cancel it."""
    task = asyncio.create_task(follower.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def rebuild(url: str, records: Sequence[Record]) -> dict[str, list[tuple[Any, ...]]]:
    """Fold all there is, from where the database has it, and return what it holds then."""
    async with open_fold_store(url) as store:
        follower = await follower_on(store, TopicOfBatches(records))
        async with running(follower):
            assert await follower._waits.until(lambda: follower._is_rebuilt, seconds=60)
        return await rows_in(store)


async def rows_in(store: FoldStore) -> dict[str, list[tuple[Any, ...]]]:
    """Return all rows that a fold leaves."""
    found = {}
    async with store.engine.connect() as connection:
        for table in (AGGREGATES, CLAIMS, POSITIONS, OUTCOMES):
            rows = (await connection.execute(select(table).order_by(*table.primary_key))).all()
            found[table.name] = [tuple(row) for row in rows]
    return found


def killed_at(stage: str, call: int) -> None:
    """Let this process be killed when a rebuild comes to that stage for the n-th time."""
    left = [call]

    def before(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def wrapped(*args: Any, **named: Any) -> Any:
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*args, **named)

        setattr(owner, name, wrapped)

    before(*STAGES[stage])


# What is called first at each stage.
STAGES: dict[str, tuple[Any, str]] = {
    "polled": (record_judge.RecordJudge, "begin"),
    "verifying": (BatchJudging, "verify"),
    "judged": (BatchJudging, "verdicts"),
    "folding": (FoldBatch, "fold"),
    "writing": (FoldBatch, "write"),
    "written": (FoldStore, "set_positions"),
    "committed": (Follower, "_note_progress"),
}


def main(url: str, file: str, stage: str, call: str) -> None:
    """Rebuild from the records in a file until killed."""
    record_judge.JUDGED_TOGETHER_MIN, record_judge.JUDGED_AT_ONCE = 1, 2
    fold.BATCHES_AT_ONCE_MAX = AT_ONCE
    records = pickle.loads(Path(file).read_bytes())
    killed_at(stage, int(call))
    asyncio.run(rebuild(url, records))


if __name__ == "__main__":
    main(*sys.argv[1:])
