"""What the thief of consent's key serves himself is said by the trail, the topics, the metric and /readyz."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest
from prometheus_client import REGISTRY
from tests.asking import UNASKED, truly_asked
from tests.founding import add_founder, founding
from tests.integration.audit.conftest import World, events_of
from tests.pseudonyms import patient_of
from tests.unit.audit.test_mappings import OCSF

from salus.archive.building import ChainBuilder, SampleRecord
from salus.audit import __main__ as audit
from salus.audit import rights_review
from salus.audit.__main__ import identity_topic_of
from salus.events.contexts.consent import ConsentGranted
from salus.events.contexts.storage import SubjectRegistered
from salus.events.did import LocalSigner
from salus.events.envelope import encode_event
from salus.events.event_types import EventData, type_of
from salus.events.fields import Suite
from salus.events.requests import RequestedData
from salus.events.signature import sign_values
from salus.ledger.records import timestamp_at

AT = datetime.now(UTC)
HOSPITAL, THIEF = (LocalSigner.from_seed(bytes([n]) * 32) for n in (1, 2))
PATIENT = patient_of(HOSPITAL.did, 1)
REGISTERED = SubjectRegistered(
    patient=PATIENT,
    steward=HOSPITAL.did,
    suite=get_args(Suite)[0],
    key=f"{PATIENT}#1",
    public_key="AAAA",
    request=UNASKED,
)
GRANTED = ConsentGranted(
    consent=f"{PATIENT.removeprefix('urn:uuid:')}.00000001",
    patient=PATIENT,
    grantee=THIEF.did,
    actions=("read",),
    purposes=("TREAT",),
    valid_from=AT,
    valid_until=AT + timedelta(days=1),
    epoch=0,
    request=UNASKED,
)


def sealed(  # what a record says, and where and when it stands
    world: World, data: EventData, subject: str, *, at: datetime, offset: int = 0
) -> SampleRecord:
    """Return a record that the service's own key signed."""
    entry = type_of(data)
    signer = world.folder.signer(entry.owner)
    value = encode_event(
        data,
        id=f"{entry.owner}-{offset}",
        source=signer.verification_method.partition("#")[0],
        subject=subject,
        time=at,
        expected_version=0,
    )
    signature = sign_values([value], signer)[0]
    return SampleRecord(entry.topic, 0, offset, value, signature, timestamp_ms=timestamp_at(at))


def asked(world: World, data: RequestedData, by: LocalSigner) -> SampleRecord:
    """Return what a service states of what somebody asked for."""
    return sealed(world, truly_asked(data, by, at=AT, network=world.origin), PATIENT, at=AT)


async def test_an_event_of_a_stolen_key_is_not_shown_as_done(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Case threat model, second attack. Here all is signed, and audit judges it as it does in a network.
    monkeypatch.setattr(audit, "identity_topic_of", identity_topic_of)
    monkeypatch.setattr(rights_review, "SETTLED_S", 0.5)
    add_founder(world.folder.file, HOSPITAL, "member")
    add_founder(world.folder.file, THIEF, "person", ["patient"])
    chain = ChainBuilder(world.bucket, world.chain.signer, THIEF, begin=AT.replace(microsecond=0))
    before = AT - timedelta(hours=1)
    parties = [
        sealed(world, fact, fact.did, at=before, offset=number)
        for number, fact in enumerate(founding(world.folder.file))
    ]
    await chain.seal(parties)
    chain.identity_position = len(parties)
    await chain.seal([asked(world, REGISTERED, HOSPITAL), asked(world, GRANTED, THIEF)])
    await world.start()

    records = await world.published(world.settings.ocsf_topic, len(parties) + 4, timeout_s=60)

    events = events_of(records)
    [corrected] = [event for event in events if "corrects" in event["unmapped"]]
    OCSF[corrected["class_uid"]].validate(corrected)
    assert (corrected["unmapped"]["outcome"], corrected["severity_id"]) == ("unentitled", 4)
    findings = [event for event in events if event["class_uid"] == 2004]
    assert [finding["metadata"]["event_code"] for finding in findings] == ["unentitled"]
    page = (await world.get("/trail")).json()
    shown = {entry["id"]: entry["outcome"] for entry in page["entries"]}
    assert (shown["consent-0"], shown["storage-0"]) == ("unentitled", "success")
    fhir = events_of(await world.published(world.settings.fhir_topic, len(parties) + 3))
    assert (fhir[-1]["id"], fhir[-1]["outcome"]) == (corrected["unmapped"]["corrects"], "4")
    assert REGISTRY.get_sample_value("salus_audit_unentitled_entries") == 1
    ready = await world.client.get("/readyz")
    assert "ok: 1 done without a right, the first at salus.consent.events 0 0" in ready.text
    assert "salus_audit_unentitled_entries 1.0" in (await world.client.get("/metrics")).text
