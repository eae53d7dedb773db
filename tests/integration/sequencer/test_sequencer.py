from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from tests.effort import tries
from tests.integration.sequencer.shard import CLINICAL, Shard, open_shard

from salus.devkit.addresses import Addresses
from salus.devkit.waiting import until
from salus.events.contexts import CATALOGUE
from salus.events.contexts.ledger import BlockSealed, RecordRejected, RecordsRejected
from salus.events.envelope import decode_event
from salus.events.signature import sign_values
from salus.ledger.records import SIGNATURE_HEADER
from salus.messaging import MESSAGE_BYTES_MAX, Position, Producer, Reader

KILLS = tries(5, long=50)


@pytest.fixture
async def shard(parts: Addresses, tmp_path: Path) -> AsyncIterator[Shard]:
    async with open_shard(parts, tmp_path / "network") as opened:
        await opened.join_hospital()
        yield opened


async def send(shard: Shard, value: bytes | None, *, sign: bool = True) -> Position:
    """Send a record past the client library, as anybody could."""
    headers = [(SIGNATURE_HEADER, sign_values([value], shard.hospital)[0])] if sign and value else []
    async with Producer(shard.parts.kafka_bootstrap, client_id="anybody") as producer:
        return await producer.send(CLINICAL, key=b"k", value=value, headers=headers)


async def test_what_is_published_is_sealed_and_announced(shard: Shard) -> None:
    async with Reader(shard.parts.kafka_bootstrap, starts={("salus.ledger.blocks", 0): 0}) as reader:
        announced_before = (await reader.end_offsets())["salus.ledger.blocks", 0]
    sequencer = await shard.start_sequencer()
    await shard.publish_documents(300)
    await shard.wait_until_sealed()
    rows = await shard.require_laws()

    assert sum(row["source"] == shard.hospital.did for row in rows) == 300
    assert await until(sequencer.is_ready, deadline_s=60)
    status = (await sequencer.answer("/status"))[1]
    assert status["height"] == len(await shard.chain()) - 1
    assert {r["lag"] for r in status["ranges"]} == {0}
    starts = {("salus.ledger.blocks", 0): announced_before}
    async with Reader(shard.parts.kafka_bootstrap, starts=starts) as reader:
        announced = await reader.poll(max_records=10_000, timeout_ms=5000)
    origin = shard.verifier.name
    values = [r.value for r in announced if r.key == origin.encode() and r.value]
    blocks = [decode_event(value, CATALOGUE).data for value in values]
    assert [block.height for block in blocks if isinstance(block, BlockSealed)] == list(
        range(len(await shard.chain()))
    )
    assert await sequencer.stop() in (0, -signal.SIGTERM)


@pytest.mark.timeout(60 * KILLS + 300)
async def test_killed_at_random_moments_under_load_nothing_is_lost_or_twice(shard: Shard) -> None:
    random_moments = random.Random(KILLS)
    limits = {"SALUS_BLOCK_RECORDS_MAX": "50", "SALUS_BLOCK_AGE_MS_MAX": "20"}
    load = asyncio.create_task(shard.publish_documents(400 * KILLS))
    for _ in range(KILLS):
        sequencer = await shard.start_sequencer(**limits)
        sealed = len(await shard.chain())

        async def went_on(before: int = sealed) -> bool:
            return len(await shard.chain()) > before

        await until(went_on, deadline_s=15)
        await asyncio.sleep(random_moments.uniform(0, 0.3))
        await sequencer.kill()
    await load
    await shard.start_sequencer(**limits)
    await shard.wait_until_sealed()
    rows = await shard.require_laws()

    assert sum(row["source"] == shard.hospital.did for row in rows) == 400 * KILLS


