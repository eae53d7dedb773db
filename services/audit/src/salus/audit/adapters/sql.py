"""The trail in SQL: SQLite in one process, PostgreSQL where there are more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    func,
    or_,
    select,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from salus.audit.domain.directory import Directory, KnownConsent, KnownParty
from salus.audit.domain.entry import TrailEntry
from salus.audit.domain.search import Found, Question, Visibility
from salus.audit.ports import OutOfReachError, Tip
from salus.events.catalogue import SubjectRegistered, type_of
from salus.runtime.migrating import DATABASE_AWAY, migrate

# Databases limit the parameters of one statement.
PARAMETERS_MAX = 500
SUBJECT_REGISTERED = type_of(SubjectRegistered).name

_metadata = MetaData()
_trail = Table(
    "audit_trail",
    _metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("uid", String(64)),
    Column("shard", Integer),
    Column("height", BigInteger),
    Column("index", Integer),
    Column("time_us", BigInteger),
    Column("activity", String(32)),
    Column("action", String(1)),
    Column("outcome", String(16)),
    Column("severity", Integer),
    Column("type", String(256)),
    Column("source", String(256)),
    Column("id", String(256)),
    Column("actor", String(256)),
    Column("member", String(256)),
    Column("party", String(256)),
    Column("patient", String(256)),
    Column("object", String(512)),
    Column("words", Text),
    Column("entry", LargeBinary),
)
_shards = Table(
    "audit_shards",
    _metadata,
    Column("shard", Integer, primary_key=True, autoincrement=False),
    Column("next_height", BigInteger),
    Column("last_header", LargeBinary),
)
_outputs = Table(
    "audit_outputs",
    _metadata,
    Column("name", String(64), primary_key=True),
    Column("published_seq", BigInteger),
)
_parties = Table(
    "audit_parties", _metadata, Column("did", String(256), primary_key=True), Column("party", LargeBinary)
)
_patients = Table(
    "audit_patients",
    _metadata,
    Column("did", String(256), primary_key=True),
    Column("pseudonym", String(256), primary_key=True),
)
_consents = Table(
    "audit_consents",
    _metadata,
    Column("patient", String(256), primary_key=True),
    Column("id", String(256), primary_key=True),
    Column("consent", LargeBinary),
)
_decoder = msgspec.json.Decoder(TrailEntry)


class SqlTrail:
    """A `Trail`. Writes of one process take turns; between processes the tip is compared and swapped."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._turn = asyncio.Lock()
        self._known: tuple[int, dict[str, KnownParty]] = (-1, {})

    async def ping(self) -> None:
        """Raise unless the database answers."""
        async with self._reading() as connection:
            await connection.execute(select(1))

    async def tip(self, shard: int) -> Tip:
        """Return how far a shard is indexed."""
        async with self._reading() as connection:
            row = (await connection.execute(select(_shards).where(_shards.c.shard == shard))).one_or_none()
        return Tip(0, None) if row is None else Tip(row.next_height, row.last_header)

    async def directory(self, patients: Collection[str] = ()) -> Directory:
        """Return who is who and consents; parties are read again only if another process has indexed."""
        async with self._reading() as connection:
            indexed = await _scalar(connection, select(func.coalesce(func.sum(_shards.c.next_height), 0)))
            if self._known[0] != indexed:
                rows = (await connection.execute(select(_parties))).all()
                known = {row.did: msgspec.json.decode(row.party, type=KnownParty) for row in rows}
                self._known = (indexed, known)
            consents = await _consents_of(connection, patients)
        return Directory(self._known[1], consents)

    async def append(
        self, entries: Sequence[TrailEntry], directory: Directory, *, shard: int, tip: Tip, before: Tip
    ) -> bool:
        """Append a block's entries in one transaction, if the shard still is at `before`."""
        try:
            async with self._turn, self._writing() as connection:
                if not await _move_tip(connection, shard, tip=tip, before=before):
                    return False
                end = await _scalar(connection, select(func.coalesce(func.max(_trail.c.seq), 0)))
                if entries:
                    rows = [_row(end + 1 + index, entry) for index, entry in enumerate(entries)]
                    await connection.execute(_trail.insert(), rows)
                await _store_directory(connection, directory)
        except IntegrityError:
            # Two processes took the same tip or the same position: the other one has it.
            return False
        return True

    async def search(self, question: Question, visible: Visibility, *, limit: int) -> list[Found]:
        """Return matching entries, the newest first; with `after`, the oldest first."""
        query = select(_trail.c.seq, _trail.c.entry).where(*_conditions(question), *_visible(visible))
        order = _trail.c.seq.asc() if question.after is not None else _trail.c.seq.desc()
        async with self._reading() as connection:
            rows = (await connection.execute(query.order_by(order).limit(limit))).all()
        return [Found(row.seq, _decoder.decode(row.entry)) for row in rows]

    async def entry(self, source: str, event: str) -> Found | None:
        """Return the accepted event's entry."""
        return await self._one(_trail.c.source == source, _trail.c.id == event)

    async def leaf(self, uid: str) -> Found | None:
        """Return the leaf's entry."""
        return await self._one(_trail.c.uid == uid)

    async def party(self, did: str) -> KnownParty | None:
        """Return a party."""
        return (await self.directory()).party(did)

    async def pseudonyms(self, did: str) -> frozenset[str]:
        """Return whose patient's pseudonyms a DID has."""
        query = select(_patients.c.pseudonym).where(_patients.c.did == did)
        async with self._reading() as connection:
            return frozenset((await connection.execute(query)).scalars())

    async def steward(self, patient: str) -> str | None:
        """Return the member that registered a pseudonym, by the first registration."""
        registered = (_trail.c.patient == patient, _trail.c.type == SUBJECT_REGISTERED)
        query = select(_trail.c.party).where(*registered).order_by(_trail.c.seq).limit(1)
        async with self._reading() as connection:
            return (await connection.execute(query)).scalar_one_or_none()

    async def end(self) -> int:
        """Return the newest position."""
        async with self._reading() as connection:
            return await _scalar(connection, select(func.coalesce(func.max(_trail.c.seq), 0)))

    async def published(self, output: str) -> int:
        """Return the position up to which an output was published."""
        query = select(func.coalesce(func.max(_outputs.c.published_seq), 0)).where(_outputs.c.name == output)
        async with self._reading() as connection:
            return await _scalar(connection, query)

    async def set_published(self, output: str, seq: int) -> None:
        """Remember the position; it never goes back."""
        here = _outputs.c.name == output
        async with self._turn, self._writing() as connection:
            exists = (await connection.execute(select(_outputs.c.name).where(here))).one_or_none()
            if exists is None:
                await connection.execute(_outputs.insert().values(name=output, published_seq=seq))
            else:
                further = _outputs.update().where(here, _outputs.c.published_seq < seq)
                await connection.execute(further.values(published_seq=seq))

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[AsyncConnection]:
        with _within_reach():
            async with self._engine.connect() as connection:
                yield connection

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[AsyncConnection]:
        with _within_reach():
            async with self._engine.begin() as connection:
                yield connection

    async def _one(self, *conditions: ColumnElement[bool]) -> Found | None:
        query = select(_trail.c.seq, _trail.c.entry).where(*conditions).order_by(_trail.c.seq).limit(1)
        async with self._reading() as connection:
            row = (await connection.execute(query)).one_or_none()
        return None if row is None else Found(row.seq, _decoder.decode(row.entry))


