"""Case SEC10: what is changed in the trail's database is found, said, and put right from the ledger."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.event import listen
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import create_async_engine
from tests.asking import UNASKED
from tests.unit.audit.chain import Accepted, Chain, Chains, Refused, identity_topic
from tests.unit.audit.people import joining
from tests.unit.audit.samples import AROUND, CONSENT, IDENTITY, MEMBER, NOON, STORAGE
from tests.unit.audit.test_indexing import (
    CLINICIAN,
    EVERYTHING,
    GRANTED,
    PATIENT,
    READ,
    FakeOutputs,
    documents,
    index_all,
    indexer_of,
    indexer_of_all,
    publisher_of,
)
from tests.unit.audit.test_mappings import OCSF

from salus.audit import reconcile_api
from salus.audit.adapters.sql import SqlTrail, open_trail
from salus.audit.comparison import Comparison, Pace, TrailDiffersError
from salus.audit.domain.comparison import Difference
from salus.audit.domain.search import Question
from salus.audit.handlers import Alarm, Bell, Follower
from salus.audit.ports import DamagedTrailError, Tip
from salus.audit.reconcile_api import reconciled
from salus.audit.reconciliation import Reconciler, Step
from salus.events.contexts.consent import ConsentRevoked, PatientLinked

PERSON = joining(CLINICIAN)
LINKED = PatientLinked(patient=PATIENT, did=CLINICIAN, request=UNASKED)
PACE = Pace(rows_per_s_max=1_000_000, interval_s_min=0)


class World:
    """A chain, the trail of it in a database that an attacker can write, and what compares the two."""

    def __init__(self, trail: SqlTrail, url: str) -> None:
        self.trail = trail
        self.url = url
        self.chain = Chain()
        self.other = Chain(topic="salus.storage.events", origin="salus.local/dev/shard/1", shard=1)
        self.outputs = FakeOutputs()
        self.publisher = publisher_of(trail, self.outputs, self.chain, self.other)
        self.comparison = self.new_comparison()

    def new_comparison(self) -> Comparison:
        """Return a comparison as a start of the service makes it."""
        ledger = Chains(self.chain, self.other)
        correct = self.publisher.correct
        reconciler = Reconciler(ledger, self.trail.stored, ledger.keys, identity_topic(), correct)
        alarm = Alarm(self.outputs, AROUND, lambda: NOON)
        return Comparison(reconciler, self.trail, alarm, PACE, lambda: NOON)

    async def change(self, *statements: str) -> None:
        """Change the database behind the service's back."""
        engine = create_async_engine(self.url)
        try:
            async with engine.begin() as connection:
                for statement in statements:
                    await connection.execute(text(statement))
        finally:
            await engine.dispose()

    async def compare(self, *, repair: bool = False) -> list[str]:
        found: list[Difference] = []

        async def take(step: Step) -> None:
            found.extend(step.differences)

        assert await self.comparison.compare(take, repair=repair) == len(found)
        return [re.sub("[0-9a-f]{16}", "…", str(each)) for each in found]


async def fill(world: World) -> None:
    """Index blocks of two shards, in turns."""
    world.chain.seal([*documents(2), Refused("bad-signature")])
    await index_all(world.chain, world.trail)
    world.other.seal([Accepted(READ, source=STORAGE, name="read-0", subject=PATIENT)])
    await index_all(world.other, world.trail, world.chain)
    world.chain.seal([Accepted(PERSON, source=IDENTITY, name="party-1")])
    world.chain.seal([Accepted(LINKED, source=CONSENT, name="linked-1", subject=PATIENT)])
    world.chain.seal([])
    await index_all(world.chain, world.trail)
    world.other.seal([Accepted(READ, source=STORAGE, name="read-1", subject=PATIENT)])
    world.other.seal([Accepted(GRANTED, source=CONSENT, name="granted", subject=PATIENT)])
    await index_all(world.other, world.trail, world.chain)


@pytest.fixture
def database(tmp_path: Path) -> str:
    return f"sqlite+aiosqlite:///{tmp_path}/reconciled.db"


@pytest.fixture
async def world(database: str) -> AsyncIterator[World]:
    async with open_trail(database) as trail:
        made = World(trail, database)
        await fill(made)
        yield made


