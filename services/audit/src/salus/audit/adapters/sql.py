"""The trail in SQL: SQLite in one process, PostgreSQL where there are more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, RowMapping, func, select, tuple_
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from salus.audit.adapters.conditions import SUBJECT_REGISTERED, conditions_of, visible_in
from salus.audit.adapters.identity_store import SqlIdentityStore
from salus.audit.adapters.refusals import refusals_of
from salus.audit.adapters.repetition import with_repetitions
from salus.audit.adapters.rights_store import SqlRightsStore, with_rights
from salus.audit.adapters.stored import SqlStoredTrail, last_position, within_reach
from salus.audit.adapters.tables import (
    CLAIMS,
    CONSENTS,
    PATIENTS,
    PUBLISHED,
    SERVED,
    SHARDS,
    TRAIL,
    VERSIONS,
    changed_columns,
    row_of,
    version_text,
)
from salus.audit.domain.directory import ConsentPlace, Directory, KnownConsent, Needs
from salus.audit.domain.effects import Effects, Name, Subject
from salus.audit.domain.entry import TrailEntry
from salus.audit.domain.identity_history import IdentityHistory
from salus.audit.domain.probing import Period, Refusal
from salus.audit.domain.search import Found, Question, Visibility
from salus.audit.ports import DamagedTrailError, Published, Tip
from salus.runtime.database import open_engine
from salus.runtime.migrating import migrate

# Databases limit the parameters of one statement.
PARAMETERS_MAX = 500
# The comparison reads whole tables.
STATEMENT_S_MAX = 600.0

_decoder = msgspec.json.Decoder(TrailEntry)


class SqlTrail:
    """A `Trail`. Writes of one process take turns; between processes the tip is compared and swapped."""

    def __init__(self, engine: AsyncEngine, folder: Path | None = None) -> None:
        self._engine = engine
        self._stored = SqlStoredTrail(engine, folder)
        self._identity = SqlIdentityStore(engine)
        self._rights = SqlRightsStore(engine)
        self._turn = asyncio.Lock()

    @property
    def stored(self) -> SqlStoredTrail:
        """The rows that it is kept in."""
        return self._stored

    @property
    def identity(self) -> SqlIdentityStore:
        """What was read of the identity topic."""
        return self._identity

    @property
    def rights(self) -> SqlRightsStore:
        """What rights are judged again by."""
        return self._rights

    async def ping(self) -> None:
        """Raise unless the database answers."""
        async with self._reading() as connection:
            await connection.execute(select(1))

    async def tip(self, shard: int) -> Tip:
        """Return how far a shard is indexed."""
        async with self._reading() as connection:
            row = (await connection.execute(select(SHARDS).where(SHARDS.c.shard == shard))).one_or_none()
        return Tip(0, None) if row is None else Tip(row.next_height, row.last_header)

    async def directory(self, needs: Needs, identity: IdentityHistory) -> Directory:
        """Return what is needed, with who is who by `identity`."""
        async with self._reading() as connection:
            consents = await _consents_of(connection, needs.consents)
            effects = await _effects_of(connection, needs)
        return Directory(identity, consents, effects)

    async def append(
        self, entries: Sequence[TrailEntry], directory: Directory, *, shard: int, tip: Tip, before: Tip
    ) -> bool:
        """Append a block's entries in one transaction, if the shard still is at `before`."""
        try:
            async with self._turn, self._writing() as connection:
                if not await _move_tip(connection, shard, tip=tip, before=before):
                    return False
                end = await last_position(connection)
                if entries:
                    rows = [row_of(end + 1 + index, entry) for index, entry in enumerate(entries)]
                    await connection.execute(TRAIL.insert(), rows)
                await _store_directory(connection, directory)
        except IntegrityError:
            # Two processes took the same tip or the same position: the other one has it.
            return False
        return True

    async def search(self, question: Question, visible: Visibility, *, limit: int) -> list[Found]:
        """Return matching entries, the newest first; with `after`, the oldest first."""
        query = select(TRAIL).where(*conditions_of(question), *visible_in(visible))
        order = TRAIL.c.seq.asc() if question.after is not None else TRAIL.c.seq.desc()
        async with self._reading() as connection:
            rows = (await connection.execute(query.order_by(order).limit(limit))).mappings().all()
            return await _shown(connection, rows)

    async def entry(self, source: str, event: str) -> Found | None:
        """Return the accepted event's entry."""
        return await self._one(TRAIL.c.source == source, TRAIL.c.id == event)

    async def leaf(self, uid: str) -> Found | None:
        """Return the leaf's entry."""
        return await self._one(TRAIL.c.uid == uid)

    async def at(self, shard: int, height: int, index: int) -> Found | None:
        """Return the entry of a row of a block."""
        return await self._one(TRAIL.c.shard == shard, TRAIL.c.height == height, TRAIL.c.index == index)

    async def place_of(self, uids: Collection[str]) -> tuple[int, int] | None:
        """Return shard and height of an entry with one of these leaf hashes, if there is any."""
        ordered = sorted(uids)
        async with self._reading() as connection:
            for start in range(0, len(ordered), PARAMETERS_MAX):
                some = TRAIL.c.uid.in_(ordered[start : start + PARAMETERS_MAX])
                query = select(TRAIL.c.shard, TRAIL.c.height).where(some).limit(1)
                if (row := (await connection.execute(query)).one_or_none()) is not None:
                    return row.shard, row.height
        return None

    async def damaged(self) -> tuple[int, Found | None]:
        """Return how many entries have damage, and the first of them."""
        is_damaged = TRAIL.c.damage.is_not(None)
        query = select(TRAIL).where(is_damaged).order_by(TRAIL.c.seq).limit(1)
        async with self._reading() as connection:
            count = await _scalar(connection, select(func.count(TRAIL.c.seq)).where(is_damaged))
            rows = (await connection.execute(query)).mappings().all()
        return count, _found(rows[0]) if rows else None

    async def pseudonyms(self, did: str) -> frozenset[str]:
        """Return whose patient's pseudonyms a DID has."""
        query = select(PATIENTS.c.pseudonym).where(PATIENTS.c.did == did)
        async with self._reading() as connection:
            return frozenset((await connection.execute(query)).scalars())

    async def steward(self, patient: str) -> str | None:
        """Return the member that registered a pseudonym, by the registration that took effect."""
        registered = (
            TRAIL.c.patient == patient,
            TRAIL.c.type == SUBJECT_REGISTERED,
            TRAIL.c.outcome == "success",
        )
        query = select(TRAIL.c.party).where(*registered).order_by(TRAIL.c.seq).limit(1)
        async with self._reading() as connection:
            return (await connection.execute(query)).scalar_one_or_none()

    async def end(self) -> int:
        """Return the newest position."""
        async with self._reading() as connection:
            return await _scalar(connection, select(func.coalesce(func.max(TRAIL.c.seq), 0)))

    async def block(self, shard: int, height: int, *, limit: int) -> list[Found]:
        """Return the entries that claim to be of a block, by index."""
        query = select(TRAIL).where(TRAIL.c.shard == shard, TRAIL.c.height == height)
        async with self._reading() as connection:
            rows = (await connection.execute(query.order_by(TRAIL.c.index).limit(limit))).mappings().all()
            return await _shown(connection, rows)

    async def refusals(self, periods: Collection[Period]) -> list[Refusal]:
        """Return what was refused in these periods and those before them."""
        async with self._reading() as connection:
            return await refusals_of(connection, periods)

    async def published(self, shard: int) -> Published | None:
        """Return up to where a shard is said to be published."""
        async with self._reading() as connection:
            row = (await connection.execute(select(PUBLISHED).where(_of(shard)))).one_or_none()
        return None if row is None else Published(row.next_height, bytes(row.proof))

    async def set_published(self, shard: int, published: Published, *, before: Published | None) -> bool:
        """Remember up to where a shard is published, if what is said of it still is `before`."""
        values = {"shard": shard, "next_height": published.height, "proof": published.proof}
        try:
            async with self._turn, self._writing() as connection:
                if before is not None:
                    is_before = (PUBLISHED.c.next_height == before.height) & (
                        PUBLISHED.c.proof == before.proof
                    )
                    deleted = await connection.execute(PUBLISHED.delete().where(_of(shard), is_before))
                    if deleted.rowcount == 0:
                        return False
                await connection.execute(PUBLISHED.insert().values(values))
        except IntegrityError:
            return False
        return True

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[AsyncConnection]:
        with within_reach():
            async with self._engine.connect() as connection:
                yield connection

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[AsyncConnection]:
        with within_reach():
            async with self._engine.begin() as connection:
                yield connection

    async def _one(self, *conditions: ColumnElement[bool]) -> Found | None:
        # Two shards can have sealed one event: which of them is shown must not go by what was indexed first.
        by_place = (TRAIL.c.appended_us, TRAIL.c.shard, TRAIL.c.height, TRAIL.c.index)
        query = select(TRAIL).where(*conditions).order_by(*by_place).limit(1)
        async with self._reading() as connection:
            rows = (await connection.execute(query)).mappings().all()
            found = await _shown(connection, rows)
        return found[0] if found else None


