"""The parts are the real ones, and can be used as the design needs."""

from __future__ import annotations

from salus.devkit.addresses import Addresses
from salus.messaging import Producer, Reader, Topic, ensure_topics


async def test_a_record_that_was_acknowledged_can_be_read_back(parts: Addresses):
    topic = "devkit.round-trip"
    await ensure_topics(parts.kafka_bootstrap, [Topic(topic, 1)])
    async with Producer(parts.kafka_bootstrap, client_id="devkit-test") as producer:
        position = await (await producer.enqueue(topic, key=b"k", value=b"v", headers=[("h", b"1")]))

    async with Reader(parts.kafka_bootstrap, starts={(topic, 0): position.offset}) as reader:
        records = await reader.poll(max_records=10, timeout_ms=10_000)

    assert [(record.key, record.value, record.headers) for record in records] == [
        (b"k", b"v", (("h", b"1"),))
    ]
