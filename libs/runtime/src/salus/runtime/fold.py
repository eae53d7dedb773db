"""State as the fold of topics, kept in SQL with the folded offset in the same transaction."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import structlog
from sqlalchemy import BigInteger, Column, Integer, LargeBinary, MetaData, String, Table, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from salus.events.errors import Reason, RejectedError
from salus.events.judging import Judged, judge
from salus.events.signature import SIGNATURE_HEADER
from salus.messaging import BrokerAwayError, MessagingError, Position, Reader, Record
from salus.runtime.identity_view import IdentityView, time_of
from salus.runtime.migrating import migrate

if TYPE_CHECKING:
    from salus.runtime.contract import Contract

BATCH_RECORDS_MAX = 500
POLL_MS = 200
OUTCOMES_MAX = 10_000
OUTCOME_WAIT_S = 15
RETRY_S = 1.0

_log = structlog.get_logger()
_metadata = MetaData()
_positions = Table(
    "fold_positions",
    _metadata,
    Column("topic", String(249), primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("next_offset", BigInteger, nullable=False),
)
_aggregates = Table(
    "fold_aggregates",
    _metadata,
    Column("kind", String(64), primary_key=True),
    Column("id", String(256), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("state", LargeBinary, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Loaded:
    """An aggregate as stored: its version and its encoded state."""

    version: int
    state: bytes


@dataclass(frozen=True, slots=True)
class Applied:
    """The event took effect; the aggregate has this version now."""

    version: int


@dataclass(frozen=True, slots=True)
class Stale:
    """The event expected another version and changed nothing."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The record was not acceptable and changed nothing."""

    reason: Reason


Outcome = Applied | Stale | Refused


class FoldStore:
    """The SQL side of a fold; every method that writes takes the transaction it belongs to."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine

    async def ping(self) -> None:
        """Raise unless the database answers."""
        async with self.engine.connect() as connection:
            await connection.execute(select(1))

    async def load(self, kind: str, aggregate: str) -> Loaded | None:
        """Return an aggregate, or None if no event concerned it yet."""
        async with self.engine.connect() as connection:
            return await self._load(connection, kind, aggregate)

    async def load_all(self, kind: str) -> dict[str, bytes]:
        """Return the encoded states of a kind by id."""
        query = select(_aggregates.c.id, _aggregates.c.state).where(_aggregates.c.kind == kind)
        async with self.engine.connect() as connection:
            rows = (await connection.execute(query.order_by(_aggregates.c.id))).all()
        return {row.id: row.state for row in rows}

    async def load_at(
        self, aggregates: Sequence[tuple[str, str]], *, topic: str, partition: int = 0
    ) -> tuple[int, dict[tuple[str, str], bytes]]:
        """Return the next offset to fold of a partition, and the encoded states as they are at that offset.

        One statement, so that position and states belong together; aggregates without events are left out.
        """
        wanted = tuple_(_aggregates.c.kind, _aggregates.c.id).in_(aggregates)
        query = (
            select(_positions.c.next_offset, _aggregates.c.kind, _aggregates.c.id, _aggregates.c.state)
            .select_from(_positions.outerjoin(_aggregates, wanted))
            .where(_positions.c.topic == topic, _positions.c.partition == partition)
        )
        async with self.engine.connect() as connection:
            rows = (await connection.execute(query)).all()
        states = {(row.kind, row.id): row.state for row in rows if row.kind is not None}
        return (rows[0].next_offset if rows else 0), states

    async def positions(self) -> dict[tuple[str, int], int]:
        """Return the next offset to fold, by partition."""
        async with self.engine.connect() as connection:
            rows = (await connection.execute(select(_positions))).all()
        return {(row.topic, row.partition): row.next_offset for row in rows}

    async def apply(self, connection: AsyncConnection, contract: Contract[Any], judged: Judged) -> Outcome:
        """Fold one accepted event into its aggregate, within the caller's transaction."""
        envelope = judged.event.envelope
        loaded = await self._load(connection, contract.kind, envelope.subject)
        version = loaded.version if loaded else 0
        if envelope.expectedversion is not None and envelope.expectedversion != version:
            return Stale()
        state = msgspec.json.decode(loaded.state, type=contract.state) if loaded else contract.state()
        after = contract.evolve(state, judged.event.data)
        # Facts that expect no version do not make a command stale that was decided beside them.
        next_version = version + (envelope.expectedversion is not None)
        if after != state or next_version != version:
            row = {"version": next_version, "state": msgspec.json.encode(after)}
            await _upsert(connection, _aggregates, {"kind": contract.kind, "id": envelope.subject}, row)
        return Applied(next_version)

    async def set_position(
        self, connection: AsyncConnection, topic: str, partition: int, offset: int
    ) -> None:
        """Record up to where a partition was folded, within the caller's transaction."""
        await _upsert(
            connection, _positions, {"topic": topic, "partition": partition}, {"next_offset": offset}
        )

    @staticmethod
    async def _load(connection: AsyncConnection, kind: str, aggregate: str) -> Loaded | None:
        query = select(_aggregates.c.version, _aggregates.c.state).where(
            _aggregates.c.kind == kind, _aggregates.c.id == aggregate
        )
        row = (await connection.execute(query)).one_or_none()
        return Loaded(version=row.version, state=row.state) if row else None


