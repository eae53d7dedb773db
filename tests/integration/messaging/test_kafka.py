from __future__ import annotations

import asyncio
import struct
import uuid
from contextlib import suppress

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import MessageSizeTooLargeError
from aiokafka.record.util import calc_crc32c

from salus.devkit.addresses import Addresses
from salus.devkit.waiting import until
from salus.ledger.records import Part, Records, Row, records_of
from salus.messaging import (
    MESSAGE_BYTES_MAX,
    TOPIC_SETTINGS,
    BrokerAwayError,
    ColumnReader,
    DeliveryError,
    MessagingError,
    Position,
    Producer,
    Reader,
    Record,
    RefusedByBrokerError,
    Topic,
    ensure_topics,
    partitions_of,
    ping,
    set_topic_setting,
)
from salus.messaging.reader import AHEAD_BYTES_MAX


async def fresh_topic(parts: Addresses, *, partitions: int = 1) -> str:
    name = f"messaging-{uuid.uuid4().hex}"
    await ensure_topics(parts.kafka_bootstrap, [Topic(name, partitions)])
    return name


async def test_records_come_back_in_order_with_their_headers(parts: Addresses) -> None:
    topic = await fresh_topic(parts)
    async with Producer(parts.kafka_bootstrap, client_id="test") as producer:
        sent = [
            await producer.send(topic, key=b"k", value=b"%d" % i, headers=[("a", b"1"), ("a", b"2")])
            for i in range(3)
        ]
    async with Reader(parts.kafka_bootstrap, starts={(topic, 0): 1}) as reader:
        records = await reader.poll(max_records=10, timeout_ms=5000)

    assert sent == [Position(topic, 0, i) for i in range(3)]
    assert [(r.offset, r.value, r.key) for r in records] == [(1, b"1", b"k"), (2, b"2", b"k")]
    assert records[0].header("a") == b"2"
    assert records[0].header("b") is None


async def test_a_header_name_that_is_not_utf8_stops_nobody(parts: Addresses) -> None:
    topic = await fresh_topic(parts)
    async with AIOKafkaProducer(bootstrap_servers=parts.kafka_bootstrap) as foreign:
        batch = foreign.create_batch()
        for value in (b"before", b"poisoned"):
            batch.append(timestamp=None, key=b"k", value=value, headers=[(f"of-{value.decode()}", b"1")])
        batch.close()
        # The library itself cannot write such a name; any other client can.
        raw = bytearray(batch._build()).replace(b"of-poisoned", b"\xff\xfe-poisoned")
        raw[17:21] = struct.pack(">I", calc_crc32c(bytes(raw[21:])))
        batch._buffer = raw
        await (await foreign.send_batch(batch, topic, partition=0))
        await foreign.send_and_wait(topic, b"after", partition=0)
    async with Reader(parts.kafka_bootstrap, starts={(topic, 0): 0}) as reader:
        records: list[Record] = []
        while len(records) < 3:
            records += await reader.poll(max_records=10, timeout_ms=5000)

    assert [record.value for record in records] == [b"before", b"poisoned", b"after"]
    assert records[1].headers == (("\N{REPLACEMENT CHARACTER}" * 2 + "-poisoned", b"1"),)


async def test_as_columns_records_are_what_they_are_one_by_one(parts: Addresses) -> None:
    topic = await fresh_topic(parts)
    for compression in (None, "gzip"):
        async with AIOKafkaProducer(
            bootstrap_servers=parts.kafka_bootstrap, compression_type=compression
        ) as foreign:
            sent = []
            for i in range(50):
                headers = [("other", b""), ("traceparent", b"%d" % i), ("salus-signature", b"first")]
                value = None if i == 7 else b"v%d" % i
                sent.append(
                    await foreign.send(
                        topic, value, key=b"k", headers=[*headers, ("salus-signature", b"last")]
                    )
                )
            await asyncio.gather(*sent)
    async with ColumnReader(parts.kafka_bootstrap, starts={(topic, 0): 3}) as reader:
        columns: list[Records] = []
        while sum(map(len, columns)) < 97:
            columns += await reader.poll(max_records=9, timeout_ms=5000)
    async with Reader(parts.kafka_bootstrap, starts={(topic, 0): 3}) as reader:
        records: list[Record] = []
        while len(records) < 97:
            records += await reader.poll(max_records=9, timeout_ms=5000)

    assert [row for part in columns for row in part] == [row for part in records_of(records) for row in part]
    assert columns[0][0] == Row(topic, 0, 3, columns[0].timestamps[0], b"k", b"v3", b"last", b"3")


