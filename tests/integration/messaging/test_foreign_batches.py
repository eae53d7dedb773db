"""What other clients may put into a topic: transactions, every codec, and what no reader can expand."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from confluent_kafka import Producer as ForeignProducer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions

from salus.devkit.addresses import Addresses
from salus.devkit.waiting import until
from salus.ledger.records import Flaw, Records
from salus.messaging import (
    MESSAGE_BYTES_MAX,
    ColumnReader,
    PartitionMismatchError,
    Position,
    Producer,
    Reader,
    Record,
    Topic,
    ensure_topics,
)

ANSWER_S_MAX = 60
BY_SENDER = {"compression.type": "producer", "max.message.bytes": str(MESSAGE_BYTES_MAX)}


async def fresh_topic(parts: Addresses, *, config: dict[str, str] | None = None) -> str:
    name = f"messaging-{uuid.uuid4().hex}"
    await ensure_topics(parts.kafka_bootstrap, [Topic(name, 1, config or {})])
    return name


def sent(producer: Any, topic: str, value: bytes, *, partition: int = 0) -> None:
    producer.produce(topic, value, b"k", partition)
    assert producer.flush(ANSWER_S_MAX) == 0


@contextmanager
def open_transaction(parts: Addresses) -> Iterator[Any]:
    """A transaction of an ordinary client, as one that dies leaves it."""
    producer = ForeignProducer(
        {"bootstrap.servers": parts.kafka_bootstrap, "transactional.id": f"forgotten-{uuid.uuid4().hex}"}
    )
    producer.init_transactions(ANSWER_S_MAX)
    producer.begin_transaction()
    try:
        yield producer
    finally:
        producer.abort_transaction(ANSWER_S_MAX)


async def read(parts: Addresses, topic: str, count: int) -> list[Record]:
    """Return so many records; as columns they are the same."""
    records: list[Record] = []
    columns: list[Records] = []
    async with Reader(parts.kafka_bootstrap, starts={(topic, 0): 0}) as reader:
        while len(records) < count:
            records += await reader.poll(max_records=100, timeout_ms=5000)
    async with ColumnReader(parts.kafka_bootstrap, starts={(topic, 0): 0}) as wide:
        while sum(map(len, columns)) < count:
            columns += await wide.poll(max_records=100, timeout_ms=5000)
    assert [(row.offset, row.key, row.value, row.flaw) for run in columns for row in run] == [
        (record.offset, record.key, record.value, record.flaw) for record in records
    ]
    return records


async def test_an_open_transaction_hides_nothing_and_holds_nothing_up(parts: Addresses) -> None:
    # cases SEC4, K2
    topic = await fresh_topic(parts)
    with open_transaction(parts) as transaction:
        sent(transaction, topic, b"pending")
        async with Producer(parts.kafka_bootstrap, client_id="test") as producer:
            at = await producer.send(topic, key=b"k", value=b"acknowledged")
        async with Reader(parts.kafka_bootstrap, starts={(topic, 0): 0}) as reader:
            ends = await reader.end_offsets()
        records = await read(parts, topic, 2)

    assert at == Position(topic, 0, 1)
    assert ends == {(topic, 0): 2}, "the end is the high watermark"
    assert [(record.value, record.flaw) for record in records] == [
        (b"pending", Flaw.TRANSACTIONAL),
        (b"acknowledged", None),
    ]


@pytest.mark.parametrize("end", ["commit_transaction", "abort_transaction"])
async def test_what_becomes_of_a_transaction_changes_nothing(parts: Addresses, end: str) -> None:
    topic = await fresh_topic(parts)
    with open_transaction(parts) as transaction:
        sent(transaction, topic, b"pending")
        getattr(transaction, end)(ANSWER_S_MAX)
        transaction.begin_transaction()
    # The broker answers before its marker, which has an offset of its own, is in the topic.
    async with Reader(parts.kafka_bootstrap, starts={(topic, 0): 0}) as reader:

        async def is_marked() -> bool:
            return await reader.end_offsets() == {(topic, 0): 2}

        assert await until(is_marked, deadline_s=ANSWER_S_MAX)
    sent(ForeignProducer({"bootstrap.servers": parts.kafka_bootstrap}), topic, b"after")

    records = await read(parts, topic, 2)

    assert [(record.offset, record.value, record.flaw) for record in records] == [
        (0, b"pending", Flaw.TRANSACTIONAL),
        (2, b"after", None),
    ]


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
async def test_every_codec_of_the_protocol_is_read(parts: Addresses, codec: str) -> None:
    # case K3
    topic = await fresh_topic(parts, config=BY_SENDER)
    producer = ForeignProducer(
        {"bootstrap.servers": parts.kafka_bootstrap, "compression.type": codec, "linger.ms": 200}
    )
    values = [b"%d " % number * 100 for number in range(50)]
    for value in values:
        producer.produce(topic, value, b"k", 0, headers=[("salus-signature", b"v1")])
    assert producer.flush(ANSWER_S_MAX) == 0

    records = await read(parts, topic, 50)

    assert [record.value for record in records] == values
    assert {record.flaw for record in records} == {None}
    assert records[0].header("salus-signature") == b"v1"


async def test_a_compression_bomb_that_is_in_the_topic_is_one_record_and_stops_nobody(
    parts: Addresses,
) -> None:
    # case K3
    topic = await fresh_topic(parts, config=BY_SENDER)
    bomber = ForeignProducer(
        {
            "bootstrap.servers": parts.kafka_bootstrap,
            "compression.type": "zstd",
            "message.max.bytes": 4 * MESSAGE_BYTES_MAX,
        }
    )
    sent(bomber, topic, bytes(MESSAGE_BYTES_MAX + 1))
    sent(bomber, topic, b"after")

    bomb, after = await read(parts, topic, 2)

    assert (bomb.offset, bomb.flaw) == (0, Flaw.UNREADABLE)
    assert len(bomb.value or b"") < MESSAGE_BYTES_MAX // 100
    assert (after.offset, after.value, after.flaw) == (1, b"after", None)


async def test_partitions_that_nobody_reads_are_named(parts: Addresses) -> None:
    # case K1
    topic = await fresh_topic(parts)
    async with Reader(parts.kafka_bootstrap, starts={(topic, 0): 0}) as reader:
        await reader.end_offsets()
        reader.require_whole_topics()
        admin = AdminClient({"bootstrap.servers": parts.kafka_bootstrap})
        await asyncio.to_thread(
            admin.create_partitions([NewPartitions(topic, 3)])[topic].result, ANSWER_S_MAX
        )

        async def is_told() -> bool:
            try:
                reader.require_whole_topics()
            except PartitionMismatchError as error:
                return error.unread == [(topic, 1), (topic, 2)] and f"nobody reads {topic} 1" in str(error)
            return False

        assert await until(is_told, deadline_s=ANSWER_S_MAX)


async def test_partitions_that_are_not_there_are_named_and_not_waited_for(parts: Addresses) -> None:
    # case K1
    topic = await fresh_topic(parts)
    async with Reader(parts.kafka_bootstrap, starts={(topic, 0): 0, (topic, 1): 0}) as reader:
        with pytest.raises(PartitionMismatchError, match=f"Kafka has no {topic} 1"):
            await reader.end_offsets()
