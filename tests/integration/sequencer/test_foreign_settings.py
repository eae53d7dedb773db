"""A topic that somebody made by hand: what comes is sealed, and the sequencer says what differs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from confluent_kafka import Producer as ForeignProducer
from tests.integration.sequencer.shard import CLINICAL, DEADLINE_S, Shard, open_shard

from salus.devkit.parts import LocalParts
from salus.devkit.waiting import until
from salus.messaging import MESSAGE_BYTES_MAX, TOPIC_SETTINGS, set_topic_setting

COMPRESSION = "compression.type"


@pytest.fixture
async def shard(own_parts: LocalParts, tmp_path: Path) -> AsyncIterator[Shard]:
    async with open_shard(await own_parts.start(None), tmp_path / "network") as opened:
        await opened.join_hospital()
        yield opened


def send(shard: Shard, value: bytes, codec: str) -> None:
    settings = {
        "bootstrap.servers": shard.parts.kafka_bootstrap,
        "compression.type": codec,
        "message.max.bytes": 4 * MESSAGE_BYTES_MAX,
    }
    producer = ForeignProducer(settings)
    producer.produce(CLINICAL, value, b"k", 0)
    assert producer.flush(DEADLINE_S) == 0


async def test_every_codec_is_sealed_a_bomb_is_a_leaf_and_the_setting_is_named(shard: Shard) -> None:
    # case K3
    sequencer = await shard.start_sequencer()
    assert await until(sequencer.is_ready, deadline_s=DEADLINE_S)
    await set_topic_setting(shard.parts.kafka_bootstrap, [CLINICAL], COMPRESSION, "producer")

    for codec in ("gzip", "snappy", "lz4", "zstd"):
        await asyncio.to_thread(send, shard, codec.encode() * 100, codec)
    await asyncio.to_thread(send, shard, bytes(MESSAGE_BYTES_MAX + 1), "zstd")
    await shard.publish_documents(100)
    await shard.wait_until_sealed()
    rows = await shard.require_laws()

    foreign = [row["status"] for row in rows if (row["topic"], row["partition"]) == (CLINICAL, 0)][:5]
    assert foreign == ["rejected:missing-signature"] * 4 + ["rejected:unreadable"]
    assert sum(row["source"] == shard.hospital.did for row in rows) == 100

    async def says_so() -> bool:
        code, page = await sequencer.answer("/readyz")
        wanted = f"{CLINICAL} has {COMPRESSION}=producer, and should have {TOPIC_SETTINGS[COMPRESSION]}"
        return code == 503 and wanted in page["checks"]["topics"]

    assert await until(says_so, deadline_s=DEADLINE_S)
    assert COMPRESSION in sequencer.log.read_text()
    await set_topic_setting(shard.parts.kafka_bootstrap, [CLINICAL], COMPRESSION, TOPIC_SETTINGS[COMPRESSION])
    assert await until(sequencer.is_ready, deadline_s=DEADLINE_S)
