"""The SQL side of a fold: what readers ask it, and the positions and outcomes that a batch leaves in it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, assert_never

import structlog
from sqlalchemy import TableClause, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from salus.contracts.declared_tables import are_made, make_tables
from salus.contracts.fold_batch import seen_claim, version_kind
from salus.contracts.fold_tables import (
    AGGREGATES,
    CLAIMS,
    DECLARED,
    OBLIGATIONS,
    OUTCOMES,
    POSITIONS,
    Loaded,
    Pair,
    Snapshot,
    read_snapshot,
    write_rows,
)
from salus.contracts.keyset import KeysetPage, KeysetQuery
from salus.contracts.table_projection import TableProjection
from salus.events.effect import Applied, NoEffect, Outcome, Refused, Unknown, WithoutEffect, request_claim
from salus.messaging import MessagingError, PermanentError, Position
from salus.runtime.database import open_engine
from salus.runtime.migrating import migrate, without_limit
from salus.runtime.shared_call import SharedCall

# Outcomes of older records are forgotten: whoever asked for them has had an answer or given up.
OUTCOMES_KEPT = 10_000
# They are looked for after so many records: what is there besides costs little.
FORGET_EVERY = 1_000

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Mark:
    """The last record that was folded of a partition: by it a topic is known again."""

    offset: int
    digest: bytes


class StateBehindError(MessagingError):
    """The database went back behind what this process had folded into it."""


class OtherCodeError(PermanentError):
    """Another version of the service folds into the database: what it leaves there this one cannot read."""


class FoldStore:
    """The SQL side of a fold; every method that writes takes the transaction it belongs to."""

    def __init__(self, engine: AsyncEngine, *, code: bytes | None = None, release: int = 0) -> None:
        """`release` is the operator's count of what he installed: code of a lower one takes nothing back."""
        self.engine = engine
        self._release = release
        # Up to where this process knows the database to be, by partition.
        self.reached: dict[tuple[str, int], int] = {}
        self._is_behind = False
        # The digest of the code that folds here, from `begin` on at the latest.
        self._code = code
        # One statement needs no transaction around it, whose begin and end PostgreSQL would be told.
        alone = engine.dialect.name == "postgresql"
        self._reading = engine.execution_options(isolation_level="AUTOCOMMIT") if alone else engine
        # What readers who wait have asked for: one statement reads it for all of them.
        self._asked: dict[object, tuple[Collection[Pair], Collection[Pair]]] = {}
        self._read = SharedCall(self._read_asked)

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
        """Raise unless the database answers, and what is in it is of this code and all that was folded here.

        So a database that was emptied is seen by whoever looks whether the service is ready, though nobody
        reads from it; the fold begins anew then.
        """
        known = dict(self.reached)
        self.require_not_behind(await self.positions(), known=known)

    async def _snapshot(self, keys: Collection[Pair], names: Collection[Pair] = ()) -> Snapshot:
        """Return aggregates (kind, id) and claims (topic, name), and more, as they are now.

        One statement serves all who ask meanwhile. Raises StateBehindError if the database went back.
        """
        asker = object()
        self._asked[asker] = keys, names
        try:
            return await self._read()
        finally:
            del self._asked[asker]

    async def _read_asked(self) -> Snapshot:
        asked, known = [*self._asked.values()], dict(self.reached)
        keys = {key for wanted, _ in asked for key in wanted}
        names = {name for _, wanted in asked for name in wanted}
        async with self._reading.connect() as connection:
            found = await read_snapshot(connection, keys=keys, names=names)
        self._require_own(found.folded_by)
        self.require_not_behind(found.positions, known=known)
        return found

    async def load(self, kind: str, aggregate: str) -> Loaded | None:
        """Return an aggregate, or None if no event concerned it yet."""
        return (await self._snapshot([(kind, aggregate)])).rows.get((kind, aggregate))

    async def read_page(self, query: KeysetQuery, *, after: str | None = None, limit: int) -> KeysetPage:
        """Return a page of a declared table; the first one, or the one that the cursor `after` names.

        Raises:
            CursorError: the cursor is none of this list's.
            OtherCodeError: the tables are another version's.
            StateBehindError: the database went back.
        """
        statement = query.statement(after=after, limit=limit)
        known = dict(self.reached)
        async with self.engine.connect() as connection:
            # Before the rows: the tables of another version have other columns.
            stored = await self.positions_in(connection)
            rows = (await connection.execute(statement)).mappings().all()
        self.require_not_behind(stored, known=known)
        return query.page(rows, limit=limit)

    async def load_some(self, kind: str, aggregates: Collection[str]) -> dict[str, bytes]:
        """Return the encoded states of these aggregates by id; the number is for the caller to bound."""
        found = (await self._snapshot([(kind, aggregate) for aggregate in aggregates])).rows
        return {name: found[kind, name].state for name in aggregates if (kind, name) in found}

    async def load_at(
        self, aggregates: Sequence[Pair]
    ) -> tuple[dict[tuple[str, int], int], dict[Pair, bytes]]:
        """Return the next offset to fold of every partition, and the encoded states as they are there.

        Positions and states belong together. Aggregates without events are left out.
        """
        positions, rows = await self.rows_at(aggregates)
        return positions, {key: row.state for key, row in rows.items()}

    async def rows_at(
        self, aggregates: Sequence[Pair]
    ) -> tuple[dict[tuple[str, int], int], dict[Pair, Loaded]]:
        """Return positions and states as `load_at`, each state with its version.

        That of a subject on a topic, which is short, is of the kind `version_kind` gives.
        """
        found = await self._snapshot(aggregates)
        return found.positions, {key: found.rows[key] for key in aggregates if key in found.rows}

    async def load_for_command(self, kind: str, aggregate: str, *, topic: str) -> tuple[bytes | None, int]:
        """Return the encoded state and the version that the subject of that name has on the topic.

        They belong together: a state is never taken for a newer version than its own.
        """
        of_state, of_version = (kind, aggregate), (version_kind(topic), aggregate)
        rows = (await self._snapshot([of_state, of_version])).rows
        state = rows[of_state].state if of_state in rows else None
        return state, rows[of_version].version if of_version in rows else 0

    async def has_stated(self, token: str, *, topic: str) -> bool:
        """Tell whether the request of this token stands on the topic, as far as it was folded."""
        names = [(topic, request_claim(token)), (topic, seen_claim(token))]
        return not (await self._snapshot((), names)).claims.isdisjoint(names)

    async def positions(self) -> dict[tuple[str, int], int]:
        """Return the next offset to fold, by partition; raises OtherCodeError."""
        async with self.engine.connect() as connection:
            return await self.positions_in(connection)

    async def marks(self) -> dict[tuple[str, int], Mark]:
        """Return the last record folded, by partition, where it is known."""
        query = select(POSITIONS).where(POSITIONS.c.last_digest.is_not(None))
        async with self.engine.connect() as connection:
            rows = (await connection.execute(query)).all()
        return {(row.topic, row.partition): Mark(row.last_offset, row.last_digest) for row in rows}

    async def begin(
        self,
        partitions: Iterable[tuple[str, int]],
        *,
        code: bytes,
        tables: Collection[TableProjection[Any]] = (),
    ) -> None:
        """Give each partition a row, which replicas lock: where there is none yet, both would fold.

        What code of another digest folded is emptied, and folded anew; replicas of that code stop. So are the
        tables that contracts declare, if they are not these. The marks stay, so that topics are known again.

        Raises:
            OtherCodeError: code of a later release folds here, so this process is a rest of an older one.
        """
        self._code = code
        rows = [
            {"topic": topic, "partition": number, "next_offset": 0, "folded_by": code}
            for topic, number in sorted(partitions)
        ]
        async with self.engine.begin() as connection:
            await without_limit(connection)
            await write_rows(connection, POSITIONS, rows, over=False)
            there = await _locked(connection)
            by_other = any(row.folded_by != code for row in there)
            latest = max((row.release or 0 for row in there), default=0)
            if by_other and latest > self._release:
                raise OtherCodeError(
                    f"release {latest} of this service folds into the database, and this is {self._release}:"
                    " SALUS_RELEASE has to be higher to take its place"
                )
            if by_other:
                _log.warning("another version folded into the database: it is folded anew")
            if by_other or not await are_made(connection, tables):
                await _empty(connection)
                await make_tables(connection, tables)
                await connection.execute(POSITIONS.update().values(folded_by=code))
            await connection.execute(POSITIONS.update().values(release=max(latest, self._release)))

    def _require_own(self, folded_by: Collection[bytes | None]) -> None:
        """Raise OtherCodeError unless all that is folded is of this code: its fields would be lost here."""
        if any(code != self._code for code in folded_by):
            raise OtherCodeError(
                "another version of this service folds into the database since; restart this one to fold anew"
            )

    async def positions_in(self, connection: AsyncConnection) -> dict[tuple[str, int], int]:
        """Return the next offset to fold, by partition, in the caller's view; raises OtherCodeError."""
        return self._own_positions((await connection.execute(select(POSITIONS))).all())

    def _own_positions(self, rows: Sequence[Any]) -> dict[tuple[str, int], int]:
        self._require_own({row.folded_by for row in rows})
        return {(row.topic, row.partition): row.next_offset for row in rows}

    async def lock_positions(self, connection: AsyncConnection) -> dict[tuple[str, int], int]:
        """Return the next offsets, and keep other replicas on the same database from folding meanwhile.

        Raises OtherCodeError if another version has begun there: two of them never fold side by side.
        """
        return self._own_positions(await _locked(connection))

    async def set_positions(
        self,
        connection: AsyncConnection,
        ends: Mapping[tuple[str, int], int],
        *,
        marks: Mapping[tuple[str, int], Mark],
    ) -> None:
        """Record up to where partitions were folded and their last records, in the caller's transaction."""
        marked, unmarked = [], []
        for (topic, partition), offset in ends.items():
            row = {
                "topic": topic,
                "partition": partition,
                "next_offset": offset,
                "folded_by": self._code,
            }
            if (mark := marks.get((topic, partition))) is None:
                unmarked.append(row)
            else:
                marked.append({**row, "last_offset": mark.offset, "last_digest": mark.digest})
        await write_rows(connection, POSITIONS, marked)
        await write_rows(connection, POSITIONS, unmarked)

    async def set_outcomes(self, connection: AsyncConnection, outcomes: Mapping[Position, Outcome]) -> None:
        """Record what became of records, for replicas that fold into the same database."""
        rows = [
            {"topic": at.topic, "partition": at.partition, "offset": at.offset, **_columns(outcome)}
            for at, outcome in outcomes.items()
        ]
        await write_rows(connection, OUTCOMES, rows)
        for at in outcomes:
            if at.offset % FORGET_EVERY == 0:
                of_partition = (OUTCOMES.c.topic == at.topic) & (OUTCOMES.c.partition == at.partition)
                old = of_partition & (OUTCOMES.c.offset < at.offset - OUTCOMES_KEPT)
                await connection.execute(OUTCOMES.delete().where(old))

    async def outcomes(
        self, connection: AsyncConnection, positions: Collection[Position]
    ) -> dict[Position, Outcome]:
        """Return what became of records that were folded already; `Unknown` if that was too long ago."""
        if not positions:
            return {}
        at = tuple_(OUTCOMES.c.topic, OUTCOMES.c.partition, OUTCOMES.c.offset)
        wanted = [(position.topic, position.partition, position.offset) for position in positions]
        rows = (await connection.execute(select(OUTCOMES).where(at.in_(wanted)))).all()
        found = {Position(row.topic, row.partition, row.offset): _outcome(row) for row in rows}
        forgotten = Unknown("it was folded too long ago")
        return {position: found.get(position, forgotten) for position in positions}


