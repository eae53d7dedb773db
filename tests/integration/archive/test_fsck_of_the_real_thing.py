"""What the real sequencer and anchoring wrote is clean, judged again too, and damage to it is named."""

from __future__ import annotations

import asyncio
import io
import re
import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.asking import UNASKED, truly_asked
from tests.integration.anchoring.network import AnchoredNetwork
from tests.integration.raw_kafka import produce, record_batch, send_dated
from tests.integration.sequencer.shard import CLINICAL, Shard, open_shard

from salus.archive.fsck import StoreAddress, fsck
from salus.archive.trust import Trust
from salus.client import Publisher
from salus.devkit.addresses import Addresses
from salus.events.contexts.clinical import DocumentRegistered
from salus.events.contexts.identity import KeyRevoked
from salus.events.envelope import encode_event
from salus.events.signature import sign_values
from salus.ledger.records import timestamp_at
from salus.messaging import Producer
from salus.objects import Admin, ObjectStore, refuse_stray


@pytest.fixture
async def shard(parts: Addresses, tmp_path: Path) -> AsyncIterator[Shard]:
    async with open_shard(parts, tmp_path / "network") as opened:
        await opened.join_hospital()
        yield opened


def address_of(shard: Shard) -> StoreAddress:
    s3 = shard.parts.s3
    return StoreAddress(
        s3.endpoint, s3.access_key, s3.secret_key, s3.region, shard.bucket, f"log-{secrets.token_hex(4)}"
    )


async def publish_good_and_bad(shard: Shard) -> None:
    """Good events, garbage, a tombstone, and events under a key that was revoked meanwhile."""
    await shard.publish_documents(200)
    async with Producer(shard.parts.kafka_bootstrap, client_id="anybody") as producer:
        for value in (b"\xff\x00 garbage", None, b"{}"):
            await producer.send(CLINICAL, key=b"k", value=value)
        await producer.send(CLINICAL, key=b"k", value=b"{}", headers=[("salus-signature", b"?")])
    await shard.wait_until_sealed()
    await revoke_hospital(shard)
    await shard.publish_documents(5, name="late")
    await shard.wait_until_sealed()


async def revoke_hospital(shard: Shard) -> None:
    revoked = KeyRevoked(
        did=shard.hospital.did,
        key_id=shard.hospital.verification_method,
        reason="compromised",
        request=UNASKED,
    )
    asked = truly_asked(revoked, shard.hospital, at=datetime.now(UTC), network=shard.origin)
    async with Publisher(shard.parts.kafka_bootstrap, shard.folder.signer("identity")) as publisher:
        handle = await publisher.publish(asked, subject=shard.hospital.did, expected_version=1)
        await handle.position()


