"""A damaged batch stops its own partition, loudly, and no other."""

from __future__ import annotations

from array import array
from typing import Any

import pytest
from aiokafka import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from salus.ledger.records import STRIDE, Records
from salus.messaging import (
    ColumnReader,
    CorruptBatchError,
    MissingRecordsError,
    PartitionMismatchError,
    Position,
    Reader,
    Record,
    backlog,
    reader,
)
from salus.messaging.unpacking import Corrupt, Missing, Rows

BROKEN, SOUND = TopicPartition("t", 0), TopicPartition("t", 1)


class Consumer:
    """The library's consumer, as far as a reader asks it."""

    def __init__(self, *answers: dict[TopicPartition, list[Any]], partitions: int = 2) -> None:
        self.answers = [*answers]
        self.timeouts: list[int] = []
        self.ends: dict[TopicPartition, int] = {}
        self.paused: set[TopicPartition] = set()
        self._fetcher = self._client = self.cluster = self
        self._partitions = partitions

    async def getmany(self, *, timeout_ms: int) -> dict[TopicPartition, list[Any]]:
        self.timeouts.append(timeout_ms)
        return {at: found for at, found in self.answers.pop(0).items() if at not in self.paused}

    def highwater(self, at: TopicPartition) -> int | None:
        return self.ends.get(at)

    def pause(self, at: TopicPartition) -> None:
        self.paused.add(at)

    def resume(self, at: TopicPartition) -> None:
        self.paused.remove(at)

    def seek(self, at: TopicPartition, offset: int) -> None:
        self.sought = at, offset

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


async def test_a_topic_of_which_records_are_gone_is_not_whole_and_is_read_on() -> None:
    consumer = Consumer({SOUND: [rows(SOUND, 0), Missing("t", 1, 1, 4), rows(SOUND, 4)]}, {BROKEN: []})
    made = reading(consumer)

    assert await offsets(made) == [(1, 0), (1, 4)]
    with pytest.raises(MissingRecordsError, match="t 1: of the records from offset 1 to 3 some are gone"):
        made.require_whole_topics()
    assert await offsets(made) == []
    assert [*made.missing] == [("t", 1)]
    made.require_whole({("t", 1): 1})
    with pytest.raises(MissingRecordsError):
        made.require_whole({("t", 1): 2})
    # Whoever reads on behind it knows of it; whoever reads again from before it sees what there is then.
    made.seek(Position("t", 1, 4))
    assert [*made.missing] == [("t", 1)]
    made.seek(Position("t", 1, 0))
    assert not made.missing


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


async def test_a_flood_of_one_partition_keeps_no_other_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "FLOOD_RECORDS_MIN", 150)
    flood, other = TopicPartition("t", 0), TopicPartition("t", 1)
    consumer = Consumer(
        {flood: [rows(flood, *range(300))]},
        {other: [rows(other, 0, 1)]},
        {flood: [rows(flood, *range(300, 310))], other: []},
    )
    made = reading(consumer)

    assert await offsets(made) == [(0, offset) for offset in range(100)]
    assert consumer.paused == {flood}, "the library would bring more of it in place of the others"
    assert await offsets(made) == [(1, 0), (1, 1), *((0, offset) for offset in range(100, 198))]
    assert consumer.timeouts == [1, 0], "nobody waits for others while records are there"
    assert (consumer.paused, await made.position("t", 0)) == (set(), 198)

    assert await offsets(made) == [(0, offset) for offset in range(198, 298)]
    assert await offsets(made) == [(0, 298), (0, 299)]
    assert await offsets(made) == [(0, offset) for offset in range(300, 310)]
    assert consumer.timeouts == [1, 0, 1]


async def test_a_partition_that_is_damaged_in_a_flood_stays_paused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "FLOOD_RECORDS_MIN", 150)
    consumer = Consumer({BROKEN: [rows(BROKEN, *range(200)), Corrupt("t", 0, 200)]}, {}, {})
    made = reading(consumer)

    for left in (100, 0):
        assert len(await offsets(made)) == 100
        assert consumer.paused == {BROKEN}, left


class Flood(Consumer):
    """Answers with one batch of one partition each time, as a broker does with batches of 32 MiB."""

    def __init__(self, partitions: int, *, times: int, records: int, data_bytes: int) -> None:
        super().__init__(partitions=partitions)
        self._left = dict.fromkeys(range(partitions), times)
        self._times, self._records, self._data_bytes = times, records, data_bytes

    async def getmany(self, *, timeout_ms: int) -> dict[TopicPartition, list[Any]]:
        self.timeouts.append(timeout_ms)
        for partition, left in sorted(self._left.items(), key=lambda item: -item[1]):
            at = TopicPartition("t", partition)
            if left and at not in self.paused:
                self._left[partition] -= 1
                return {at: [columns(partition, self._times - left, self._records, bytes(self._data_bytes))]}
        return {}


