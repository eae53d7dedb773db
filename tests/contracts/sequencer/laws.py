"""What every implementation of the sequencer's ports must do, whichever one it is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from salus.sequencer.domain import Partition
from salus.sequencer.errors import LogRefusedError
from salus.sequencer.ports import Archive, Log, LogReader


async def a_created_object_is_read_back_and_stays(archive: Archive) -> None:
    assert await archive.read("shard/0/header", bytes_max=1 << 30) is None
    assert not await archive.exists("shard/0/header")
    assert await archive.create("shard/0/header", b"first")
    assert await archive.exists("shard/0/header")
    assert not await archive.create("shard/0/header", b"second")
    assert await archive.read("shard/0/header", bytes_max=1 << 30) == b"first"


async def creating_the_same_bytes_again_is_success(archive: Archive) -> None:
    assert await archive.create("a", b"same")
    assert await archive.create("a", b"same")


async def one_of_many_racing_creators_wins(archive: Archive) -> None:
    won = await asyncio.gather(*(archive.create("race", b"%d" % racer) for racer in range(8)))
    winner = await archive.read("race", bytes_max=1 << 30)

    assert winner is not None
    assert won == [racer == int(winner) for racer in range(8)]


async def read_all(reader: LogReader, count: int) -> list[tuple[int, bytes | None]]:
    found: list[tuple[int, bytes | None]] = []
    async with asyncio.timeout(60):
        while len(found) < count:
            polled = await reader.poll(max_records=2, timeout_ms=200)
            assert sum(map(len, polled)) <= 2
            found += [(row.offset, row.value) for records in polled for row in records]
    return found


async def records_come_in_order_from_where_reading_starts(
    log: Log, at: Partition, append: Callable[[bytes], Awaitable[None]]
) -> None:
    for number in range(5):
        await append(b"%d" % number)
    async with log.open({at: 2}) as reader:
        assert await read_all(reader, 3) == [(2, b"2"), (3, b"3"), (4, b"4")]
        assert await reader.poll(max_records=2, timeout_ms=50) == []
        assert await reader.positions() == {at: 5}
        assert await reader.ends() == {at: 5}
        assert await reader.beginnings() == {at: 0}
        await append(b"5")
        assert await read_all(reader, 1) == [(5, b"5")]


async def records_that_are_read_one_by_one_have_all_their_headers(
    log: Log, at: Partition, append: Callable[[bytes], Awaitable[None]]
) -> None:
    for number in range(3):
        await append(b"%d" % number)
    async with log.open_one_by_one({at: 1}) as reader:
        assert await reader.ends() == {at: 3}
        async with asyncio.timeout(60):
            while not (records := await reader.poll(max_records=1, timeout_ms=200)):
                pass
        assert [(r.offset, r.value, r.header("number")) for r in records] == [(1, b"1", b"1")]


async def a_position_beyond_the_end_is_refused(
    log: Log, at: Partition, append: Callable[[bytes], Awaitable[None]]
) -> None:
    await append(b"only")
    async with log.open({at: 7}) as reader:
        with pytest.raises(LogRefusedError):
            await read_all(reader, 1)


async def a_position_before_the_beginning_is_refused(
    log: Log,
    at: Partition,
    append: Callable[[bytes], Awaitable[None]],
    retire: Callable[[int], Awaitable[None]],
) -> None:
    for number in range(5):
        await append(b"%d" % number)
    await retire(3)
    async with log.open({at: 1}) as reader:
        assert (await reader.beginnings())[at] == 3
        with pytest.raises(LogRefusedError):
            await read_all(reader, 1)


async def the_log_says_that_it_ends_after_what_it_hands_out(
    log: Log, at: Partition, append: Callable[[bytes], Awaitable[None]]
) -> None:
    for number in range(3):
        await append(b"%d" % number)
    async with log.open({at: 0}) as reader:
        found = await read_all(reader, 3)
        ends = reader.seen_ends

    assert [offset for offset, _ in found] == [0, 1, 2]
    assert ends[at] == 3


ARCHIVE_LAWS = (
    a_created_object_is_read_back_and_stays,
    creating_the_same_bytes_again_is_success,
    one_of_many_racing_creators_wins,
)
LOG_LAWS = (
    records_come_in_order_from_where_reading_starts,
    records_that_are_read_one_by_one_have_all_their_headers,
    a_position_beyond_the_end_is_refused,
    the_log_says_that_it_ends_after_what_it_hands_out,
)
