"""Kafka takes a batch whose records say that they stand elsewhere; nobody who reads it believes them."""

from __future__ import annotations

import uuid

import pytest
from tests.integration.raw_kafka import CHECKED_FROM, produce, record_batch

from salus.devkit.addresses import Addresses
from salus.ledger.records import Flaw
from salus.messaging import TOPIC_SETTINGS, ColumnReader, Producer, Reader, Topic, ensure_topics

LIES = {
    "far beyond": [1000],
    "one far beyond": [0, 1000],
    "repeated": [0, 0],
    "backwards": [1, 0],
    "at the next position": [1],
    "negative": [-3],
}


@pytest.mark.parametrize("deltas", LIES.values(), ids=LIES)
async def test_a_batch_takes_the_offsets_that_the_broker_gave_it_and_no_other(
    parts: Addresses, deltas: list[int]
) -> None:
    # case F5
    topic = f"messaging-{uuid.uuid4().hex}"
    await ensure_topics(parts.kafka_bootstrap, [Topic(topic, 1, TOPIC_SETTINGS)])
    async with Producer(parts.kafka_bootstrap, client_id="test") as producer:
        await producer.send(topic, key=b"k", value=b"before")
        batch = record_batch([(delta, b"evil") for delta in deltas])
        base = await produce(parts.kafka_bootstrap, topic, 0, batch)
        after = await producer.send(topic, key=b"k", value=b"after")

    rows: list[tuple[int, bytes | None, Flaw | None]] = []
    columns = rows[:]
    async with Reader(parts.kafka_bootstrap, starts={(topic, 0): 0}) as reader:
        while len(rows) < 3:
            found = await reader.poll(max_records=100, timeout_ms=5000)
            rows += [(record.offset, record.value, record.flaw) for record in found]
        position = await reader.position(topic, 0)
    async with ColumnReader(parts.kafka_bootstrap, starts={(topic, 0): 0}) as wide:
        while len(columns) < 3:
            runs = await wide.poll(max_records=100, timeout_ms=5000)
            columns += [(row.offset, row.value, row.flaw) for run in runs for row in run]
        seen = dict(wide.seen_ends)

    assert (base, after.offset) == (1, 1 + len(deltas))
    assert rows == columns
    assert [(offset, flaw) for offset, _, flaw in rows] == [
        (0, None),
        (len(deltas), Flaw.UNREADABLE),
        (after.offset, None),
    ]
    # Kafka stamps the batch, so of what was sent only what is behind its header is still the same.
    assert (rows[1][1] or b"").endswith(batch[CHECKED_FROM + 40 :])
    assert position == after.offset + 1
    assert seen == {(topic, 0): position}
