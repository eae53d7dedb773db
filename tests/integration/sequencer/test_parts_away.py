"""Kafka and MinIO go away and come back; retention eats what was not sealed. On parts of its own."""

from __future__ import annotations

from pathlib import Path

import httpx
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from tests.integration.sequencer.shard import CLINICAL, SequencerProcess, Shard, open_shard

from salus.devkit.parts import LocalParts
from salus.devkit.waiting import until

AWAY_S_MAX = 60


async def test_it_says_what_is_away_and_goes_on_by_itself(own_parts: LocalParts, tmp_path: Path) -> None:
    addresses = await own_parts.start(None)
    async with open_shard(addresses, tmp_path / "network") as shard:
        await shard.join_hospital()
        sequencer = await shard.start_sequencer()
        await shard.publish_documents(100, name="before")
        await shard.wait_until_sealed()
        await kafka_goes_and_comes(own_parts, sequencer)
        await shard.publish_documents(100, name="after Kafka")
        await shard.wait_until_sealed()
        await minio_goes_and_comes(own_parts, sequencer, shard)
        await shard.wait_until_sealed()
        rows = await shard.require_laws()

        assert sum(row["source"] == shard.hospital.did for row in rows) == 300
        assert await until(sequencer.is_ready, deadline_s=AWAY_S_MAX)
        await sequencer.stop()
        await retention_eats_unsealed_records(shard)


async def kafka_goes_and_comes(parts: LocalParts, sequencer: SequencerProcess) -> None:
    assert parts._kafka is not None
    await parts._kafka.stop()
    assert await until(lambda: sequencer.lacks("kafka"), deadline_s=AWAY_S_MAX)
    await parts._kafka.start()


async def minio_goes_and_comes(parts: LocalParts, sequencer: SequencerProcess, shard: Shard) -> None:
    assert parts._minio is not None
    await parts._minio.stop()
    await shard.publish_documents(100, name="without MinIO")
    assert await until(lambda: sequencer.lacks("s3"), deadline_s=AWAY_S_MAX)
    await parts._minio.start()


async def retention_eats_unsealed_records(shard: Shard) -> None:
    height = len(await shard.chain())
    await shard.publish_documents(50, name="eaten")
    last = max(place for place in await shard.records() if place[0] == CLINICAL)
    admin = AdminClient({"bootstrap.servers": shard.parts.kafka_bootstrap})
    (deleted,) = admin.delete_records([TopicPartition(last[0], last[1], last[2])]).values()
    deleted.result(timeout=30)
    sequencer = await shard.start_sequencer()

    assert await until(lambda: is_halted(sequencer), deadline_s=AWAY_S_MAX)
    assert await sequencer.lacks("sealing")
    assert sequencer.process.returncode is None
    assert len(await shard.chain()) == height
    async with httpx.AsyncClient() as client:
        metrics = (await client.get(sequencer.url + "/metrics")).text
    assert 'salus_sequencer_halted{reason="RecordsLostError",shard="0"} 1.0' in metrics


async def is_halted(sequencer: SequencerProcess) -> bool:
    code, page = await sequencer.answer("/status")
    return code == 200 and (page["halted"] or "").startswith(f"RecordsLostError: {CLINICAL}")