async def test_an_untouched_trail_equals_the_ledger(world: World) -> None:
    assert await world.compare() == []

    await world.comparison.check()
    assert world.comparison.outcome.ended == NOON


def inserted(height: str, index: str) -> str:
    """Return how somebody copies an entry to another place."""
    columns = (
        "time_us, activity, action, outcome, severity, type, source, id, actor, member, party, patient, "
        "object, words, entry, appended_us"
    )
    names = f'seq, uid, shard, height, "index", {columns}'
    values = f"seq + 1000, 'f' || substr(uid, 2), shard, {height}, {index}, {columns}"
    return f"INSERT INTO audit_trail ({names}) SELECT {values} FROM audit_trail WHERE id = 'event-0'"


CHANGES: dict[str, tuple[str, list[str]]] = {
    "row deleted": (
        "DELETE FROM audit_trail WHERE id = 'event-1'",
        ["entry shard 0 block 0 row 1 is missing"],
    ),
    "block deleted": (
        "DELETE FROM audit_trail WHERE shard = 0 AND height = 1",
        ["entry shard 0 block 1 row 0 is missing"],
    ),
    "last block deleted": (
        "DELETE FROM audit_trail WHERE shard = 1 AND height = 2",
        ["entry shard 1 block 2 row 0 is missing"],
    ),
    "column changed": (
        "UPDATE audit_trail SET patient = 'urn:uuid:none' WHERE id = 'event-0'",
        ["entry shard 0 block 0 row 0 is changed (patient)"],
    ),
    "words changed": (
        "UPDATE audit_trail SET words = '' WHERE id = 'event-0'",
        ["entry shard 0 block 0 row 0 is changed (words)"],
    ),
    "entry swapped": (
        "UPDATE audit_trail SET entry = (SELECT entry FROM audit_trail WHERE seq = 1) WHERE seq = 2",
        ["entry shard 0 block 0 row 1 is changed (entry)"],
    ),
    "row inserted": (
        inserted("height", "99"),
        ["entry shard 0 block 0 row 99 is extra"],
    ),
    "block inserted": (
        inserted("77", "0"),
        ["entry shard 0 block 77 row 0 is extra"],
    ),
    "row moved": (
        "UPDATE audit_trail SET seq = 500 WHERE id = 'event-1'",
        ["entry shard 0 block 0 row 1 is changed (seq)"],
    ),
    "tip lowered": (
        "UPDATE audit_shards SET next_height = 2 WHERE shard = 1",
        [
            "entry shard 1 block 2 row 0 is extra",
            "audit_shards shard 1 is changed",
            "audit_claims … is extra",
            "audit_consents … is extra",
            "audit_served … is extra",
            "audit_versions … is extra",
        ],
    ),
    "identity topic moved": (
        "UPDATE audit_identity_place SET shard = 1",
        ["audit_identity_place identity is changed", "audit_identity … is extra"],
    ),
    "tip raised": (
        "UPDATE audit_shards SET next_height = 9 WHERE shard = 1",
        ["audit_shards shard 1 is changed"],
    ),
}


@pytest.mark.parametrize("name", CHANGES)
async def test_every_change_of_entries_is_found_and_repaired(world: World, name: str) -> None:
    before = await world.trail.search(Question(after=0), EVERYTHING, limit=100)
    statement, expected = CHANGES[name]
    await world.change(statement)

    assert await world.compare() == expected
    with pytest.raises(TrailDiffersError, match="salus audit reconcile"):
        await world.comparison.check()

    assert await world.compare(repair=True) == expected
    await index_all(world.chain, world.trail)
    await index_all(world.other, world.trail, world.chain)
    assert await world.compare() == []
    await world.comparison.check()
    after = await world.trail.search(Question(after=0), EVERYTHING, limit=100)
    assert {found.entry.uid: found.entry for found in after} == {f.entry.uid: f.entry for f in before}