@asynccontextmanager
async def open_trail(url: str) -> AsyncIterator[SqlTrail]:
    """Connect, bring the tables up to date and yield the trail."""
    # Errors are logged, and parameters say who did what: they stay out of them.
    engine = create_async_engine(url, hide_parameters=True)
    try:
        await migrate(engine, package="salus.audit", version_table="audit_alembic_version")
        yield SqlTrail(engine)
    finally:
        await engine.dispose()


@contextmanager
def _within_reach() -> Iterator[None]:
    try:
        yield
    except DATABASE_AWAY as error:
        # The statement and its values stay out of the message: they may say who did what.
        raise OutOfReachError(f"the database: {type(error.orig).__name__}") from error


async def _scalar(connection: AsyncConnection, query: Any) -> int:
    return int((await connection.execute(query)).scalar_one())


async def _consents_of(connection: AsyncConnection, patients: Collection[str]) -> list[KnownConsent]:
    ordered, found = sorted(patients), []
    for start in range(0, len(ordered), PARAMETERS_MAX):
        some = _consents.c.patient.in_(ordered[start : start + PARAMETERS_MAX])
        rows = (await connection.execute(select(_consents.c.consent).where(some))).scalars()
        found += [msgspec.json.decode(row, type=KnownConsent) for row in rows]
    return found


