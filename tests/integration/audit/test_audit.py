"""Blocks become a trail and two topics, on real Kafka and MinIO, through restarts and damage."""

import asyncio
import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta

from tests.asking import UNASKED
from tests.integration.audit.conftest import World, events_of
from tests.unit.audit.chain import Accepted, Refused
from tests.unit.audit.people import joining
from tests.unit.audit.samples import CONSENT, IDENTITY, NOON, STORAGE
from tests.unit.audit.test_indexing import CLINICIAN, PATIENT, READ, documents

from salus.devkit.waiting import until
from salus.events.contexts.consent import GlassBroken
from salus.events.contexts.storage import ReadRefused
from salus.ledger.block import body_key
from salus.messaging import Record

GLASS = GlassBroken(
    decision="dec-9",
    principal=CLINICIAN,
    object="obj-1",
    patient=PATIENT,
    reason="life-threatening",
    valid_until=datetime(2026, 11, 23, tzinfo=UTC),
    request=UNASKED,
)
REFUSED = ReadRefused(
    object="obj-1", patient=PATIENT, reader=CLINICIAN, reason="no-decision", request=UNASKED
)


async def test_a_block_becomes_trail_entries_and_two_topics(world: World) -> None:
    await world.start()
    await world.seal([*documents(2), Refused("bad-signature")])
    await world.seal([Accepted(READ, source=STORAGE, name="read-1", subject=PATIENT)], announce=False)

    ocsf = await world.published(world.settings.ocsf_topic, 4)
    fhir = await world.published(world.settings.fhir_topic, 4)

    page = (await world.get("/trail")).json()
    assert [entry["id"] for entry in page["entries"]] == ["read-1", None, "event-1", "event-0"]
    uids = [entry["uid"] for entry in reversed(page["entries"])]
    assert [event["metadata"]["uid"] for event in events_of(ocsf)] == uids
    assert [event["id"] for event in events_of(fhir)] == uids
    assert (ocsf[3].key, fhir[3].key) == (CLINICIAN.encode(), PATIENT.encode())
    assert fhir[0].header("content-type") == b"application/fhir+json"
    one = (await world.get(f"/trail/{STORAGE}/read-1")).json()
    assert one["receipt"].startswith("http://anchoring/receipts?topic=")


async def test_a_restart_in_the_middle_publishes_no_gap(world: World) -> None:
    await world.start()
    await world.seal(documents(300))
    await world.published(world.settings.ocsf_topic, 1)
    await world.stop()
    await world.seal(documents(300, start=300))
    await world.start()

    for topic in (world.settings.ocsf_topic, world.settings.fhir_topic):
        async with asyncio.timeout(60):
            records: list[Record] = []
            while len({record.header("salus-uid") for record in records}) < 600:
                records = await world.published(topic, 600)
        uids = list(dict.fromkeys(record.header("salus-uid") for record in records))
        names = [_event_id(record) for record in records]
        assert list(dict.fromkeys(names)) == [f"event-{index}" for index in range(600)]
        assert len(uids) == 600
    page = (await world.get("/trail", limit=1)).json()
    assert page["entries"][0]["id"] == "event-599"


def _event_id(record: Record) -> str:
    event = json.loads(record.value or b"")
    if "metadata" in event:
        return str(event["metadata"]["original_event_uid"])
    return str(event["entity"][1]["what"]["identifier"]["value"])


async def test_a_damaged_body_stops_the_trail_and_says_so_until_it_is_restored(world: World) -> None:
    await world.start()
    await world.seal(documents(1))
    await world.published(world.settings.ocsf_topic, 1)
    header = world.chain.seal(documents(1, start=1))
    key = body_key(0, 1, header.root)
    await world.bucket.put(key, b"not what the header says")
    await world.bucket.put("shard/0/000000000001/header", world.chain.objects["shard/0/000000000001/header"])

    async def unready() -> bool:
        return (await world.client.get("/readyz")).status_code == 503

    assert await until(unready, deadline_s=60)
    assert "body-unreadable" in (await world.client.get("/readyz")).json()["checks"]["ledger"]
    assert len((await world.get("/trail")).json()["entries"]) == 1

    await world.bucket.put(key, world.chain.objects[key])
    events = events_of(await world.published(world.settings.ocsf_topic, 3))

    assert [event["class_uid"] for event in events] == [6005, 2004, 6005]
    assert (await world.client.get("/readyz")).status_code == 200


async def test_emergency_access_and_probing_become_findings(world: World) -> None:
    await world.start()
    await world.seal([Accepted(GLASS, source=CONSENT, name="glass-1", subject=PATIENT)])
    refusals = [Accepted(REFUSED, source=STORAGE, name=f"refused-{n}", subject=PATIENT) for n in range(4)]
    await world.seal(refusals)
    past = NOON - timedelta(hours=1)
    await world.seal([Accepted(READ, source=STORAGE, name="late", subject=PATIENT, time=past)])

    thief = "did:web:north-hospital.example:thief"
    await world.seal([Accepted(joining(thief, by=thief), source=IDENTITY, name="unentitled")])

    records = await world.published(world.settings.ocsf_topic, 11, timeout_s=60)

    findings = [event for event in events_of(records) if event["class_uid"] == 2004]
    assert {finding["metadata"]["event_code"] for finding in findings} == {
        "break-glass",
        "denied-access-probing",
        "not-entitled",
        "stated-late",
    }
    assert len(findings) == 4


async def test_a_trail_that_was_changed_is_said_and_reconciled(world: World) -> None:
    # Case SEC10. With a row deleted and another changed, all was green, also after a restart.
    database = world.settings.database_url.removeprefix("sqlite+aiosqlite:///")
    await world.start()
    await world.seal(documents(3))
    await world.published(world.settings.ocsf_topic, 3)

    def change() -> None:
        with closing(sqlite3.connect(database)) as connection, connection:
            connection.execute("DELETE FROM audit_trail WHERE id = 'event-0'")
            connection.execute("UPDATE audit_trail SET actor = 'did:key:zOther' WHERE id = 'event-1'")

    # In a thread: audit may be within a transaction, which ends only if the loop goes on.
    await asyncio.to_thread(change)

    async def trail_line() -> str:
        return str((await world.client.get("/readyz")).json()["checks"]["trail"])

    async def differs() -> bool:
        return "block 0 row 0 is missing, and 1 more" in await trail_line()

    assert await until(differs, deadline_s=60)
    events = events_of(await world.published(world.settings.ocsf_topic, 5))
    findings = [event for event in events if event["class_uid"] == 2004]
    assert {finding["metadata"]["event_code"] for finding in findings} == {"trail-differs"}
    assert (await world.get("/trail")).json()["code"] == "trail-damaged"
    await world.stop()
    await world.start()
    assert await until(differs, deadline_s=60)

    refused = await world.post("/trail/reconcile", world.analyst)
    lines = await world.post("/trail/reconcile?repair=true", world.operator)

    assert refused.status_code == 403
    assert json.loads(lines.text.split("data: ")[-1]) == {"result": "repaired", "differences": 2}
    assert await trail_line() == "ok"
    entries = (await world.get("/trail")).json()["entries"]
    assert [entry["id"] for entry in entries] == ["event-2", "event-1", "event-0"]
