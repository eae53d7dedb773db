"""One forged block in the middle of honest ones, with real Kafka and MinIO: the trail goes on, also anew."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY
from tests.founding import add_founder, founding
from tests.integration.audit.conftest import World, events_of
from tests.integration.audit.test_rights import AT, HOSPITAL, PATIENT, REGISTERED, asked, sealed
from tests.unit.audit.test_mappings import OCSF

from salus.archive.building import ChainBuilder, SampleRecord
from salus.audit import __main__ as audit
from salus.audit.__main__ import identity_topic_of
from salus.events.contexts.clinical import DocumentRegistered
from salus.events.envelope import encode_event
from salus.events.signature import sign_values
from salus.ledger.records import timestamp_at


def document(offset: int) -> SampleRecord:
    """Return a document that the hospital signed."""
    data = DocumentRegistered(patient=PATIENT, object=f"obj-{offset}", media_type="text/plain")
    name = f"document-{offset}"
    value = encode_event(data, id=name, source=HOSPITAL.did, subject=PATIENT, time=AT)
    signature = sign_values([value], HOSPITAL)[0]
    return SampleRecord(
        "salus.clinical.events", 0, offset, value, signature, timestamp_ms=timestamp_at(AT) + offset
    )


async def compared(world: World) -> dict[str, Any]:
    """Return what /readyz says once a whole comparison of all that is indexed has ended."""
    before = REGISTRY.get_sample_value("salus_audit_last_full_comparison_timestamp_seconds")
    async with asyncio.timeout(60):
        while REGISTRY.get_sample_value("salus_audit_last_full_comparison_timestamp_seconds") == before:
            await world.get("/trail", limit=1)
    checks: dict[str, Any] = (await world.client.get("/readyz")).json()["checks"]
    return checks


async def test_the_trail_goes_on_after_a_forged_block(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Case redB6 5, 6 and 3: such a block stopped the trail for ever, or accused whom it named."""
    monkeypatch.setattr(audit, "identity_topic_of", identity_topic_of)
    add_founder(world.folder.file, HOSPITAL, "member")
    chain = ChainBuilder(world.bucket, world.chain.signer, HOSPITAL, begin=AT.replace(microsecond=0))
    before = AT - timedelta(hours=1)
    facts = founding(world.folder.file)
    parties = [sealed(world, fact, fact.did, at=before, offset=number) for number, fact in enumerate(facts)]
    honest = document(0)
    forged = replace(document(1), signature=honest.signature)
    accusing = replace(
        document(2), value=b"garbage", signature=honest.signature, status="rejected:wrong-source"
    )
    await chain.seal(parties)
    chain.identity_position = len(parties)
    await chain.seal([honest, asked(world, REGISTERED, HOSPITAL)])
    await chain.seal([forged, accusing])
    await chain.seal([document(3)])
    chain.identity_position = 10**12
    await chain.seal([document(4)])
    await world.start()

    events = events_of(await world.published(world.settings.ocsf_topic, len(parties) + 6 + 3, timeout_s=60))

    findings = [event for event in events if event["class_uid"] == 2004]
    assert [(f["metadata"]["event_code"], f["severity_id"]) for f in findings] == [
        ("verdict-wrong", 5),
        ("verdict-wrong", 5),
        ("identity-ahead", 5),
    ]
    for event in events:
        OCSF[event["class_uid"]].validate(event)
    page = (await world.get("/trail", limit=100)).json()["entries"]
    shown = {entry["ledger"]["offset"]: entry for entry in page if "clinical" in entry["ledger"]["topic"]}
    assert [shown[offset]["outcome"] for offset in range(5)] == [
        "success",
        "without-effect",
        "without-effect",
        "success",
        "success",
    ]
    assert [shown[offset]["actor"] for offset in (0, 1, 2)] == [HOSPITAL.did, None, None]
    checks = await compared(world)
    assert checks["ledger"] == checks["trail"] == "ok"
    assert "3 damaged entries, the first in shard 0 block 2: verdict-wrong" in str(checks["damage"])
    assert REGISTRY.get_sample_value("salus_audit_damaged_entries") == 3

    await world.stop()
    await world.start()
    assert (await world.get("/trail", limit=100)).json()["entries"] == page
    assert (await compared(world))["trail"] == "ok"

    await world.stop()
    world.settings = world.settings.model_copy(
        update={"database_url": f"sqlite+aiosqlite:///{tmp_path}/anew.db"}
    )
    await world.start()
    anew: list[Any] = []
    async with asyncio.timeout(60):
        while len(anew) < len(page):
            anew = (await world.get("/trail", limit=100)).json()["entries"]
    assert anew == page