async def _move_tip(connection: AsyncConnection, shard: int, *, tip: Tip, before: Tip) -> bool:
    values = {"next_height": tip.height, "last_header": tip.note}
    if before.note is None:
        await connection.execute(_shards.insert().values(shard=shard, **values))
        return True
    here = (_shards.c.shard == shard, _shards.c.next_height == before.height)
    moved = await connection.execute(_shards.update().where(*here).values(**values))
    return moved.rowcount == 1


async def _store_directory(connection: AsyncConnection, directory: Directory) -> None:
    for did, party in directory.changed.items():
        await connection.execute(_parties.delete().where(_parties.c.did == did))
        await connection.execute(_parties.insert().values(did=did, party=msgspec.json.encode(party)))
    for (patient, name), consent in directory.changed_consents.items():
        at = (_consents.c.patient == patient, _consents.c.id == name)
        await connection.execute(_consents.delete().where(*at))
        row = {"patient": patient, "id": name, "consent": msgspec.json.encode(consent)}
        await connection.execute(_consents.insert().values(row))
    for did, pseudonym in sorted(directory.linked):
        here = (_patients.c.did == did, _patients.c.pseudonym == pseudonym)
        await connection.execute(_patients.delete().where(*here))
        await connection.execute(_patients.insert().values(did=did, pseudonym=pseudonym))


def _row(seq: int, entry: TrailEntry) -> dict[str, Any]:
    place, facts = entry.place, entry.facts
    return {
        "seq": seq,
        "uid": entry.uid,
        "shard": place.shard,
        "height": place.height,
        "index": place.index,
        "time_us": _microseconds(entry.time),
        "activity": facts.activity.value,
        "action": facts.action,
        "outcome": facts.outcome,
        "severity": int(facts.severity),
        "type": entry.type,
        "source": entry.source,
        "id": entry.id,
        "actor": entry.actor,
        "member": entry.member,
        "party": facts.party,
        "patient": facts.patient,
        "object": facts.object,
        "words": entry.words,
        "entry": msgspec.json.encode(entry),
    }


def _microseconds(moment: datetime) -> int:
    return int(moment.timestamp()) * 1_000_000 + moment.microsecond


def _conditions(question: Question) -> list[ColumnElement[bool]]:
    columns = _trail.c
    exact = {
        columns.patient: question.patient,
        columns.action: question.action,
        columns.type: question.type,
        columns.object: question.object,
        columns.outcome: question.outcome,
    }
    conditions = [column == value for column, value in exact.items() if value is not None]
    if question.who is not None:
        conditions.append(or_(columns.actor == question.who, columns.member == question.who))
    if question.since is not None:
        conditions.append(columns.time_us >= _microseconds(question.since))
    if question.until is not None:
        conditions.append(columns.time_us < _microseconds(question.until))
    if question.before is not None:
        conditions.append(columns.seq < question.before)
    if question.after is not None:
        conditions.append(columns.seq > question.after)
    words = (question.q or "").lower().split()
    conditions += [columns.words.contains(word, autoescape=True) for word in words]
    return conditions


def _visible(visible: Visibility) -> list[ColumnElement[bool]]:
    if visible.everything:
        return []
    columns = _trail.c
    shown: list[ColumnElement[bool]] = [
        columns.actor.in_(visible.actors),
        columns.party.in_(visible.actors),
        columns.member.in_(visible.members),
        columns.patient.in_(visible.patients),
    ]
    if visible.stewards:
        registered = _trail.alias()
        shown.append(
            select(registered.c.seq)
            .where(
                registered.c.patient == columns.patient,
                registered.c.type == SUBJECT_REGISTERED,
                registered.c.party.in_(visible.stewards),
            )
            .exists()
        )
    return [or_(*shown)]
