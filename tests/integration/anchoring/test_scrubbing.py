"""The real anchoring reads a real archive again, and says on a real topic what it found damaged."""

from __future__ import annotations

import signal
from datetime import UTC, datetime

from tests.asking import UNASKED, truly_asked
from tests.integration.anchoring.network import AnchoredNetwork, AnchoringProcess

from salus.archive.body import ACCEPTED
from salus.archive.building import SampleRecord
from salus.devkit.waiting import until
from salus.events.contexts import CATALOGUE
from salus.events.contexts.identity import KeyRevoked
from salus.events.contexts.network import DamageFound
from salus.events.envelope import decode_event
from salus.events.event_types import type_of
from salus.ledger.block import body_key
from salus.ledger.records import SIGNATURE_HEADER
from salus.messaging import Reader, Record
from salus.runtime.publishing import open_publisher

SCRUBBING = {"SALUS_SCRUB_INTERVAL_S_MIN": "1"}
DEADLINE_S = 60


async def alarm_records(network: AnchoredNetwork) -> list[tuple[Record, DamageFound]]:
    """Return every alarm of this network."""
    at = (type_of(DamageFound).topic, 0)
    found: list[tuple[Record, DamageFound]] = []
    async with Reader(network.parts.kafka_bootstrap, starts={at: 0}) as reader:
        end = (await reader.end_offsets())[at]
        while await reader.position(*at) < end:
            for record in await reader.poll(max_records=1000, timeout_ms=500):
                event = decode_event(record.value or b"", CATALOGUE)
                is_ours = event.envelope.subject == network.policy.logs[0].name
                if is_ours and isinstance(event.data, DamageFound):
                    found.append((record, event.data))
    return found


async def alarms(network: AnchoredNetwork) -> list[DamageFound]:
    """Return what each alarm of this network says."""
    return [data for _, data in await alarm_records(network)]


async def seal_last_alarm(network: AnchoredNetwork, *, status: str) -> None:
    """Seal the alarm that was published last, with this verdict."""
    record, _ = (await alarm_records(network))[-1]
    signature = record.header(SIGNATURE_HEADER)
    at = (record.topic, record.partition, record.offset)
    await network.chain.seal([SampleRecord(*at, record.value, signature, status)])


async def lose_key(network: AnchoredNetwork) -> None:
    """Let the operator have anchoring's key revoked."""
    anchoring, folder = network.folder.signer("anchoring"), network.folder
    revoked = KeyRevoked(anchoring.did, anchoring.verification_method, "compromised", request=UNASKED)
    asked = truly_asked(
        revoked, folder.signer("operator"), at=datetime.now(UTC), network=folder.read()["origin"]
    )
    async with open_publisher(network.parts.kafka_bootstrap, folder.signer("identity")) as publisher:
        await publisher.publish(asked, subject=anchoring.did, expected_version=1)


async def metric(anchoring: AnchoringProcess, name: str) -> float:
    page = (await anchoring.get("/metrics")).text
    [line] = [line for line in page.splitlines() if line.startswith(f"{name} ")]
    return float(line.split()[1])


async def test_damage_is_told_until_the_ledger_has_it_and_once_over_passes_and_restarts(
    network: AnchoredNetwork,
) -> None:
    for _ in range(5):
        await network.chain.seal_samples(3)
    anchoring = await network.start_ready(**SCRUBBING)

    async def has_passed() -> bool:
        return await metric(anchoring, "salus_scrub_last_full_pass_timestamp_seconds") > 0

    assert await until(has_passed, deadline_s=DEADLINE_S), anchoring.log.read_text()[-2000:]
    assert await alarms(network) == []
    header = network.chain.headers[2]
    key = body_key(0, 2, header.root)
    store = network.address.open().ledger
    whole = await store.get(key, bytes_max=1 << 30)
    await store.put(key, whole[:50] + bytes([whole[50] ^ 1]) + whole[51:])

    async def is_told() -> bool:
        return bool(await alarms(network))

    assert await until(is_told, deadline_s=DEADLINE_S), anchoring.log.read_text()[-2000:]
    # The ledger refuses it: that is named, it is told again as another event, and that is accepted.
    assert await anchoring.check("alarms") == "ok"
    await seal_last_alarm(network, status="rejected:unknown-key")

    async def is_named() -> bool:
        return "unknown-key" in await anchoring.check("alarms")

    assert await until(is_named, deadline_s=DEADLINE_S), await anchoring.state()

    async def is_told_again() -> bool:
        return len(await alarms(network)) == 2

    assert await until(is_told_again, deadline_s=2 * DEADLINE_S), await anchoring.state()
    await seal_last_alarm(network, status=ACCEPTED)
    assert await until(anchoring.is_ready, deadline_s=DEADLINE_S), await anchoring.state()
    assert await metric(anchoring, "salus_scrub_alarms_refused_total") == 1
    assert await anchoring.stop() in {0, -signal.SIGTERM}
    anchoring = await network.start_ready(**SCRUBBING)
    ended = await metric(anchoring, "salus_scrub_last_full_pass_timestamp_seconds")

    async def has_passed_again() -> bool:
        return await metric(anchoring, "salus_scrub_last_full_pass_timestamp_seconds") > ended + 1

    assert await until(has_passed_again, deadline_s=DEADLINE_S), anchoring.log.read_text()[-2000:]
    refused, alarm = await alarms(network)
    assert refused == alarm
    assert (alarm.code, alarm.bucket, alarm.key) == ("body-hash", "ledger", key)
    assert (alarm.shard, alarm.height) == (0, 2)
    assert await metric(anchoring, "salus_scrub_findings") == 1
    assert await metric(anchoring, "salus_scrub_bytes_total") > len(whole)
    await store.put(key, whole)

    async def is_gone() -> bool:
        return await metric(anchoring, "salus_scrub_findings") == 0

    assert await until(is_gone, deadline_s=DEADLINE_S), anchoring.log.read_text()[-2000:]

    # Cases SEC1 and F4: what the ledger would refuse is not taken for told.
    await lose_key(network)

    async def says_so() -> bool:
        return "key-revoked" in await anchoring.check("signing-key")

    assert await until(says_so, deadline_s=DEADLINE_S), anchoring.log.read_text()[-2000:]
    await store.put(key, whole[:50])

    async def waits() -> bool:
        return "damage could not be told" in anchoring.log.read_text()

    assert await until(waits, deadline_s=DEADLINE_S), anchoring.log.read_text()[-2000:]
    assert await alarms(network) == [alarm, alarm]
