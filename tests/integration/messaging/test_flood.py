"""A flood of tiny records in one partition, which any account may send, keeps no other partition waiting."""

from __future__ import annotations

import uuid

import pytest
from tests.integration.raw_kafka import produce, record_batch, tiny_batch

from salus.devkit.addresses import Addresses
from salus.messaging import ColumnReader, Reader, Topic, ensure_topics

TINY = 60_000


@pytest.mark.parametrize("kind", [ColumnReader, Reader])
async def test_what_another_partition_gets_in_a_flood_comes_before_its_end(
    parts: Addresses, kind: type[ColumnReader | Reader]
) -> None:
    topic = f"messaging-{uuid.uuid4().hex}"
    await ensure_topics(parts.kafka_bootstrap, [Topic(topic, 2, {})])
    for _ in range(2):
        await produce(parts.kafka_bootstrap, topic, 0, tiny_batch(TINY))
    async with kind(parts.kafka_bootstrap, starts={(topic, 0): 0, (topic, 1): 0}) as reader:
        while await reader.position(topic, 0) == 0:
            await reader.poll(max_records=1000, timeout_ms=500)
        await produce(parts.kafka_bootstrap, topic, 1, record_batch([(0, b"v")]))
        while await reader.position(topic, 1) == 0:
            await reader.poll(max_records=100, timeout_ms=500)
            # The answer is waited for, so the reader's own requests go on meanwhile.
            assert (await reader.end_offsets())[topic, 0] == 2 * TINY
        behind = await reader.position(topic, 0)
        assert behind < 2 * TINY

        while await reader.position(topic, 0) < 2 * TINY:
            assert await reader.poll(max_records=50_000, timeout_ms=500)