async def test_two_sequencers_on_one_shard_make_one_chain(shard: Shard) -> None:
    limits = {"SALUS_BLOCK_RECORDS_MAX": "20", "SALUS_BLOCK_AGE_MS_MAX": "10"}
    both = [await shard.start_sequencer(**limits) for _ in range(2)]
    for round_ in range(3):
        await shard.publish_documents(300, name=f"round-{round_}")
    await shard.wait_until_sealed()
    rows = await shard.require_laws()

    assert sum(row["source"] == shard.hospital.did for row in rows) == 900
    assert [sequencer.process.returncode for sequencer in both] == [None, None]
    logs = [sequencer.log.read_text() for sequencer in both]
    assert any("another sequencer was first" in log for log in logs)


async def test_records_of_transactions_are_rejected_leaves_and_markers_leave_no_gap(shard: Shard) -> None:
    # cases SEC4, K2
    await shard.start_sequencer()
    producer = AIOKafkaProducer(
        bootstrap_servers=shard.parts.kafka_bootstrap, transactional_id=shard.verifier.name
    )
    async with producer:
        async with producer.transaction():
            await producer.send_and_wait(CLINICAL, b"committed", key=b"k", partition=0)
        await producer.begin_transaction()
        await producer.send_and_wait(CLINICAL, b"aborted", key=b"k", partition=0)
        await producer.abort_transaction()
        await producer.begin_transaction()
        last = await producer.send_and_wait(CLINICAL, b"pending", key=b"k", partition=0)
        # While it is open, what others publish after it is sealed.
        await shard.publish_documents(100)
        await shard.wait_until_sealed()
        rows = await shard.require_laws()
        await producer.abort_transaction()

    mine = [
        r for r in rows if (r["topic"], r["partition"]) == (CLINICAL, 0) and r["offset"] >= last.offset - 4
    ]
    transactional = [r["offset"] - last.offset for r in mine if r["status"] == "rejected:transactional"]
    assert transactional == [-4, -2, 0]
    assert sum(row["source"] == shard.hospital.did for row in rows) == 100
    assert any(row["status"] == "accepted" and row["offset"] > last.offset for row in mine)


async def test_whatever_comes_becomes_a_leaf_with_its_reason(shard: Shard) -> None:
    sequencer = await shard.start_sequencer()
    # What other tests left in the topics may be a flood, which is counted: it has blocks of its own.
    await shard.wait_until_sealed()
    sent = {
        "too-large": await send(shard, os.urandom(20 * 1000 * 1000)),
        "tombstone": await send(shard, None),
        "malformed-json": await send(shard, b'{"id":"\xff\xfe"}'),
        "malformed-json ": await send(shard, b"[" * 900_000),
        "invalid-envelope": await send(shard, b"{}"),
        "missing-signature": await send(shard, b"{}", sign=False),
    }
    await shard.publish_documents(1)
    await shard.wait_until_sealed()
    rows = {(r["topic"], r["partition"], r["offset"]): r for r in await shard.require_laws()}

    for reason, at in sent.items():
        assert rows[at.topic, at.partition, at.offset]["status"] == f"rejected:{reason.strip()}"
    assert MESSAGE_BYTES_MAX > 20 * 1000 * 1000
    assert sequencer.process.returncode is None
    starts = {("salus.ledger.rejections", 0): 0}
    async with Reader(shard.parts.kafka_bootstrap, starts=starts) as reader:
        announced = {}
        while (
            await reader.position("salus.ledger.rejections", 0)
            < (await reader.end_offsets())["salus.ledger.rejections", 0]
        ):
            for record in await reader.poll(max_records=10_000, timeout_ms=1000):
                if record.key == shard.verifier.name.encode() and record.value:
                    data = decode_event(record.value, CATALOGUE).data
                    if isinstance(data, RecordsRejected):
                        continue
                    assert isinstance(data, RecordRejected)
                    announced[data.topic, data.partition, data.offset] = data
    for reason, at in sent.items():
        told = announced[at.topic, at.partition, at.offset]
        assert told.reason == reason.strip()
        assert told.key == (
            None if reason in {"missing-signature", "tombstone"} else shard.hospital.verification_method
        )
        assert (told.source, told.id) == (None, None)
