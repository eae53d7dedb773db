"""The SQL side of a fold: aggregates, positions and outcomes, written in one transaction a batch."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, assert_never

import msgspec
from sqlalchemy import (
    BigInteger,
    Column,
    Integer,
    LargeBinary,
    MetaData,
    Select,
    String,
    Table,
    select,
    tuple_,
)
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from salus.events.effect import (
    Applied,
    Effect,
    NoEffect,
    Outcome,
    Refused,
    Unknown,
    WithoutEffect,
    claims_of,
    effect_of,
    request_claim,
)
from salus.events.envelope import Event
from salus.events.requests import RequestedData
from salus.messaging import MessagingError, Position
from salus.runtime.database import open_engine
from salus.runtime.migrating import migrate

if TYPE_CHECKING:
    from salus.runtime.contract import Contract

# Outcomes of older records are forgotten: whoever asked for them has had an answer or given up.
OUTCOMES_KEPT = 10_000

_metadata = MetaData()
_positions = Table(
    "fold_positions",
    _metadata,
    Column("topic", String(249), primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("next_offset", BigInteger, nullable=False),
    Column("last_offset", BigInteger),
    Column("last_digest", LargeBinary(32)),
)
_aggregates = Table(
    "fold_aggregates",
    _metadata,
    Column("kind", String(64), primary_key=True),
    Column("id", String(256), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("state", LargeBinary, nullable=False),
)
_outcomes = Table(
    "fold_outcomes",
    _metadata,
    Column("topic", String(249), primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("offset", BigInteger, primary_key=True),
    Column("version", Integer),
    Column("no_effect", String(64)),
    Column("refused", String(64)),
)
_claims = Table(
    "fold_claims",
    _metadata,
    Column("topic", String(249), primary_key=True),
    Column("name", String(512), primary_key=True),
)


@dataclass(frozen=True, slots=True)
class Loaded:
    """An aggregate as stored: its encoded state, and its subject's version when that last changed."""

    version: int
    state: bytes


@dataclass(frozen=True, slots=True)
class Mark:
    """The last record that was folded of a partition: by it a topic is known again."""

    offset: int
    digest: bytes


class StateBehindError(MessagingError):
    """The database went back behind what this process had folded into it."""