@asynccontextmanager
async def open_trail(
    url: str, *, statement_s_max: float = STATEMENT_S_MAX, folder: Path | None = None
) -> AsyncIterator[SqlTrail]:
    """Connect, bring the tables up to date and yield the trail, with connections of its own.

    What a comparison has on disk is in `folder`, or where temporary files are.
    """
    # What is lost with the machine's power is indexed, and published with the same ids, once more.
    engine = open_engine(url, statement_s_max=statement_s_max, is_rebuilt=True)
    try:
        await migrate(engine, package="salus.audit", version_table="audit_alembic_version")
        yield SqlTrail(engine, folder)
    finally:
        await engine.dispose()


def _of(shard: int) -> ColumnElement[bool]:
    return PUBLISHED.c.shard == shard


async def _shown(connection: AsyncConnection, rows: Sequence[RowMapping]) -> list[Found]:
    """Return stored entries as they are shown, by what else is known of them."""
    found = await with_repetitions(connection, [_found(row) for row in rows], _found)
    return await with_rights(connection, found)


def _found(row: RowMapping) -> Found:
    """Return a stored entry, if every column still follows from it; raises DamagedTrailError."""
    try:
        entry = _decoder.decode(row["entry"])
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise DamagedTrailError(_place_of(row), ["entry"]) from None
    if changed := changed_columns(dict(row), row_of(row["seq"], entry)):
        raise DamagedTrailError(_place_of(row), changed)
    return Found(row["seq"], entry)