def columns(partition: int, number: int, records: int, data: bytes) -> Records:
    offsets = array("q", range(number * records, (number + 1) * records))
    return Records(
        "t", partition, offsets, array("q", [0]) * records, data, array("q", [-1] * STRIDE) * records
    )


async def test_in_a_flood_of_many_partitions_what_waits_is_bounded_in_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    partitions, times, records, answer = 24, 2, 50, 10_000 + 50 * 80
    monkeypatch.setattr(backlog, "FLOOD_RECORDS_MIN", 20)
    monkeypatch.setattr(backlog, "WAITING_BYTES_MAX", 3 * answer)
    consumer = Flood(partitions, times=times, records=records, data_bytes=10_000)
    made = ColumnReader("kafka", starts={("t", partition): 0 for partition in range(partitions)})
    made._consumer = made._asking = consumer
    handed_out = most = 0
    while handed_out < partitions * times * records:
        runs = await made.poll(max_records=10, timeout_ms=1)
        assert runs, "what waits is handed out without a question"
        handed_out += sum(map(len, runs))
        waiting = [run for queue in made._waiting._queues.values() for run in queue]
        most = max(most, sum(len(run.data) + run.own_bytes for run in waiting))

    assert most == 3 * answer, "others are asked for while there is room, and no longer"
    assert (made._waiting._bytes, dict(made._waiting._sharers)) == (0, {})


def test_an_answer_that_several_partitions_share_is_counted_once_until_the_last_lets_it_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer = bytes(10_000)
    waiting: backlog.Backlog[Records] = backlog.Backlog()
    waiting.add([columns(0, 0, 10, answer), columns(1, 0, 10, answer), columns(1, 1, 10, answer)])

    def takes(count: int) -> bool:
        with monkeypatch.context() as bound:
            bound.setattr(backlog, "WAITING_BYTES_MAX", count)
            is_full = not waiting.has_room
            bound.setattr(backlog, "WAITING_BYTES_MAX", count + 1)
            return is_full and waiting.has_room

    assert takes(10_000 + 30 * 80)
    assert len(waiting.take(5)) == 1
    assert takes(10_000 + 30 * 80), "the columns stay until the last record"
    assert len(waiting.take(5)) == 1
    assert takes(10_000 + 20 * 80)
    waiting.drop(("t", 1))
    assert takes(0)


def test_of_single_records_their_bytes_and_headers_are_counted() -> None:
    empty = Rows.of("t", 0, [Record("t", 0, 0, 0, None, None, ())])
    filled = Rows.of("t", 0, [Record("t", 0, 0, 0, b"k" * 10, b"v" * 100, (("name", b"h" * 1000),))])

    assert empty.own_bytes > 0
    assert filled.own_bytes > empty.own_bytes + 1110


RUNS = st.lists(st.tuples(st.integers(0, 4), st.integers(1, 40)), max_size=12)


@given(RUNS, st.lists(st.integers(1, 60), min_size=1), st.sampled_from([0, 50, 10_000]))
def test_what_waits_is_handed_out_in_order_and_shared_out_in_a_flood(
    runs: list[tuple[int, int]], rooms: list[int], flood: int
) -> None:
    waiting: backlog.Backlog[Rows] = backlog.Backlog()
    ends = [0] * 5
    for partition, count in runs:
        first = ends[partition]
        ends[partition] += count
        waiting.add([rows(TopicPartition("t", partition), *range(first, ends[partition]))])
    given_out = [0] * 5
    with pytest.MonkeyPatch.context() as small:
        small.setattr(backlog, "FLOOD_RECORDS_MIN", flood)
        while waiting:
            room = rooms[sum(given_out) % len(rooms)]
            left = [end - there for end, there in zip(ends, given_out, strict=True)]
            was_flood, share = sum(left) > flood, room // sum(map(bool, left))
            got = [0] * 5
            for run in waiting.take(room):
                assert run.offsets[0] == given_out[run.partition]
                given_out[run.partition] += len(run)
                got[run.partition] += len(run)
            assert sum(got) == min(room, sum(left))
            if was_flood:
                assert all(have >= min(share, there) for have, there in zip(got, left, strict=True))
            assert all(
                waiting.first(("t", at)) == (given_out[at] if given_out[at] < ends[at] else None)
                for at in range(5)
            )
    assert given_out == ends