@pytest.mark.parametrize(
    ("statement", "table", "kind"),
    [
        (f"INSERT INTO audit_patients VALUES ('did:key:zEvil', '{PATIENT}')", "audit_patients", "extra"),
        ("DELETE FROM audit_patients", "audit_patients", "missing"),
        ("DELETE FROM audit_consents", "audit_consents", "missing"),
        ("UPDATE audit_consents SET consent = x'7b7d'", "audit_consents", "changed"),
        ("UPDATE audit_identity SET value = x'7b7d'", "audit_identity", "changed"),
        ("INSERT INTO audit_identity VALUES (7, x'7b7d')", "audit_identity", "extra"),
        ("DELETE FROM audit_identity", "audit_identity", "missing"),
    ],
)
async def test_every_change_of_who_is_who_is_found_and_repaired(
    world: World, statement: str, table: str, kind: str
) -> None:
    await world.change(_for(world, statement))

    (found,) = await world.compare()
    assert found.startswith(f"{table} ")
    assert found.endswith(f" is {kind}")
    assert "did:" not in found

    await world.compare(repair=True)
    assert await world.compare() == []


def _for(world: World, statement: str) -> str:
    """Write bytes as the database does."""
    return statement if world.url.startswith("sqlite") else statement.replace("x'7b7d'", "'\\x7b7d'")


def _bytes(world: World, value: bytes) -> str:
    """Write any bytes as the database does."""
    return f"x'{value.hex()}'" if world.url.startswith("sqlite") else f"'\\x{value.hex()}'"


STOPS: dict[str, tuple[list[str], str]] = {
    "yesterday's tip put back": (
        ["UPDATE audit_shards SET next_height = 2, last_header = {note} WHERE shard = 1"],
        "shard 1 block 2 cannot be appended",
    ),
    "a row in the next block's place": (
        [inserted("77", "0"), "UPDATE audit_trail SET shard = 1, height = 3 WHERE height = 77"],
        "shard 1 block 3 cannot be appended",
    ),
    "a consent that is none": (["UPDATE audit_consents SET consent = {none}"], "a consent"),
    "a version that is none": (["UPDATE audit_versions SET version = {none}"], "a version"),
}


@pytest.mark.parametrize("name", STOPS)
async def test_a_shard_that_a_change_stops_says_so_until_it_is_repaired(world: World, name: str) -> None:
    # Case of the fourth attack: a tip that was put back stopped its shard for ever, and nobody heard of it.
    statements, told = STOPS[name]
    written = {"note": _bytes(world, await world.other.header(1, 1) or b""), "none": _bytes(world, b"{")}
    await world.change(*(statement.format(**written) for statement in statements))
    ended = ConsentRevoked(consent="c-1", patient=PATIENT, epoch=2, request=UNASKED)
    world.other.seal([Accepted(ended, source=CONSENT, name="ended", subject=PATIENT, version=1)])
    world.chain.seal([])
    alarm = Alarm(world.outputs, AROUND, lambda: NOON)
    indexer = indexer_of_all([world.chain, world.other], world.trail)
    follower = Follower(indexer, alarm, announced=Bell(), grown=Bell(), poll_s=0.01)

    # The other shard goes on.
    assert [await follower.round() for _ in range(2)] == [True, False]
    assert await world.trail.tip(0) == Tip(world.chain.height, await world.chain.header(0, 4))
    with pytest.raises(DamagedTrailError, match=told):
        await follower.check()

    await world.compare(repair=True)
    while await follower.round():
        pass
    await follower.check()
    assert (await world.trail.tip(1)).height == world.other.height
    assert await world.compare() == []


async def test_what_differs_is_told_once_and_known_after_a_restart(world: World) -> None:
    await world.change(CHANGES["row deleted"][0])
    await world.compare()
    await world.compare()

    (message,) = world.outputs.messages
    finding = json.loads(message.value)
    assert (finding["severity"], finding["metadata"]["event_code"]) == ("Critical", "trail-differs")
    assert "shard 0 block 0 row 1" in finding["message"]

    again = world.new_comparison()
    await again._load()
    with pytest.raises(TrailDiffersError, match="shard 0 block 0 row 1 is missing"):
        await again.check()


async def test_a_changed_row_is_never_answered(world: World) -> None:
    await world.change(CHANGES["column changed"][0])

    with pytest.raises(DamagedTrailError, match="patient"):
        await world.trail.search(Question(), EVERYTHING, limit=100)
    with pytest.raises(DamagedTrailError):
        await world.trail.entry(MEMBER, "event-0")
    assert (
        len(await world.trail.search(Question(type="salus.storage.object-read.v1"), EVERYTHING, limit=9)) == 2
    )