async def _upsert(
    connection: AsyncConnection, table: Table, key: Mapping[str, Any], row: Mapping[str, Any]
) -> None:
    where = [table.c[name] == value for name, value in key.items()]
    result = await connection.execute(table.update().where(*where).values(**row))
    if result.rowcount == 0:
        await connection.execute(table.insert().values(**key, **row))


@asynccontextmanager
async def open_fold_store(url: str) -> AsyncIterator[FoldStore]:
    """Connect, bring the tables up to date and yield the store."""
    engine = create_async_engine(url)
    try:
        await migrate(engine, package="salus.runtime", version_table="fold_alembic_version")
        yield FoldStore(engine)
    finally:
        await engine.dispose()


class Follower:
    """Folds topics into contracts' aggregates; `run` does the work, the other methods wait for it.

    Callers may rely on: an event takes effect at most once, in topic order, and `catch_up` returns only
    when everything acknowledged before the call has been folded.
    """

    def __init__(
        self, reader: Reader, *, store: FoldStore, identity: IdentityView, contracts: Sequence[Contract[Any]]
    ) -> None:
        self._reader = reader
        self._store = store
        self._identity = identity
        self._contracts = contracts
        self._folded: dict[tuple[str, int], int] = {}
        self._outcomes: OrderedDict[Position, Outcome] = OrderedDict()
        self._moved = asyncio.Condition()

    async def run(self) -> None:
        """Fold until cancelled; a broker that is away is waited for."""
        while True:
            try:
                await self._fold_next()
            except BrokerAwayError as error:
                _log.warning("kafka is away, folding waits", error=str(error))
                await asyncio.sleep(RETRY_S)

    async def catch_up(self) -> None:
        """Return once everything that is in the topics now has been folded.

        Raises:
            MessagingError: the broker is away, or the fold does not get there in OUTCOME_WAIT_S.
        """
        ends = await self._reader.end_offsets()
        await self._wait(lambda: all(self._folded.get(at, 0) >= end for at, end in ends.items()))

    def position(self, topic: str, partition: int = 0) -> int:
        """Return the next offset to be folded."""
        return self._folded.get((topic, partition), 0)

    async def outcome(self, position: Position) -> Outcome:
        """Return what became of the record at that position, once it has been folded."""
        await self._wait(lambda: position in self._outcomes)
        return self._outcomes[position]

    async def _wait(self, fact: Any) -> None:
        try:
            async with asyncio.timeout(OUTCOME_WAIT_S), self._moved:
                await self._moved.wait_for(fact)
        except TimeoutError:
            raise MessagingError(f"the fold did not get there within {OUTCOME_WAIT_S} s") from None

    async def _fold_next(self) -> None:
        records = await self._reader.poll(max_records=BATCH_RECORDS_MAX, timeout_ms=POLL_MS)
        if records:
            await self._identity.catch_up()
        ends = {at: await self._reader.position(*at) for at in self._reader.partitions}
        outcomes: dict[Position, Outcome] = {}
        if records:
            async with self._store.engine.begin() as connection:
                for record in records:
                    outcomes[record.at] = await self._fold(connection, record)
                for (topic, partition), offset in ends.items():
                    await self._store.set_position(connection, topic, partition, offset)
        async with self._moved:
            self._folded.update(ends)
            self._outcomes.update(outcomes)
            while len(self._outcomes) > OUTCOMES_MAX:
                self._outcomes.popitem(last=False)
            self._moved.notify_all()

    async def _fold(self, connection: AsyncConnection, record: Record) -> Outcome:
        try:
            judged = judge(
                topic=record.topic,
                key=record.key,
                value=record.value,
                signature=record.header(SIGNATURE_HEADER),
                ring=self._identity.ring,
                at=time_of(record),
            )
        except RejectedError as error:
            _log.warning("record refused", topic=record.topic, offset=record.offset, reason=str(error.reason))
            return Refused(error.reason)
        outcome: Outcome = Applied(0)
        for contract in self._contracts:
            if contract.topic == record.topic:
                outcome = await self._store.apply(connection, contract, judged)
        return outcome


@asynccontextmanager
async def open_follower(
    bootstrap: str,
    *,
    store: FoldStore,
    identity: IdentityView,
    contracts: Sequence[Contract[Any]],
    partitions: Sequence[tuple[str, int]],
) -> AsyncIterator[Follower]:
    """Start folding the partitions from where the store has them; stops when the context is left."""
    folded = await store.positions()
    starts = {at: folded.get(at, 0) for at in partitions}
    async with Reader(bootstrap, starts=starts) as reader:
        follower = Follower(reader, store=store, identity=identity, contracts=contracts)
        task = asyncio.create_task(follower.run())
        try:
            yield follower
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