async def test_end_offsets_and_positions_meet_when_all_is_read(parts: Addresses) -> None:
    topic = await fresh_topic(parts, partitions=2)
    async with Producer(parts.kafka_bootstrap, client_id="test") as producer:
        for i in range(20):
            await producer.send(topic, key=b"%d" % i, value=b"v")
    starts = {(topic, 0): 0, (topic, 1): 0}
    async with Reader(parts.kafka_bootstrap, starts=starts) as reader:
        read = 0
        while read < 20:
            read += len(await reader.poll(max_records=7, timeout_ms=1000))
        ends = await reader.end_offsets()
        positions = {at: await reader.position(*at) for at in reader.partitions}
        begins = await reader.beginning_offsets()

    assert ends == positions
    assert sum(ends.values()) == 20
    assert begins == starts


def offsets_of(polled: list[Record] | list[Records]) -> list[int]:
    return [offset for found in polled for offset in getattr(found, "offsets", None) or [found.offset]]  # type: ignore[union-attr]  # records have one, columns many


@pytest.mark.parametrize("kind", [Reader, ColumnReader])
async def test_what_was_fetched_but_not_handed_out_is_neither_lost_nor_passed(
    parts: Addresses, kind: type[Reader | ColumnReader]
) -> None:
    topic = await fresh_topic(parts)
    async with Producer(parts.kafka_bootstrap, client_id="test") as producer:
        for i in range(10):
            await producer.send(topic, key=b"k", value=b"%d" % i)
    async with kind(parts.kafka_bootstrap, starts={(topic, 0): 0}) as reader:
        first = offsets_of(await reader.poll(max_records=3, timeout_ms=5000))
        reached = await reader.position(topic, 0)
        reader.seek(Position(topic, 0, 8))
        after = [await reader.position(topic, 0)]
        records: list[int] = []
        while len(records) < 2:
            records += offsets_of(await reader.poll(max_records=10, timeout_ms=5000))
        after.append(await reader.position(topic, 0))

    assert first == list(range(len(first)))
    assert reached == len(first) <= 3
    assert records == [8, 9]
    assert after == [8, 10]


async def read_in_answers(
    bootstrap: str, topic: str, *, filled: list[int], partitions: int, count: int
) -> list[Records]:
    """Fill partitions with records of 64 KiB, read all, and return what came of a partition at once."""
    value = b"x" * 65_536
    async with Producer(bootstrap, client_id="test") as producer:
        for partition in filled:
            for _ in range(count):
                await producer.enqueue(topic, key=None, value=value, partition=partition)
        await producer.flush()
    found: list[Records] = []
    async with ColumnReader(bootstrap, starts={(topic, n): 0 for n in range(partitions)}) as reader:
        while sum(map(len, found)) < count * len(filled):
            found += await reader.poll(max_records=10_000, timeout_ms=5000)
    for partition in filled:
        offsets = [o for records in found if records.partition == partition for o in records.offsets]
        assert offsets == list(range(count))
    return found


async def test_the_one_busy_partition_gets_the_room_of_all(parts: Addresses) -> None:
    topic = await fresh_topic(parts, partitions=6)

    found = await read_in_answers(parts.kafka_bootstrap, topic, filled=[4], partitions=6, count=480)

    assert found[0].bytes_of(Part.VALUE) <= AHEAD_BYTES_MAX // 6
    assert max(records.bytes_of(Part.VALUE) for records in found) > AHEAD_BYTES_MAX // 2