async def test_blocks_that_come_meanwhile_are_no_difference(world: World) -> None:
    sealed = 0

    async def goes_on(_: Step) -> None:
        nonlocal sealed
        if sealed < 3:
            world.chain.seal(documents(2, start=100 + 2 * sealed))
            await indexer_of(world.chain, world.trail).index_next(0)
            sealed += 1

    assert await world.comparison.compare(goes_on) == 0
    assert await world.compare() == []


async def test_reconciling_says_how_far_it_is_what_differs_and_how_it_ended(world: World) -> None:
    await world.change(CHANGES["row deleted"][0])

    for repair, result in ((False, "differs"), (True, "repaired"), (False, "equal")):
        events = [event async for event in reconciled(world.comparison, repair=repair)]
        lines = [json.loads(event.removeprefix(b"data: ")) for event in events]

        assert lines[-1] == {"result": result, "differences": 0 if result == "equal" else 1}
        assert sum("difference" in line for line in lines) == lines[-1]["differences"]
        assert [line["progress"]["blocks"] for line in lines if "progress" in line][-1] == 7


def test_a_difference_tells_its_place_and_no_value() -> None:
    difference = Difference("changed", "entry", "shard 0 block 1 row 2", 0, 1, ("actor",))

    assert str(difference) == "entry shard 0 block 1 row 2 is changed (actor)"


async def test_one_leaf_cannot_stand_twice(world: World) -> None:
    with pytest.raises(IntegrityError):
        await world.change(
            "UPDATE audit_trail SET uid = (SELECT uid FROM audit_trail WHERE seq = 1) WHERE seq = 2"
        )


async def test_a_snapshot_is_of_one_moment(trail: SqlTrail, tmp_path: Path) -> None:
    """A block that is indexed while SQLite's tables are read must not look like rows that are extra."""
    changes: list[bool] = []

    def writes(*call: object) -> None:
        if "audit_claims" in str(call[2]):
            with closing(sqlite3.connect(tmp_path / "audit.db", timeout=0)) as other, suppress(sqlite3.Error):
                other.execute("INSERT INTO audit_claims VALUES ('t', 'n')")
                other.commit()
                changes.append(True)

    listen(trail._engine.sync_engine, "before_cursor_execute", writes)
    async with trail.stored.snapshot() as seen:
        differing = [rows async for rows in seen.tables.differing()]

    assert (seen.rows, differing, changes) == (0, [], [True])


async def test_who_reads_nothing_of_a_comparison_holds_up_no_other(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Case of the third attack: a client that read one event held everybody's comparison, and never ended.
    monkeypatch.setattr(reconcile_api, "EVENTS_MAX", 2)
    monkeypatch.setattr(reconcile_api, "PROGRESS_MAX", 2)
    await world.change("DELETE FROM audit_trail WHERE height = 0")
    events = reconciled(world.comparison, repair=False)
    first = await anext(events)
    async with asyncio.timeout(60):
        found = await world.compare()
        rest = [event async for event in events]

    told = sum(b'"difference"' in event for event in [first, *rest])
    assert json.loads(rest[-1].removeprefix(b"data: ")) == {
        "result": "differs",
        "differences": len(found),
        "untold": len(found) - told,
    }
    assert told < len(found)


async def test_a_client_that_goes_away_ends_its_comparison(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconcile_api, "EVENTS_MAX", 1)
    events = reconciled(world.comparison, repair=False)
    await anext(events)
    async with asyncio.timeout(60):
        await events.aclose()

        assert await world.compare() == []


async def test_a_repair_is_a_finding_that_names_who_asked_for_it(world: World) -> None:
    await world.change("DELETE FROM audit_trail WHERE id = 'read-0'")
    for _ in range(2):
        async for _event in reconciled(world.comparison, repair=True, by="did:key:z6Mkoperator"):
            pass

    findings = [json.loads(m.value) for m in world.outputs.messages if m.topic == "salus.audit.ocsf"]
    [repaired] = [each for each in findings if each["metadata"]["event_code"] == "trail-repaired"]
    assert repaired["evidences"][0]["actor"]["user"]["uid"] == "did:key:z6Mkoperator"
    OCSF[2004].validate(repaired)
