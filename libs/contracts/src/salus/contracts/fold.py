"""State as the fold of topics, kept in SQL with the folded offset in the same transaction."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from hashlib import sha256
from types import MappingProxyType
from typing import Any, NamedTuple

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from salus.contracts.fold_batch import FoldBatch
from salus.contracts.fold_marks import mark_of, require_same_topics
from salus.contracts.fold_store import OUTCOMES_KEPT, FoldStore, open_fold_store
from salus.contracts.fold_waits import Fact, FoldWaits
from salus.contracts.projection import Contract, digest_of, tables_of
from salus.contracts.reactors import Reactor
from salus.contracts.read_ahead import BATCH_RECORDS_MAX, POLL_MS, Read, ReadAhead
from salus.contracts.record_judge import RecordJudge, Verdict
from salus.events.effect import Outcome, Unknown, WithoutEffect
from salus.events.envelope import Event
from salus.messaging import Bootstrap, MessagingError, OutOfRangeError, Position, Reader, Record
from salus.runtime.database import shown
from salus.runtime.identity_view import IdentityView
from salus.runtime.shared_call import SharedCall
from salus.runtime.supervisor import Supervisor, failed, succeeded

__all__ = ["FoldStore", "Follower", "open_fold_store", "open_follower"]

# So many of a backlog are written by one transaction: what it changes twice is written once.
BATCHES_AT_ONCE_MAX = 4
# How long a transaction waits for the next of them.
NEXT_BATCH_S_MAX = 10.0
OUTCOMES_MAX = 10_000
# How long an answer waits for the fold. What is folded at a start, or anew, takes the time that it takes.
OUTCOME_WAIT_S = 15
RETRY_S = 1.0
# How long who looks whether all is folded waits for it, before they hear how far it is.
LOOK_S = 2.0

_log = structlog.get_logger()


class _Folded(NamedTuple):
    """What became of a record, and the SHA-256 of its value."""

    digest: bytes
    outcome: Outcome


class _Done(NamedTuple):
    """What became of records that a transaction has folded: nobody hears of it before that is committed.

    `ends` are the positions after them, and `reached` those that are in the database then. `outcomes` are
    those that somebody may ask for.
    """

    ends: Mapping[tuple[str, int], int]
    reached: Mapping[tuple[str, int], int] = MappingProxyType({})
    outcomes: Mapping[Position, _Folded] = MappingProxyType({})
    obliged: frozenset[str] = frozenset()


class RebuildingError(MessagingError):
    """What was in the topics at the start, or when the database went back, is not all folded yet."""

    def __init__(self, *, folded: int, goal: int) -> None:
        super().__init__(f"folded {folded:,} of {goal:,} records that were there")
        self.folded = folded
        self.goal = goal


class Follower:
    """Folds topics into contracts' aggregates; `run` does the work, the other methods wait for it.

    Callers may rely on: an event takes effect at most once, in topic order, and `catch_up` returns only
    when everything acknowledged before the call has been folded.
    """

    def __init__(
        self,
        reader: Reader,
        *,
        store: FoldStore,
        identity: IdentityView,
        contracts: Sequence[Contract[Any]],
        reactors: Sequence[Reactor[Any]] = (),
    ) -> None:
        self._reader = reader
        self._store = store
        self._judge = RecordJudge(identity)
        self._obliged: dict[str, asyncio.Event] = {}
        self._ends = SharedCall(self._ask_ends)
        self._folded: dict[tuple[str, int], int] = {}
        self._outcomes: OrderedDict[Position, _Folded] = OrderedDict()
        self._waits = FoldWaits()
        self._trouble: Exception | None = None
        self._rewind = False
        self._ahead = ReadAhead(reader, self._judge, contracts=contracts, reactors=reactors)
        # Where the topics ended when folding began, until all before it is folded.
        self._goal: Mapping[tuple[str, int], int] | None = None
        self._is_rebuilt = False

    async def run(self) -> None:
        """Fold until cancelled; Kafka or a database that is away is waited for, and folding goes on then.

        Any other failure ends the task: `check` then raises, and the service is not ready. So does a topic
        that ends before what was folded: it is another one, and only a new start can tell.
        """
        try:
            while True:
                try:
                    await self._fold_next()
                    self._trouble = None
                    succeeded()
                except OutOfRangeError as error:
                    self._trouble = error
                    raise
                except (MessagingError, SQLAlchemyError, OSError) as error:
                    self._trouble = error
                    failed(shown(error))
                    _log.warning("folding waits", error=type(error).__name__)
                    await asyncio.sleep(RETRY_S)
                    self._rewind = True
        finally:
            await self._ahead.forget()
            self._judge.close()

    async def check(self) -> None:
        """Raise unless folding is going on, and of all that is in the topics."""
        self._reader.require_whole_topics()
        if self._trouble is not None:
            raise MessagingError(f"folding waits: {shown(self._trouble)}")
        if not self._is_rebuilt and self._goal is not None:
            raise self._rebuilding(self._goal)

    async def check_rebuilt(self) -> None:
        """Raise unless all is folded that was there when folding began: what a service does not begin before.

        Raises:
            RebuildingError: it is not, and goes on.
            MessagingError: as `check`.
        """
        if not await self._waits.until(lambda: self._is_rebuilt, seconds=LOOK_S):
            await self.check()
            raise MessagingError("folding has not begun yet")

    def _rebuilding(self, goal: Mapping[tuple[str, int], int]) -> RebuildingError:
        folded = sum(min(self._folded.get(at, 0), end) for at, end in goal.items())
        return RebuildingError(folded=folded, goal=sum(goal.values()))

    async def catch_up(self) -> None:
        """Return once everything that is in the topics now has been folded.

        Raises:
            PermanentError: there is something in the topics that cannot be folded, or that nobody reads.
            MessagingError: the broker is away, or the fold does not get there in OUTCOME_WAIT_S.
        """
        ends = await self._ends()
        self._reader.require_whole_topics()
        await self._wait(lambda: all(self._folded.get(at, 0) >= end for at, end in ends.items()))

    async def _ask_ends(self) -> Mapping[tuple[str, int], int]:
        return await self._reader.end_offsets()

    async def has_stated(self, token: str, *, topic: str) -> bool:
        """Tell whether the request of this token stands on the topic now; raises as `catch_up` does."""
        await self.catch_up()
        return await self._store.has_stated(token, topic=topic)

    def position(self, topic: str, partition: int = 0) -> int:
        """Return the next offset to be folded."""
        return self._folded.get((topic, partition), 0)

    def obliged(self, reactor: Reactor[Any]) -> asyncio.Event:
        """Return what is set when a fold here obliges to more; who waits for it clears it."""
        return self._obliged.setdefault(reactor.name, asyncio.Event())

    async def outcome(self, position: Position, *, value: bytes) -> Outcome:
        """Return what became of the record of that value at that position, once it has been folded.

        What Kafka acknowledges may not be there: who may write to a topic can make the broker take a record
        for a repetition of his own. `Unknown` then, for nobody can tell whether it arrives elsewhere.
        """
        await self._wait(lambda: position in self._outcomes)
        folded = self._outcomes[position]
        if folded.digest != sha256(value).digest():
            _log.error("another record stands where ours was acknowledged", topic=position.topic)
            return Unknown("Kafka acknowledged another record in its place")
        return folded.outcome

    async def _wait(self, fact: Fact) -> None:
        if not await self._waits.until(fact, seconds=OUTCOME_WAIT_S):
            raise MessagingError(f"the fold did not get there within {OUTCOME_WAIT_S} s")

    async def _fold_next(self) -> None:
        if self._rewind:
            await self._ahead.forget()
            # What the failed transaction would have changed is not known, so its records are read again.
            stored = await self._store.restart()
            self._folded = {at: stored.get(at, 0) for at in self._reader.partitions}
            for topic, partition in self._reader.partitions:
                self._reader.seek(Position(topic, partition, stored.get((topic, partition), 0)))
            self._rewind, self._goal, self._is_rebuilt = False, None, False
        self._store.require_reached()
        if self._goal is None:
            self._goal = await self._reader.end_offsets()
            left = sum(end - self._folded.get(at, 0) for at, end in self._goal.items())
            _log.info("folding what is there", records=left)
        done, trouble = await self._fold_some(await self._ahead.next(), self._goal)
        for batch in done:
            self._note(batch)
        while len(self._outcomes) > OUTCOMES_MAX:
            self._outcomes.popitem(last=False)
        self._note_progress(self._goal)
        self._waits.tell()
        if trouble is not None:
            raise trouble

    async def _fold_some(
        self, read: Read, goal: Mapping[tuple[str, int], int]
    ) -> tuple[list[_Done], Exception | None]:
        """Fold what was read and, of a backlog, what follows, in one transaction.

        Most pages that one batch changes the next ones change as well, and so they are written once. Returned
        is what was folded, with the error that kept the transaction from going on, if there was one.
        """
        if not read.records:
            return [_Done(read.ends)], None
        async with self._store.engine.begin() as connection:
            done = [await self._fold_into(connection, read, outcomes_from=self._wanted_from())]
            while self._is_backlog(read, goal) and len(done) < BATCHES_AT_ONCE_MAX:
                try:
                    # Others wait for the lock meanwhile.
                    async with asyncio.timeout(NEXT_BATCH_S_MAX):
                        read = await self._ahead.next()
                except (MessagingError, OSError) as error:
                    return done, error
                done.append(await self._fold_into(connection, read, outcomes_from=self._wanted_from()))
        return done, None

    def _is_backlog(self, read: Read, goal: Mapping[tuple[str, int], int]) -> bool:
        """Tell whether there is more of what was there at the start, after what was read."""
        is_before = any(read.ends.get(at, 0) < end for at, end in goal.items())
        return is_before and bool(read.records) and not self._is_rebuilt

    def _wanted_from(self) -> Mapping[tuple[str, int], int]:
        """Return from which offsets on somebody may ask what became of a record."""
        # Of what is far behind nobody does, unless it is folded when all was folded.
        seen = {} if self._is_rebuilt else self._reader.seen_ends
        return {at: end - OUTCOMES_KEPT for at, end in seen.items()}

    def _note(self, done: _Done) -> None:
        """Tell callers of what is committed."""
        self._store.reached.update(done.reached)
        for name in done.obliged & self._obliged.keys():
            self._obliged[name].set()
        self._outcomes.update(done.outcomes)
        self._folded.update(done.ends)

    async def fold_up_to(self, ends: Mapping[tuple[str, int], int]) -> None:
        """Fold up to exactly these positions, for a comparison: from the beginning, and not beside `run`.

        Raises:
            MessagingError: the broker is away, a topic ends before, or records in it are gone.
        """
        there = await self._reader.end_offsets()
        if any(there.get(at, 0) < end for at, end in ends.items()):
            raise MessagingError("a topic ends before where it was folded up to")
        while any(self._folded.get(at, 0) < end for at, end in ends.items()):
            polled = await self._reader.poll(max_records=BATCH_RECORDS_MAX, timeout_ms=POLL_MS)
            records = [record for record in polled if record.offset < ends.get(_partition_of(record), 0)]
            reached = {at: min(await self._reader.position(*at), end) for at, end in ends.items()}
            self._reader.require_whole(reached)
            await self._fold_batch(records, reached, outcomes_from=ends)
            self._folded.update(reached)
        for at in self._reader.partitions:
            # What was read beyond is read again by who folds further.
            self._reader.seek(Position(*at, self._folded.get(at, 0)))

    def _note_progress(self, goal: Mapping[tuple[str, int], int]) -> None:
        if not self._is_rebuilt and all(self._folded.get(at, 0) >= end for at, end in goal.items()):
            self._is_rebuilt = True
            _log.info("all that was there is folded", records=sum(goal.values()))

    async def _fold_batch(
        self,
        records: Sequence[Record],
        ends: Mapping[tuple[str, int], int],
        *,
        outcomes_from: Mapping[tuple[str, int], int] = MappingProxyType({}),
    ) -> dict[Position, Outcome]:
        """Fold records in one transaction, with the positions after them; return outcomes from offsets on."""
        read = await self._ahead.judged(records, ends, await self._judge.verdicts_on(records))
        async with self._store.engine.begin() as connection:
            done = await self._fold_into(connection, read, outcomes_from=outcomes_from)
        self._note(done)
        return {at: folded.outcome for at, folded in done.outcomes.items()}

    async def _fold_into(
        self, connection: AsyncConnection, read: Read, *, outcomes_from: Mapping[tuple[str, int], int]
    ) -> _Done:
        """Fold records within a transaction, with the positions after them."""
        records, ends, verdicts, batch = read
        done = await self._store.lock_positions(connection)
        # Nobody else here folds meanwhile, and other replicas wait for the lock.
        self._store.require_not_behind(done, known=self._store.reached)
        new, old, last = [], [], {}
        for record, stated in zip(records, verdicts, strict=True):
            at = _partition_of(record)
            last[at] = record
            if record.offset >= done.get(at, 0):
                new.append((record, stated))
            else:
                old.append(record.at)
        known = await self._store.outcomes(connection, old)
        if self._goal is not None and not self._is_rebuilt:
            # While the database is at work, what follows is judged and verified.
            self._ahead.begin()
        outcomes = await self._fold_new(connection, batch, new)
        # Of a backlog, most batches have none that anybody wants.
        wants = any(record.offset >= outcomes_from.get(at, 0) for at, record in last.items())
        folded = {
            record.at: outcome
            for (record, _), outcome in zip(new, outcomes, strict=True)
            if wants and record.offset >= outcomes_from.get(_partition_of(record), 0)
        }
        await self._store.set_outcomes(connection, folded)
        further = {at: offset for at, offset in ends.items() if offset > done.get(at, 0)}
        marks = {at: mark_of(record) for at, record in last.items()}
        await self._store.set_positions(connection, further, marks=marks)
        reached = {at: max(offset, done.get(at, 0)) for at, offset in ends.items()}
        known |= folded
        heard = {
            record.at: _Folded(sha256(record.value or b"").digest(), known[record.at])
            for record in (records if known else ())
            if record.at in known
        }
        return _Done(ends, reached, heard, frozenset(batch.obliged))

    async def _fold_new(
        self, connection: AsyncConnection, batch: FoldBatch, records: Sequence[tuple[Record, Verdict]]
    ) -> list[Outcome]:
        """Fold what nobody folded yet, and return the outcomes."""
        if not records:
            return []
        await batch.load(connection)
        outcomes: list[Outcome] = []
        for record, event in records:
            if isinstance(event, Event):
                outcomes.append(batch.fold(record.topic, event))
                continue
            if isinstance(event, WithoutEffect):
                batch.note_request(record.topic, self._judge.decoded(record))
            outcomes.append(event)
        await batch.write(connection)
        return outcomes


def _partition_of(record: Record) -> tuple[str, int]:
    return record.topic, record.partition


@asynccontextmanager
async def open_follower(  # noqa: PLR0913  # what a fold is made of
    bootstrap: Bootstrap,
    *,
    store: FoldStore,
    identity: IdentityView,
    contracts: Sequence[Contract[Any]],
    partitions: Sequence[tuple[str, int]],
    supervisor: Supervisor,
    reactors: Sequence[Reactor[Any]] = (),
) -> AsyncIterator[Follower]:
    """Start folding the partitions from where the store has them; stops when the context is left.

    Raises:
        OtherTopicsError: the topics are not those that were folded.
    """
    code = digest_of(contracts, identity.ring.catalogue, [each.declared for each in reactors])
    await store.begin(partitions, code=code, tables=tables_of(contracts))
    await require_same_topics(bootstrap, await store.marks())
    folded = await store.positions()
    starts = {at: folded.get(at, 0) for at in partitions}
    async with Reader(bootstrap, starts=starts, restored=identity.restored) as reader:
        follower = Follower(reader, store=store, identity=identity, contracts=contracts, reactors=reactors)
        async with supervisor.running(follower.run(), name="folding"):
            yield follower
