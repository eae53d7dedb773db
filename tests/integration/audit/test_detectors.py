"""What the detectors find, whoever else uses Kafka, with the real one (cases O2, K3, and red team B)."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions
from aiokafka.structs import OffsetAndMetadata
from pydantic import SecretStr
from tests.integration.audit import dying_audit
from tests.integration.audit.conftest import World, events_of
from tests.integration.raw_kafka import produce, record_batch
from tests.unit.audit.chain import Accepted
from tests.unit.audit.samples import STORAGE
from tests.unit.audit.test_detection import GLASS, REFUSED, ocsf
from tests.unit.audit.test_indexing import PATIENT

from salus.devkit.waiting import until
from salus.messaging import Reader, Record, Topic, ensure_topics, partitions_of

ROOT = Path(__file__).parents[3]
DEADLINE_S = 60


def refusals(reader: str, numbers: Sequence[int] = range(3)) -> list[Accepted]:
    """Return refusals of a person; three make a finding."""
    data = msgspec.structs.replace(REFUSED, reader=reader)
    return [Accepted(data, source=STORAGE, name=f"{reader}-{n}", subject=PATIENT) for n in numbers]


async def findings(world: World) -> list[dict[str, Any]]:
    """Return the findings that audit signed, on all partitions."""
    kafka, topic = world.settings.kafka_bootstrap, world.settings.ocsf_topic
    found: list[Record] = []
    starts = {(topic, number): 0 for number in (await partitions_of(kafka, [topic]))[topic]}
    async with Reader(kafka, starts=starts) as reader:
        ends = await reader.end_offsets()
        while any([await reader.position(*at) < end for at, end in ends.items()]):
            found += await reader.poll(max_records=1000, timeout_ms=200)
    ours = f"v1 {world.folder.signer('audit').verification_method} ".encode()
    genuine = [record for record in found if (record.header("salus-signature") or b"").startswith(ours)]
    return [event for event in events_of(genuine) if event["class_uid"] == 2004]


async def found_of(world: World, reader: str) -> bool:
    """Tell whether there is a finding against a person."""
    return any(reader in json.dumps(finding) for finding in await findings(world))


async def is_found(world: World, reader: str) -> bool:
    return await until(lambda: found_of(world, reader), deadline_s=DEADLINE_S)


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
    await world.seal(refusals("did:key:zFirst"))
    assert await is_found(world, "did:key:zFirst")

    await grow(world, 4)
    await world.seal(refusals("did:key:zSecond"))

    assert await is_found(world, "did:key:zSecond")
    await world.stop()
    await world.start()
    await world.seal(refusals("did:key:zThird"))
    assert await is_found(world, "did:key:zThird")
    assert (await world.client.get("/readyz")).json()["checks"]["detectors"] == "ok"


async def test_what_audit_did_not_sign_makes_no_finding_and_hides_none(world: World) -> None:
    # Medium of the security report: the detectors believed whoever can write to the topic. Cases F5, K3, too.
    await world.start()
    forged = ocsf(GLASS)
    refused = ocsf(msgspec.structs.replace(REFUSED, reader="did:key:zMember"))
    settings = world.settings
    for topic in (settings.ocsf_topic, settings.fhir_topic, settings.blocks_topic):
        for value in (None, b"", b"\xff", json.dumps(forged).encode(), json.dumps(refused).encode()):
            await world.producer.send(topic, key=b"k", value=value)
            headers = (("salus-signature", b"v1 did:key:z#z 0/1 " + b"A" * 86 + b"=="),)
            await world.producer.send(topic, key=b"k", value=value, headers=headers)
        for delta in (1000, -3):
            await produce(settings.kafka_bootstrap, topic, 0, record_batch([(delta, b"x")]))
    await world.seal(refusals("did:key:zMember"))

    assert await is_found(world, "did:key:zMember")
    assert [f["metadata"]["event_code"] for f in await findings(world)] == ["denied-access-probing"]


async def test_nobody_silences_or_misleads_the_detectors_by_groups_and_topics_of_their_own(
    world: World,
) -> None:
    """Case security.md, medium: anybody with the topic could make a finding, or silence one.

    Red team B: `changelog.py`, `evict.py` and `hush.py`, against the group and the topics that there were.

    Somebody writes windows to a changelog, takes every place in the group, and commits past all that comes.
    """
    kafka, topic = world.settings.kafka_bootstrap, world.settings.ocsf_topic
    group = f"{topic}-detectors"
    changelog = f"{group}-refusals-1-changelog"
    await ensure_topics(kafka, [Topic(changelog, 1, {"cleanup.policy": "compact"})])
    accused = {"refusals": [[1_800_000_000_000 + n, f"e{n:063x}"] for n in range(4)], "reported": False}
    hushed = {"refusals": [[2_100_000_000_000 + n, f"f{n:063x}"] for n in range(64)], "reported": True}
    for who, window in (("did:key:zAccused", accused), ("did:key:zHushed", hushed)):
        await world.producer.send(changelog, key=who.encode(), value=json.dumps(window).encode())
    foreign = AIOKafkaConsumer(
        topic,
        bootstrap_servers=kafka,
        group_id=group,
        enable_auto_commit=False,
        isolation_level="read_committed",
    )
    await foreign.start()
    try:
        await foreign.commit({TopicPartition(topic, 0): OffsetAndMetadata(10_000, "")})
        await world.start()
        await world.seal(refusals("did:key:zAccused", [0]))
        await world.seal(refusals("did:key:zHushed"))
        assert await is_found(world, "did:key:zHushed")
    finally:
        await foreign.stop()

    assert [f["evidences"][0]["actor"]["user"]["uid"] for f in await findings(world)] == ["did:key:zHushed"]


async def test_audit_has_no_consumer_group_and_makes_no_topic(world: World) -> None:
    await world.start()
    await world.seal(refusals("did:key:zSomebody"))
    assert await is_found(world, "did:key:zSomebody")
    admin = AIOKafkaAdminClient(bootstrap_servers=world.settings.kafka_bootstrap)
    await admin.start()
    try:
        groups = [name for name, _ in await admin.list_consumer_groups()]
        topics = await admin.list_topics()
    finally:
        await admin.close()

    run = world.settings.ocsf_topic.removesuffix(".ocsf")
    assert [name for name in groups if name.startswith(run)] == []
    assert sorted(name for name in topics if name.startswith(run)) == [
        f"{run}.{name}" for name in ("blocks", "fhir", "ocsf")
    ]


async def killed(world: World) -> int | None:
    """Run audit in a process that dies between what it publishes and the note of it; return how it ended."""
    place = {
        f"SALUS_{name.upper()}": value.get_secret_value() if isinstance(value, SecretStr) else str(value)
        for name, value in world.settings
        if value is not None
    }
    name = dying_audit.__name__
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", name, cwd=ROOT, env={**os.environ, **place}
    )
    try:
        return await asyncio.wait_for(process.wait(), DEADLINE_S)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_a_kill_between_a_finding_and_its_mark_neither_loses_nor_doubles_it(world: World) -> None:
    await world.seal(refusals("did:key:zFirst"))
    assert await killed(world) == -signal.SIGKILL
    [before] = await findings(world)
    assert await killed(world) == -signal.SIGKILL
    await world.start()
    await world.seal(refusals("did:key:zSecond"))
    assert await is_found(world, "did:key:zSecond")

    found = await findings(world)
    assert [finding for finding in found if "zSecond" not in json.dumps(finding)] == [before] * 3
    assert len({finding["metadata"]["uid"] for finding in found}) == 2


async def test_a_database_that_is_lost_comes_to_the_same_findings(world: World) -> None:
    await world.start()
    for start in range(3):
        await world.seal(refusals("did:key:zSlow", [start]))
    await world.seal([Accepted(GLASS, source=STORAGE, name="glass", subject=PATIENT)])

    async def are(count: int) -> bool:
        return len(await findings(world)) == count

    assert await until(lambda: are(2), deadline_s=DEADLINE_S)
    before = await findings(world)
    await world.stop()
    for file in Path(world.settings.database_url.removeprefix("sqlite+aiosqlite:///")).parent.glob(
        "audit.db*"
    ):
        file.unlink()
    await world.start()
    assert await until(lambda: are(4), deadline_s=DEADLINE_S)

    def by_uid(finding: dict[str, Any]) -> str:
        return str(finding["metadata"]["uid"])

    assert sorted((await findings(world))[2:], key=by_uid) == sorted(before, key=by_uid)