async def test_busy_partitions_share_the_room(parts: Addresses) -> None:
    topic = await fresh_topic(parts, partitions=3)

    found = await read_in_answers(parts.kafka_bootstrap, topic, filled=[0, 1, 2], partitions=3, count=160)

    assert all(records.bytes_of(Part.VALUE) <= AHEAD_BYTES_MAX // 3 for records in found)
    assert all(len(records.data) <= AHEAD_BYTES_MAX * 1.01 for records in found)


async def test_offsets_of_many_topics_are_known_at_the_first_question(
    parts: Addresses, caplog: pytest.LogCaptureFixture
) -> None:
    """The library waits half a second for each topic that it was not told of."""
    topics = [await fresh_topic(parts) for _ in range(3)]
    async with Reader(parts.kafka_bootstrap, starts={(topic, 0): 0 for topic in topics}) as reader:
        with caplog.at_level("DEBUG", logger="aiokafka.consumer.fetcher"):
            ends = await reader.end_offsets()

    assert ends == {(topic, 0): 0 for topic in topics}
    assert "wait for metadata refresh" not in caplog.text


async def test_while_records_wait_no_others_are_asked_for(
    parts: Addresses, caplog: pytest.LogCaptureFixture
) -> None:
    """The library would ask for the idle partition alone, again and again, and for the busy one only then."""
    topic = await fresh_topic(parts, partitions=2)
    starts = {(topic, 0): 0, (topic, 1): 0}
    async with (
        Producer(parts.kafka_bootstrap, client_id="test") as producer,
        Reader(parts.kafka_bootstrap, starts=starts) as reader,
    ):
        with caplog.at_level("DEBUG", logger="aiokafka.consumer.fetcher"):
            await (await producer.enqueue(topic, key=None, value=b"first", partition=0))
            await asyncio.sleep(0.5)
            asked_before = caplog.text.count("Adding fetch request")
            await asyncio.sleep(0.5)
            asked = caplog.text.count("Adding fetch request")
        await (await producer.enqueue(topic, key=None, value=b"second", partition=1))
        found: list[bytes | None] = []
        while len(found) < 2:
            found += [r.value for r in await reader.poll(max_records=10, timeout_ms=5000)]

    assert (asked, found) == (asked_before, [b"first", b"second"])
    assert asked_before > 0


async def test_topics_that_exist_are_left_alone(parts: Addresses) -> None:
    topic = await fresh_topic(parts, partitions=3)

    await ensure_topics(parts.kafka_bootstrap, [Topic(topic, 5)])

    assert await partitions_of(parts.kafka_bootstrap, [topic, "no-such-topic"]) == {topic: [0, 1, 2]}


async def test_an_invalid_topic_is_named_in_the_error(parts: Addresses) -> None:
    with pytest.raises(MessagingError, match="no spaces"):
        await ensure_topics(parts.kafka_bootstrap, [Topic("no spaces", 1)])


async def test_a_record_the_broker_cannot_take_is_a_delivery_error(parts: Addresses) -> None:
    topic = await fresh_topic(parts)
    async with Producer(parts.kafka_bootstrap, client_id="test") as producer:
        with pytest.raises(DeliveryError, match=topic):
            await producer.send(topic, key=None, value=b"x" * (33 * 1024 * 1024))


async def test_a_compression_bomb_is_refused_and_stays_out_of_the_topic(parts: Addresses) -> None:
    topic = f"messaging-{uuid.uuid4().hex}"
    await ensure_topics(parts.kafka_bootstrap, [Topic(topic, 1, TOPIC_SETTINGS)])
    async with AIOKafkaProducer(
        bootstrap_servers=parts.kafka_bootstrap,
        compression_type="gzip",
        max_request_size=1 << 30,
        max_batch_size=1 << 30,
    ) as foreign:
        with pytest.raises(MessageSizeTooLargeError):
            await foreign.send_and_wait(topic, bytes(2 * MESSAGE_BYTES_MAX))
        await foreign.send_and_wait(topic, bytes(MESSAGE_BYTES_MAX // 2))
    async with Reader(parts.kafka_bootstrap, starts={(topic, 0): 0}) as reader:
        records = await reader.poll(max_records=10, timeout_ms=10_000)

    assert [len(record.value or b"") for record in records] == [MESSAGE_BYTES_MAX // 2]


async def test_a_broker_that_is_away_is_said_to_be_away() -> None:
    with pytest.raises(BrokerAwayError, match=r"127\.0\.0\.1:1"):
        await ping("127.0.0.1:1")


async def test_a_time_that_the_topic_does_not_take_is_told(parts: Addresses) -> None:
    """Folds judge by the topic's times: one that is put back with another time is not the same record."""
    topic = f"stamps-{uuid.uuid4()}"
    await ensure_topics(parts.kafka_bootstrap, [Topic(topic, 1, TOPIC_SETTINGS)])
    async with Producer(parts.kafka_bootstrap, client_id="stamps") as producer:
        answer = await producer.enqueue(topic, key=b"k", value=b"v", timestamp_ms=1_000)
        with pytest.raises(RefusedByBrokerError, match="takes the broker's time"):
            await answer
        await set_topic_setting(parts.kafka_bootstrap, [topic], "message.timestamp.type", "CreateTime")

        async def is_taken() -> bool:
            # The setting is told to the broker a moment after it was answered.
            with suppress(RefusedByBrokerError):
                await (await producer.enqueue(topic, key=b"k", value=b"v", timestamp_ms=1_000))
                return True
            return False

        assert await until(is_taken, deadline_s=60)