async def flip(objects: ObjectStore, key: str) -> bytes:
    """Change one byte in the middle of an object past every service; return what it was."""
    whole = await objects.get(key, bytes_max=1 << 30)
    place = len(whole) // 2
    await objects.put(key, whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    return whole


async def test_it_is_clean_judged_again_and_damage_is_named(shard: Shard) -> None:
    address = address_of(shard)
    network = AnchoredNetwork(shard.parts, shard.folder)
    settings = {"SALUS_LEDGER_BUCKET": address.ledger_bucket, "SALUS_LOG_BUCKET": address.log_bucket}
    s3 = shard.parts.s3
    await Admin(s3.endpoint, s3.access_key, s3.secret_key, s3.region).ensure_bucket(address.log_bucket)
    await shard.start_sequencer(SALUS_BLOCK_AGE_MS_MAX="20", SALUS_BLOCK_RECORDS_MAX="20")
    anchoring = await network.start(**settings)
    try:
        await publish_good_and_bad(shard)
        chain = await shard.chain()
        blocks = len(chain)
        assert await anchoring.reaches(blocks), anchoring.log.read_text()[-2000:]
    finally:
        await anchoring.kill()
    trust = Trust.from_network(shard.folder.file.read_bytes())

    # Case L2: a stray object ended every fsck, and nothing named it.
    client = Admin(address.endpoint, address.access_key, address.secret_key, address.region)._client()
    stray = "shard/0/note\n.txt"
    await asyncio.to_thread(client.put_object, address.ledger_bucket, stray, io.BytesIO(b"x"), length=1)

    clean = await fsck(address, trust, deep=True)

    assert clean.errors == []
    assert {f.key for f in clean.findings if f.code == "unknown-object"} == {r"shard/0/note\n.txt"}
    client.remove_object(address.ledger_bucket, stray)
    assert clean.counts.blocks == blocks
    assert clean.counts.judged >= 206
    stores = address.open()
    # A damaged block of identity events would vouch for nobody, and later blocks would be found wrong for it.
    height = next(
        header.height
        for header, _ in chain
        if not any(r.topic == header.identity[0] and r.next > r.first for r in header.ranges)
    )
    for objects, prefix, ending in (
        (stores.ledger, f"shard/0/{height:012}", "header"),
        (stores.ledger, f"shard/0/{height:012}", "parquet"),
        (stores.log, "tile/entries", ""),
    ):
        key = [e.key async for e in objects.list(prefix, on_stray=refuse_stray) if e.key.endswith(ending)][-1]
        whole = await flip(objects, key)
        damaged = await fsck(address, trust, deep=True)
        await objects.put(key, whole)

        assert {finding.key for finding in damaged.errors} == {key}


async def test_a_record_that_its_sender_dated_back_is_refused_and_told(shard: Shard) -> None:
    # Red team B6, 1: a revoked key signed on, for the sequencer and for whoever judges again.
    address = address_of(shard)
    network = AnchoredNetwork(shard.parts, shard.folder)
    settings = {"SALUS_LEDGER_BUCKET": address.ledger_bucket, "SALUS_LOG_BUCKET": address.log_bucket}
    s3 = shard.parts.s3
    await Admin(s3.endpoint, s3.access_key, s3.secret_key, s3.region).ensure_bucket(address.log_bucket)
    sequencer = await shard.start_sequencer()
    await shard.publish_documents(20)
    before_ms = max(record.timestamp_ms for record in (await shard.records()).values())
    await revoke_hospital(shard)
    patient = "urn:uuid:00000000-0000-4000-8000-000000000001"
    data = DocumentRegistered(patient=patient, object="dated-back", media_type="text/plain")
    value = encode_event(
        data, id="dated-back", source=shard.hospital.did, subject=patient, time=datetime.now(UTC)
    )
    (signature,) = sign_values([value], shard.hospital)
    batch = record_batch([(0, value)], key=patient.encode(), header=(b"salus-signature", signature))
    honest = await produce(shard.parts.kafka_bootstrap, CLINICAL, 0, batch)
    offset = await send_dated(shard.parts.kafka_bootstrap, CLINICAL, batch, before_ms)
    await shard.wait_until_sealed()
    anchoring = await network.start(**settings)
    try:
        assert await anchoring.reaches(len(await shard.chain()))
    finally:
        await anchoring.kill()
    rows = await shard.require_laws()
    found = {row["offset"]: row for row in rows if (row["topic"], row["partition"]) == (CLINICAL, 0)}

    assert found[honest]["status"] == "rejected:key-revoked"
    assert found[offset]["status"] == "rejected:create-time"
    assert timestamp_at(found[offset]["timestamp"]) == 0
    assert "dated by their senders" in sequencer.log.read_text()
    report = await fsck(address, Trust.from_network(shard.folder.file.read_bytes()), deep=True)
    assert report.errors == []
    # Records that other tests left in the topic are minutes old; only one taken at its word is of 1970.
    off = [re.findall(r"up to ([0-9]+) s", it.detail) for it in report.findings if it.code == "header-time"]
    assert all(int(seconds) < 86_400 for (seconds,) in off)
