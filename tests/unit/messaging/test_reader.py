"""A damaged batch stops its own partition, loudly, and no other."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka import TopicPartition

from salus.messaging import CorruptBatchError, PartitionMismatchError, Reader, Record, reader
from salus.messaging.unpacking import Corrupt, Rows

BROKEN, SOUND = TopicPartition("t", 0), TopicPartition("t", 1)


class Consumer:
    """The library's consumer, as far as a reader asks it."""

    def __init__(self, *answers: dict[TopicPartition, list[Any]], partitions: int = 2) -> None:
        self.answers = [*answers]
        self.ends: dict[TopicPartition, int] = {}
        self.paused: set[TopicPartition] = set()
        self._fetcher = self._client = self.cluster = self
        self._partitions = partitions

    async def getmany(self, *, timeout_ms: int) -> dict[TopicPartition, list[Any]]:
        assert timeout_ms == 1
        return self.answers.pop(0)

    def highwater(self, at: TopicPartition) -> int | None:
        return self.ends.get(at)

    def pause(self, at: TopicPartition) -> None:
        self.paused.add(at)

    def resume(self, at: TopicPartition) -> None:
        self.paused.remove(at)

    def partitions_for_topic(self, topic: str) -> set[int]:
        assert topic == "t"
        return {*range(self._partitions)}


def rows(at: TopicPartition, *offsets: int) -> Rows:
    records = [Record(at.topic, at.partition, offset, 0, None, b"v", ()) for offset in offsets]
    return Rows.of(at.topic, at.partition, records)


def reading(consumer: Consumer) -> Reader:
    made = Reader("kafka", starts={("t", 0): 0, ("t", 1): 0})
    made._consumer = made._asking = consumer
    return made


async def offsets(made: Reader) -> list[tuple[int, int]]:
    return [(r.partition, r.offset) for r in await made.poll(max_records=100, timeout_ms=1)]


async def test_a_damaged_batch_stops_its_own_partition_until_it_is_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # case K3
    seconds = [0.0]
    monkeypatch.setattr(reader, "monotonic", lambda: seconds[0])
    consumer = Consumer(
        {BROKEN: [rows(BROKEN, 0, 1), Corrupt("t", 0, 2)], SOUND: [rows(SOUND, 0)]},
        {SOUND: [rows(SOUND, 1)]},
        {BROKEN: [rows(BROKEN, 2)]},
    )
    made = reading(consumer)

    assert await offsets(made) == [(0, 0), (0, 1), (1, 0)]
    assert (consumer.paused, made.damaged) == ({BROKEN}, {("t", 0): 2})
    with pytest.raises(CorruptBatchError, match="t 0: the record batch at offset 2 is damaged"):
        made.require_whole_topics()

    assert await offsets(made) == [(1, 1)]
    assert consumer.paused == {BROKEN}

    seconds[0] = reader.DAMAGED_RETRY_S
    assert await offsets(made) == [(0, 2)]
    assert (consumer.paused, made.damaged) == (set(), {})
    made.require_whole_topics()


async def test_of_the_ends_that_the_broker_said_the_highest_counts() -> None:
    # A leader that was elected a moment ago may say less than the one before.
    consumer = Consumer({}, {}, {})
    made = reading(consumer)
    seen = []
    for end in (None, 7, 5):
        if end is not None:
            consumer.ends[SOUND] = end
        await offsets(made)
        seen.append(dict(made.seen_ends))

    assert seen == [{}, {("t", 1): 7}, {("t", 1): 7}]


def test_a_topic_with_more_partitions_than_are_read_is_not_whole() -> None:
    # case K1
    with pytest.raises(PartitionMismatchError, match="nobody reads t 2"):
        reading(Consumer(partitions=3)).require_whole_topics()