class FoldStore:
    """The SQL side of a fold; every method that writes takes the transaction it belongs to."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        # Up to where this process knows the database to be, by partition.
        self.reached: dict[tuple[str, int], int] = {}
        self._is_behind = False

    def require_reached(self) -> None:
        """Raise StateBehindError if the database was seen to have gone back, until `restart`.

        One that went back, as a standby that lagged or a backup, lacks what callers were told; whoever folds
        on would fold over the gap.
        """
        if self._is_behind:
            raise StateBehindError("the database lacks what was folded: it is folded again")

    def require_not_behind(
        self, stored: Mapping[tuple[str, int], int], *, known: Mapping[tuple[str, int], int]
    ) -> None:
        """Raise StateBehindError unless the positions that are stored go as far as was known.

        `known` is a copy of `reached` from before they were asked for: what is folded meanwhile is no gap.
        """
        self._is_behind |= any(stored.get(at, 0) < offset for at, offset in known.items())
        self.require_reached()

    async def restart(self) -> dict[tuple[str, int], int]:
        """Return the next offsets to fold, to begin there again."""
        stored = await self.positions()
        self.reached, self._is_behind = dict(stored), False
        return stored

    async def ping(self) -> None:
        """Raise unless the database answers."""
        async with self.engine.connect() as connection:
            await connection.execute(select(1))

    async def load(self, kind: str, aggregate: str) -> Loaded | None:
        """Return an aggregate, or None if no event concerned it yet."""
        known = dict(self.reached)
        async with self.engine.connect() as connection:
            loaded = await self._load(connection, kind, aggregate)
            stored = await _positions_in(connection)
        self.require_not_behind(stored, known=known)
        return loaded

    async def load_all(self, kind: str) -> dict[str, bytes]:
        """Return the encoded states of a kind by id."""
        query = select(_aggregates.c.id, _aggregates.c.state).where(_aggregates.c.kind == kind)
        return await self._states(query.order_by(_aggregates.c.id))

    async def load_some(self, kind: str, aggregates: Collection[str]) -> dict[str, bytes]:
        """Return the encoded states of these aggregates by id; the number is for the caller to bound."""
        here = (_aggregates.c.kind == kind, _aggregates.c.id.in_(aggregates))
        query = select(_aggregates.c.id, _aggregates.c.state).where(*here).order_by(_aggregates.c.id)
        return await self._states(query)

    async def _states(self, query: Select[tuple[str, bytes]]) -> dict[str, bytes]:
        known = dict(self.reached)
        async with self.engine.connect() as connection:
            rows = (await connection.execute(query)).all()
            stored = await _positions_in(connection)
        self.require_not_behind(stored, known=known)
        return {row.id: row.state for row in rows}

    async def load_at(
        self, aggregates: Sequence[tuple[str, str]]
    ) -> tuple[dict[tuple[str, int], int], dict[tuple[str, str], bytes]]:
        """Return the next offset to fold of each partition, and the encoded states as they are there.

        One statement, so that positions and states belong together. Partitions of which nothing was folded
        and aggregates without events are left out.
        """
        wanted = tuple_(_aggregates.c.kind, _aggregates.c.id).in_(aggregates)
        query = (
            select(
                _positions.c.topic,
                _positions.c.partition,
                _positions.c.next_offset,
                _aggregates.c.kind,
                _aggregates.c.id,
                _aggregates.c.state,
            )
            .select_from(_positions.outerjoin(_aggregates, wanted))
            .order_by(_positions.c.topic, _positions.c.partition)
        )
        known = dict(self.reached)
        async with self.engine.connect() as connection:
            rows = (await connection.execute(query)).all()
        states = {(row.kind, row.id): row.state for row in rows if row.kind is not None}
        positions = {(row.topic, row.partition): row.next_offset for row in rows}
        self.require_not_behind(positions, known=known)
        return positions, states

    async def positions(self) -> dict[tuple[str, int], int]:
        """Return the next offset to fold, by partition."""
        async with self.engine.connect() as connection:
            return await _positions_in(connection)

    async def marks(self) -> dict[tuple[str, int], Mark]:
        """Return the last record folded, by partition, where it is known."""
        query = select(_positions).where(_positions.c.last_digest.is_not(None))
        async with self.engine.connect() as connection:
            rows = (await connection.execute(query)).all()
        return {(row.topic, row.partition): Mark(row.last_offset, row.last_digest) for row in rows}

    async def load_for_command(self, kind: str, aggregate: str, *, topic: str) -> tuple[bytes | None, int]:
        """Return the encoded state and the version that the subject of that name has on the topic.

        One statement, so that a state is never taken for a newer version than its own.
        """
        versions = _version_kind(topic)
        of_aggregate = (_aggregates.c.id == aggregate) & _aggregates.c.kind.in_([kind, versions])
        query = select(
            _positions.c.topic,
            _positions.c.partition,
            _positions.c.next_offset,
            _aggregates.c.kind,
            _aggregates.c.version,
            _aggregates.c.state,
        ).select_from(_positions.outerjoin(_aggregates, of_aggregate))
        known = {at: offset for at, offset in self.reached.items() if at[0] == topic}
        async with self.engine.connect() as connection:
            found = (await connection.execute(query.where(_positions.c.topic == topic))).all()
        stored = {(row.topic, row.partition): row.next_offset for row in found}
        self.require_not_behind(stored, known=known)
        rows = {row.kind: row for row in found}
        state = rows[kind].state if kind in rows else None
        return state, rows[versions].version if versions in rows else 0

    async def advance(self, connection: AsyncConnection, topic: str, event: Event) -> Effect:
        """Return what an event does, and keep the version and the names that follow from it.

        Whether who asked for it had the right was said before: of identity's facts only those come here of
        which the key ring says so, and who may what of other services is their contracts' to say.

        Versions and names belong to a topic, not to aggregates: services that fold the same topic into
        other aggregates, or only some of its events, agree with its owner on what took effect.
        """
        kind, subject = _version_kind(topic), event.envelope.subject
        loaded = await self._load(connection, kind, subject)
        version = loaded.version if loaded else 0
        names = claims_of(event)
        claimed = await self._claimed(connection, topic, names)
        effect = effect_of(event, version=version, is_claimed=claimed.__contains__, is_entitled=lambda: True)
        if not isinstance(effect, Applied):
            await self.note_request(connection, topic, event)
            return effect
        if effect.version != version:
            key = {"kind": kind, "id": subject}
            await _upsert(connection, _aggregates, key, {"version": effect.version, "state": b""})
        if names:
            rows = [{"topic": topic, "name": name} for name in names]
            await connection.execute(_claims.insert(), rows)
        return effect

    async def note_request(self, connection: AsyncConnection, topic: str, event: Event) -> None:
        """Keep that the request of an event that had no effect stands on the topic, where all can read it."""
        data = event.data
        if not isinstance(data, RequestedData) or data.request.proof is None:
            return
        name = _seen(data.request.proof)
        if not await self._claimed(connection, topic, [name]):
            await connection.execute(_claims.insert(), [{"topic": topic, "name": name}])

    async def has_stated(self, token: str, *, topic: str) -> bool:
        """Tell whether the request of this token stands on the topic, as far as it was folded."""
        async with self.engine.connect() as connection:
            return bool(await self._claimed(connection, topic, [request_claim(token), _seen(token)]))

    @staticmethod
    async def _claimed(connection: AsyncConnection, topic: str, names: Sequence[str]) -> set[str]:
        if not names:
            return set()
        query = select(_claims.c.name).where(_claims.c.topic == topic, _claims.c.name.in_(names))
        return set((await connection.execute(query)).scalars())

    async def apply(
        self, connection: AsyncConnection, contract: Contract[Any], event: Event, *, version: int
    ) -> None:
        """Fold one event that took effect into its aggregate, within the caller's transaction."""
        aggregate = contract.aggregate(event.envelope.subject, event.data)
        if aggregate is None:
            return
        loaded = await self._load(connection, contract.kind, aggregate)
        state = msgspec.json.decode(loaded.state, type=contract.state) if loaded else contract.state()
        after = contract.evolve(state, event.data)
        if after != state:
            row = {"version": version, "state": msgspec.json.encode(after)}
            await _upsert(connection, _aggregates, {"kind": contract.kind, "id": aggregate}, row)

    async def lock_positions(self, connection: AsyncConnection) -> dict[tuple[str, int], int]:
        """Return the next offsets, and keep other replicas on the same database from folding meanwhile."""
        rows = (await connection.execute(select(_positions).with_for_update())).all()
        return {(row.topic, row.partition): row.next_offset for row in rows}

    async def set_position(
        self, connection: AsyncConnection, at: tuple[str, int], offset: int, *, mark: Mark | None = None
    ) -> None:
        """Record up to where a partition was folded and its last record, in the caller's transaction."""
        topic, partition = at
        key = {"topic": topic, "partition": partition}
        last = {"last_offset": mark.offset, "last_digest": mark.digest} if mark else {}
        await _upsert(connection, _positions, key, {"next_offset": offset, **last})
        old = (_outcomes.c.topic == topic) & (_outcomes.c.partition == partition)
        await connection.execute(
            _outcomes.delete().where(old & (_outcomes.c.offset < offset - OUTCOMES_KEPT))
        )

    async def set_outcomes(self, connection: AsyncConnection, outcomes: Mapping[Position, Outcome]) -> None:
        """Record what became of records, for replicas that fold into the same database."""
        rows = [
            {"topic": at.topic, "partition": at.partition, "offset": at.offset, **_columns(outcome)}
            for at, outcome in outcomes.items()
        ]
        if rows:
            await connection.execute(_outcomes.insert(), rows)

    async def outcome(self, connection: AsyncConnection, position: Position) -> Outcome:
        """Return what became of a record that was folded already; `Unknown` if that was too long ago."""
        query = select(_outcomes).where(
            _outcomes.c.topic == position.topic,
            _outcomes.c.partition == position.partition,
            _outcomes.c.offset == position.offset,
        )
        row = (await connection.execute(query)).one_or_none()
        if row is None:
            return Unknown("it was folded too long ago")
        if row.refused is not None:
            return Refused(row.refused)
        if row.no_effect is not None:
            return WithoutEffect(NoEffect(row.no_effect))
        return Applied(row.version)

    @staticmethod
    async def _load(connection: AsyncConnection, kind: str, aggregate: str) -> Loaded | None:
        query = select(_aggregates.c.version, _aggregates.c.state).where(
            _aggregates.c.kind == kind, _aggregates.c.id == aggregate
        )
        row = (await connection.execute(query)).one_or_none()
        return Loaded(version=row.version, state=row.state) if row else None


def _seen(token: str) -> str:
    return f"seen:{request_claim(token)}"


async def _positions_in(connection: AsyncConnection) -> dict[tuple[str, int], int]:
    rows = (await connection.execute(select(_positions))).all()
    return {(row.topic, row.partition): row.next_offset for row in rows}


def _columns(outcome: Outcome) -> dict[str, Any]:
    """Return an outcome as it is kept; all rows of one statement have the same columns."""
    kept: dict[str, Any] = {"version": None, "no_effect": None, "refused": None}
    match outcome:
        case Applied():
            return kept | {"version": outcome.version}
        case WithoutEffect():
            return kept | {"no_effect": outcome.reason.value}
        case Refused():
            return kept | {"refused": outcome.reason}
        case Unknown():
            raise ValueError("what is folded is known")
        case _:
            assert_never(outcome)


def _version_kind(topic: str) -> str:
    return f"version:{topic}"


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
    engine = open_engine(url)
    try:
        await migrate(engine, package="salus.runtime", version_table="fold_alembic_version")
        yield FoldStore(engine)
    finally:
        await engine.dispose()
