"""Who dated a record is a bit of its batch that the broker alone sets; what its sender dated has no time."""

from __future__ import annotations

import uuid

import pytest
from tests.integration.raw_kafka import (
    LOG_APPEND_TIME,
    TIMESTAMP_TYPE,
    attributes_of,
    dated,
    produce,
    record_batch,
    send_dated,
)

from salus.devkit.addresses import Addresses
from salus.ledger.records import Flaw
from salus.messaging import (
    TOPIC_SETTINGS,
    ColumnReader,
    Producer,
    Reader,
    RestoredRanges,
    Topic,
    ensure_topics,
)

LONG_AGO_MS = 1_000


async def fresh_topic(parts: Addresses, **settings: str) -> str:
    name = f"messaging-{uuid.uuid4().hex}"
    config = {**TOPIC_SETTINGS, **{key.replace("_", "."): value for key, value in settings.items()}}
    await ensure_topics(parts.kafka_bootstrap, [Topic(name, 1, config)])
    return name


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("compression", ["uncompressed", "producer", "gzip", "zstd"])
async def test_no_sender_can_say_that_the_broker_dated_it(
    parts: Addresses, compression: str, *, compressed: bool
) -> None:
    # Red team B6, 1: what readers believe.
    batch = dated(
        record_batch([(0, b"evil")]), LONG_AGO_MS, attributes=LOG_APPEND_TIME, compressed=compressed
    )
    usual = await fresh_topic(parts, compression_type=compression)
    with pytest.raises(AssertionError, match="the code 32"):
        await produce(parts.kafka_bootstrap, usual, 0, batch)

    altered = await fresh_topic(parts, compression_type=compression, **{TIMESTAMP_TYPE: "CreateTime"})
    offset = await produce(parts.kafka_bootstrap, altered, 0, batch)
    assert not await attributes_of(parts.kafka_bootstrap, altered, 0, offset) & LOG_APPEND_TIME


async def read(
    parts: Addresses, topic: str, restored: RestoredRanges
) -> list[tuple[bytes | None, Flaw | None, bool]]:
    """Return the value, the flaw and whether there is a time of each record; as columns they are the same."""
    rows, columns = [], []
    async with Reader(parts.kafka_bootstrap, starts={(topic, 0): 0}, restored=restored) as reader:
        end = (await reader.end_offsets())[topic, 0]
        while await reader.position(topic, 0) < end:
            rows += [*await reader.poll(max_records=10, timeout_ms=5000)]
    async with ColumnReader(parts.kafka_bootstrap, starts={(topic, 0): 0}, restored=restored) as wide:
        while await wide.position(topic, 0) < end:
            columns += [row for run in await wide.poll(max_records=10, timeout_ms=5000) for row in run]
    assert [(r.value, r.flaw, r.timestamp_ms) for r in rows] == [
        (r.value, r.flaw, r.timestamp_ms) for r in columns
    ]
    return [(r.value, r.flaw, r.timestamp_ms > 0) for r in rows]


async def test_what_was_sent_while_the_setting_was_another_has_a_flaw_unless_it_was_restored(
    parts: Addresses,
) -> None:
    # Red team B6, 1: a tenth of a second, and every check of the settings saw nothing.
    topic = await fresh_topic(parts)
    async with Producer(parts.kafka_bootstrap, client_id="test") as producer:
        await producer.send(topic, key=b"k", value=b"before")
        offset = await send_dated(parts.kafka_bootstrap, topic, record_batch([(0, b"evil")]), LONG_AGO_MS)
        while True:
            await producer.send(topic, key=b"k", value=b"after")
            found = await read(parts, topic, {})
            if found[-1] == (b"after", None, True):
                break

    assert found[0] == (b"before", None, True)
    assert found[offset] == (b"evil", Flaw.CREATE_TIME, False)
    assert (await read(parts, topic, {(topic, 0): [(offset, offset + 1)]}))[offset] == (b"evil", None, True)
    assert (await read(parts, topic, {(topic, 0): [(0, offset)]}))[offset] == (
        b"evil",
        Flaw.CREATE_TIME,
        False,
    )