def _place_of(row: RowMapping) -> str:
    return f"entry {row['seq']}"


async def _scalar(connection: AsyncConnection, query: Any) -> int:
    return int((await connection.execute(query)).scalar_one())


async def _consents_of(connection: AsyncConnection, places: Collection[ConsentPlace]) -> list[KnownConsent]:
    found = []
    for some in _in_parts(places):
        at = tuple_(CONSENTS.c.patient, CONSENTS.c.id).in_(some)
        rows = (await connection.execute(select(CONSENTS.c.consent).where(at))).scalars()
        for row in rows:
            try:
                found.append(msgspec.json.decode(row, type=KnownConsent))
            except (msgspec.DecodeError, UnicodeDecodeError):
                raise DamagedTrailError("a consent", ["consent"]) from None
    return found


async def _effects_of(connection: AsyncConnection, needs: Needs) -> Effects:
    versions: dict[Subject, int] = {}
    for some in _in_parts(needs.subjects):
        at = tuple_(VERSIONS.c.topic, VERSIONS.c.subject).in_(some)
        rows = (await connection.execute(select(VERSIONS).where(at))).all()
        versions |= {(row.topic, row.subject): _version_of(row.version) for row in rows}
    claims: set[Name] = set()
    for some in _in_parts(needs.names):
        at = tuple_(CLAIMS.c.topic, CLAIMS.c.name).in_(some)
        rows = (await connection.execute(select(CLAIMS).where(at))).all()
        claims |= {(row.topic, row.name) for row in rows}
    return Effects(versions, claims)


def _version_of(text: bytes) -> int:
    try:
        return int(text)
    except ValueError:
        raise DamagedTrailError("a version of a subject", ["version"]) from None


def _in_parts(pairs: Collection[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    """Yield the pairs in parts that fit into one statement."""
    ordered = sorted(pairs)
    for start in range(0, len(ordered), PARAMETERS_MAX // 2):
        yield ordered[start : start + PARAMETERS_MAX // 2]


async def _move_tip(connection: AsyncConnection, shard: int, *, tip: Tip, before: Tip) -> bool:
    values = {"next_height": tip.height, "last_header": tip.note}
    if before.note is None:
        await connection.execute(SHARDS.insert().values(shard=shard, **values))
        return True
    here = (SHARDS.c.shard == shard, SHARDS.c.next_height == before.height)
    moved = await connection.execute(SHARDS.update().where(*here).values(**values))
    return moved.rowcount == 1


async def _store_directory(connection: AsyncConnection, directory: Directory) -> None:
    for (patient, name), consent in directory.changed_consents.items():
        at = (CONSENTS.c.patient == patient, CONSENTS.c.id == name)
        await connection.execute(CONSENTS.delete().where(*at))
        row = {"patient": patient, "id": name, "consent": msgspec.json.encode(consent)}
        await connection.execute(CONSENTS.insert().values(row))
    for did, pseudonym in sorted(directory.unlinked):
        here = (PATIENTS.c.did == did, PATIENTS.c.pseudonym == pseudonym)
        await connection.execute(PATIENTS.delete().where(*here))
    for did, pseudonym in sorted(directory.linked):
        here = (PATIENTS.c.did == did, PATIENTS.c.pseudonym == pseudonym)
        await connection.execute(PATIENTS.delete().where(*here))
        await connection.execute(PATIENTS.insert().values(did=did, pseudonym=pseudonym))
    if directory.runs:
        runs = [{"place": place, "first": at, "run": run} for (place, at), run in directory.runs.items()]
        await connection.execute(SERVED.insert(), runs)
    await _store_effects(connection, directory.effects)


async def _store_effects(connection: AsyncConnection, effects: Effects) -> None:
    if effects.changed:
        for some in _in_parts(effects.changed):
            await connection.execute(
                VERSIONS.delete().where(tuple_(VERSIONS.c.topic, VERSIONS.c.subject).in_(some))
            )
        await connection.execute(
            VERSIONS.insert(),
            [
                {"topic": topic, "subject": subject, "version": version_text(version)}
                for (topic, subject), version in effects.changed.items()
            ],
        )
    if effects.claimed:
        rows = [{"topic": topic, "name": name} for topic, name in effects.claimed]
        await connection.execute(CLAIMS.insert(), rows)