async def rebuild(url: str) -> None:
    """Empty a database: a service sees that it went back, or at its start that it is empty, and folds it."""
    engine = open_engine(url)
    try:
        async with engine.begin() as connection:
            await without_limit(connection)
            await _locked(connection)
            await _empty(connection)
            for row in (await connection.execute(select(DECLARED))).all():
                await connection.execute(TableClause(row.name).delete())
    finally:
        await engine.dispose()


async def _empty(connection: AsyncConnection) -> None:
    """Forget what was folded, and fold from the beginning."""
    for table in (AGGREGATES, OUTCOMES, CLAIMS, OBLIGATIONS):
        await connection.execute(table.delete())
    await connection.execute(POSITIONS.update().values(next_offset=0))


# Made once: making it takes as long as executing it.
_LOCK = select(POSITIONS).order_by(POSITIONS.c.topic, POSITIONS.c.partition).with_for_update()


async def _locked(connection: AsyncConnection) -> Sequence[Any]:
    return (await connection.execute(_LOCK)).all()


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


def _outcome(row: Any) -> Outcome:
    if row.refused is not None:
        return Refused(row.refused)
    if row.no_effect is not None:
        return WithoutEffect(NoEffect(row.no_effect))
    return Applied(row.version)


@asynccontextmanager
async def open_fold_store(url: str, *, release: int = 0) -> AsyncIterator[FoldStore]:
    """Connect, bring the tables up to date and yield the store."""
    engine = open_engine(url, is_rebuilt=True)
    try:
        await migrate(engine, package="salus.contracts", version_table="fold_alembic_version")
        yield FoldStore(engine, release=release)
    finally:
        await engine.dispose()
