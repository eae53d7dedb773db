"""The ports on real Kafka and MinIO keep the same laws as those in memory."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from tests.contracts.sequencer import laws

from salus.devkit.addresses import Addresses
from salus.messaging import Producer, Topic, ensure_topics
from salus.objects import Admin, open_store
from salus.sequencer.adapters.archive import ObjectArchive
from salus.sequencer.adapters.log import KafkaLog
from salus.sequencer.adapters.patience import Patience

Append = Callable[[bytes], Awaitable[None]]


@pytest.mark.parametrize("law", laws.ARCHIVE_LAWS)
async def test_the_archive_on_minio_keeps_the_laws(
    law: Callable[[Any], Awaitable[None]], parts: Addresses
) -> None:
    s3, bucket = parts.s3, f"archive-{secrets.token_hex(6)}"
    await Admin(s3.endpoint, s3.access_key, s3.secret_key, s3.region).ensure_bucket(bucket, object_lock=True)
    store = open_store(
        endpoint=s3.endpoint,
        access_key=s3.access_key,
        secret_key=s3.secret_key,
        region=s3.region,
        bucket=bucket,
    )
    await law(ObjectArchive(store, Patience()))


async def log_on_kafka(parts: Addresses) -> tuple[KafkaLog, tuple[str, int], Append]:
    topic = f"sequencer-{secrets.token_hex(6)}"
    await ensure_topics(parts.kafka_bootstrap, [Topic(topic, 1)])

    async def append(value: bytes) -> None:
        async with Producer(parts.kafka_bootstrap, client_id="test") as producer:
            await producer.send(topic, key=None, value=value, headers=[("number", value)])

    return KafkaLog(parts.kafka_bootstrap, Patience()), (topic, 0), append


@pytest.mark.parametrize("law", laws.LOG_LAWS)
async def test_the_log_on_kafka_keeps_the_laws(law: Callable[..., Awaitable[None]], parts: Addresses) -> None:
    log, at, append = await log_on_kafka(parts)
    await law(log, at, append)


async def test_the_log_on_kafka_refuses_what_retention_removed(parts: Addresses) -> None:
    log, at, append = await log_on_kafka(parts)

    async def retire(beginning: int) -> None:
        admin = AdminClient({"bootstrap.servers": parts.kafka_bootstrap})
        (deleted,) = admin.delete_records([TopicPartition(*at, beginning)]).values()
        deleted.result(timeout=30)

    await laws.a_position_before_the_beginning_is_refused(log, at, append, retire)
