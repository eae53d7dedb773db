"""The detectors over a topic that grows, breaks and is lied on, with the real Faust and Kafka (case O2)."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions
from tests.integration.audit.conftest import World, events_of
from tests.integration.raw_kafka import produce, record_batch
from tests.unit.audit.chain import Accepted
from tests.unit.audit.samples import STORAGE
from tests.unit.audit.test_detection import GLASS, REFUSED, ocsf
from tests.unit.audit.test_indexing import PATIENT

from salus.audit.adapters import detectors
from salus.audit.domain.detection import note_refusal
from salus.audit.metrics import UNDETECTED
from salus.devkit.waiting import until
from salus.messaging import Reader, Record, partitions_of


async def refuse(world: World, reader: str) -> None:
    """Seal as many refusals of a person as make a finding."""
    data = msgspec.structs.replace(REFUSED, reader=reader)
    names = [f"{reader}-{n}" for n in range(3)]
    await world.seal([Accepted(data, source=STORAGE, name=name, subject=PATIENT) for name in names])


async def findings(world: World, partitions: int) -> list[dict[str, Any]]:
    """Return the findings on all partitions."""
    found: list[Record] = []
    starts = {(world.settings.ocsf_topic, number): 0 for number in range(partitions)}
    async with Reader(world.settings.kafka_bootstrap, starts=starts) as reader:
        ends = await reader.end_offsets()
        while any([await reader.position(*at) < end for at, end in ends.items()]):
            found += await reader.poll(max_records=1000, timeout_ms=200)
    ours = f"v1 {world.folder.signer('audit').verification_method} ".encode()
    genuine = [record for record in found if (record.header("salus-signature") or b"").startswith(ours)]
    return [event for event in events_of(genuine) if event["class_uid"] == 2004]


async def found_of(world: World, reader: str, partitions: int) -> bool:
    """Tell whether there is a finding against a person."""
    return any(reader in json.dumps(finding) for finding in await findings(world, partitions))


async def grow(world: World, partitions: int) -> None:
    """Give the topic more partitions, as an operator does."""
    admin = AIOKafkaAdminClient(bootstrap_servers=world.settings.kafka_bootstrap)
    await admin.start()
    try:
        await admin.create_partitions({world.settings.ocsf_topic: NewPartitions(partitions)})
    finally:
        await admin.close()


async def test_a_topic_that_grows_gives_findings_again(world: World) -> None:
    await world.start()
    await refuse(world, "did:key:zFirst")
    assert await until(lambda: found_of(world, "did:key:zFirst", 1), deadline_s=60)

    await grow(world, 4)
    changelog = f"{detectors.app_id_of(world.settings.ocsf_topic)}-refusals-4-changelog"

    async def started_anew() -> bool:
        return changelog in await partitions_of(world.settings.kafka_bootstrap, [changelog])

    assert await until(started_anew, deadline_s=60)
    await refuse(world, "did:key:zSecond")

    assert await until(lambda: found_of(world, "did:key:zSecond", 4), deadline_s=90)
    await world.stop()
    await world.start()
    await refuse(world, "did:key:zThird")
    assert await until(lambda: found_of(world, "did:key:zThird", 4), deadline_s=90)
    assert (await world.client.get("/readyz")).json()["checks"]["task detectors"] == "ok"


async def test_what_audit_did_not_sign_makes_no_finding_and_hides_none(world: World) -> None:
    # Medium of the security report: the detectors believed whoever can write to the topic.
    await world.start()
    forged = ocsf(GLASS)
    future = ocsf(msgspec.structs.replace(REFUSED, reader="did:key:zMember"), at_ms=2**50)
    for value in (None, b"", b"\xff", json.dumps(forged).encode(), json.dumps(future).encode()):
        await world.producer.send(world.settings.ocsf_topic, key=b"k", value=value)
        headers = (("salus-signature", b"v1 did:key:z#z 0/1 " + b"A" * 86 + b"=="),)
        await world.producer.send(world.settings.ocsf_topic, key=b"k", value=value, headers=headers)
    await refuse(world, "did:key:zMember")

    assert await until(lambda: found_of(world, "did:key:zMember", 1), deadline_s=60)
    assert [f["metadata"]["event_code"] for f in await findings(world, 1)] == ["denied-access-probing"]


async def test_a_batch_that_nobody_can_read_silences_no_detector(world: World) -> None:
    # cases F5, K3: Faust has no word for a flaw.
    await world.start()
    await refuse(world, "did:key:zBefore")
    assert await until(lambda: found_of(world, "did:key:zBefore", 1), deadline_s=60)
    for delta in (1000, -3):
        batch = record_batch([(delta, b"x")])
        await produce(world.settings.kafka_bootstrap, world.settings.ocsf_topic, 0, batch)
    await refuse(world, "did:key:zAfter")

    assert await until(lambda: found_of(world, "did:key:zAfter", 1), deadline_s=60)


async def test_a_record_that_a_rule_fails_at_is_tried_again_and_then_passed_over(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detectors, "ATTEMPT_PAUSE_S", 0.01)

    def note(window: Any, event: Any, rule: Any) -> Any:
        if "zBroken" in json.dumps(event):
            raise RuntimeError("a fault in a rule")
        return note_refusal(window, event, rule)

    monkeypatch.setattr(detectors, "note_refusal", note)
    before = UNDETECTED._value.get()
    await world.start()
    await refuse(world, "did:key:zBroken")
    await refuse(world, "did:key:zAfter")

    assert await until(lambda: found_of(world, "did:key:zAfter", 1), deadline_s=90)
    assert UNDETECTED._value.get() == before + 3
