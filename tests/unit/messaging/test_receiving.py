"""Answers that are received in place are those that the usual stream gives, and so are the errors."""

from __future__ import annotations

import asyncio
import gc
import logging
import struct
import weakref
from io import BytesIO
from random import Random

import pytest
from aiokafka import conn as library
from aiokafka.protocol import fetch
from hypothesis import given
from hypothesis import strategies as st

import salus.messaging  # noqa: F401  # what is under test is what importing it does
from salus.messaging import receiving
from salus.messaging.receiving import BYTES_MIN, PIECE_BYTES, AnswerProtocol, AnswerReader, Piece, RecordBytes

LARGE = BYTES_MIN + 1000
BYTES = Random(7).randbytes(5 * LARGE)


class Transport(asyncio.Transport):
    """A transport that remembers whether it is paused."""

    paused = False

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


class Connection:
    """One end of a connection, and what asyncio does at it."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.closed: asyncio.Future[None] = loop.create_future()
        self.reader = asyncio.StreamReader(limit=2**16, loop=loop)
        self.protocol = library.AIOKafkaProtocol(self.closed, self.reader, loop=loop)
        self.transport = Transport()
        self.protocol.connection_made(self.transport)

    def receive(self, data: bytes) -> None:
        """Receive as much as there is, in as many steps as the protocol wants."""
        while data:
            into = self.protocol.get_buffer(-1)
            count = min(len(into), len(data))
            into[:count] = data[:count]
            self.protocol.buffer_updated(count)
            data = data[count:]

    def reading(self, size: int) -> asyncio.Task[bytes]:
        return asyncio.create_task(self.reader.readexactly(size))


def pattern(size: int, salt: int = 0) -> bytes:
    return BYTES[salt : salt + size]


async def test_the_library_connects_so() -> None:
    connection = Connection()

    assert isinstance(connection.protocol, AnswerProtocol)
    assert isinstance(connection.protocol, asyncio.BufferedProtocol)
    assert isinstance(connection.reader, AnswerReader)


SIZES = st.lists(
    st.integers(0, 40) | st.sampled_from([BYTES_MIN - 1, BYTES_MIN, LARGE, 3 * LARGE]), min_size=1, max_size=4
)


@given(SIZES, st.lists(st.integers(1, 2 * LARGE), max_size=6), st.integers(LARGE // 4, 2 * LARGE))
def test_however_it_comes_the_same_is_read(sizes: list[int], small: list[int], large: int) -> None:
    async def main() -> None:
        steps = [*small, large]
        connection = Connection()
        data = b"".join(pattern(size, salt) for salt, size in enumerate(sizes))
        reading = [connection.reading(size) for size in sizes[:1]]
        at = turn = 0
        found: list[bytes] = []
        while len(found) < len(sizes):
            step = steps[turn % len(steps)]
            if not connection.transport.paused:
                connection.receive(data[at : at + step])
                at, turn = at + step, turn + 1
            for _ in range(3):
                await asyncio.sleep(0)
            while reading[-1].done():
                found.append(reading[-1].result())
                if len(found) == len(sizes):
                    break
                reading.append(connection.reading(sizes[len(found)]))
                await asyncio.sleep(0)
        assert [*map(type, found)] == [bytes] * len(sizes)
        assert found == [pattern(size, salt) for salt, size in enumerate(sizes)]

    asyncio.run(main())


async def test_a_large_answer_is_written_in_place_and_is_not_written_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connection = Connection()
    reading = connection.reading(LARGE)
    await asyncio.sleep(0)
    assert len(connection.protocol.get_buffer(-1)) == LARGE
    with monkeypatch.context() as patch:
        patch.setattr(connection.reader, "feed_data", None)
        connection.receive(pattern(LARGE))
    assert len(connection.protocol.get_buffer(-1)) == PIECE_BYTES
    connection.receive(b"next")

    assert await reading == pattern(LARGE)
    assert await connection.reader.readexactly(4) == b"next"


async def test_what_was_lent_before_anybody_waited_is_not_lost() -> None:
    connection = Connection()
    piece = connection.protocol.get_buffer(-1)
    reading = connection.reading(LARGE)
    await asyncio.sleep(0)
    # Another pattern: the memory that is lent may be that of another test.
    piece[:5] = pattern(5, 99)
    connection.protocol.buffer_updated(5)
    connection.receive(pattern(LARGE, 99)[5:])

    assert await reading == pattern(LARGE, 99)


async def test_the_transport_goes_on_when_what_it_was_paused_for_is_taken() -> None:
    connection = Connection()
    connection.receive(pattern(3 * LARGE))
    paused = [connection.transport.paused]
    reading = connection.reading(4 * LARGE)
    await asyncio.sleep(0)

    assert [*paused, connection.transport.paused] == [True, False]
    connection.receive(pattern(4 * LARGE)[3 * LARGE :])
    assert await reading == pattern(4 * LARGE)


@pytest.mark.parametrize("before", [0, 1, LARGE - 1])
@pytest.mark.parametrize("while_it_waits", [0, 1])
async def test_an_end_in_the_middle_is_told_with_what_came(before: int, while_it_waits: int) -> None:
    connection = Connection()
    connection.receive(pattern(LARGE)[: before // 2])
    reading = connection.reading(LARGE)
    await asyncio.sleep(0)
    connection.receive(pattern(LARGE)[before // 2 : before])
    if while_it_waits:
        await asyncio.sleep(0)
    assert connection.protocol.eof_received()

    with pytest.raises(asyncio.IncompleteReadError) as error:
        await reading
    assert (error.value.partial, error.value.expected) == (pattern(LARGE)[:before], LARGE)
    assert connection.reader.at_eof()
    with pytest.raises(asyncio.IncompleteReadError):
        await connection.reader.readexactly(LARGE)


@pytest.mark.parametrize("behind", [b"", b"more"])
async def test_what_came_before_the_end_is_read(behind: bytes) -> None:
    connection = Connection()
    connection.receive(pattern(LARGE) + behind)
    connection.protocol.eof_received()

    assert await connection.reader.readexactly(LARGE) == pattern(LARGE)
    assert await connection.reader.read() == behind


async def test_an_end_between_answers_is_told() -> None:
    connection = Connection()
    reading = connection.reading(LARGE)
    await asyncio.sleep(0)
    connection.receive(pattern(LARGE))
    assert await reading == pattern(LARGE)
    connection.protocol.eof_received()
    connection.protocol.connection_lost(None)

    assert connection.reader.at_eof()
    with pytest.raises(asyncio.IncompleteReadError):
        await connection.reader.readexactly(LARGE)


async def test_an_end_that_was_there_before_is_told() -> None:
    connection = Connection()
    connection.receive(b"some")
    connection.protocol.eof_received()

    with pytest.raises(asyncio.IncompleteReadError) as error:
        await connection.reader.readexactly(LARGE)
    assert (error.value.partial, error.value.expected) == (b"some", LARGE)


@pytest.mark.parametrize("lost", [None, ConnectionResetError("by peer")])
async def test_a_lost_connection_is_told(lost: Exception | None) -> None:
    connection = Connection()
    reading = connection.reading(LARGE)
    await asyncio.sleep(0)
    connection.receive(b"some")
    connection.protocol.connection_lost(lost)

    with pytest.raises(asyncio.IncompleteReadError if lost is None else ConnectionResetError):
        await reading
    assert connection.closed.done()
    if lost is not None:
        assert connection.reader.exception() is lost
        with pytest.raises(ConnectionResetError):
            await connection.reader.readexactly(LARGE)


@pytest.mark.parametrize("come", [0, 7, LARGE - 1, LARGE, LARGE + 3])
async def test_who_is_cancelled_leaves_what_came(come: int) -> None:
    connection = Connection()
    reading = connection.reading(LARGE)
    await asyncio.sleep(0)
    connection.receive(pattern(2 * LARGE)[:come])
    reading.cancel()
    await asyncio.wait([reading])
    connection.receive(pattern(2 * LARGE)[come:])

    assert reading.cancelled()
    assert await connection.reader.readexactly(2 * LARGE) == pattern(2 * LARGE)


async def test_who_is_cancelled_at_the_end_is_cancelled_and_nothing_more(
    complaints: list[dict[str, object]],
) -> None:
    for end in (None, ConnectionResetError("by peer")):
        connection = Connection()
        reading = connection.reading(LARGE)
        await asyncio.sleep(0)
        connection.receive(b"some")
        connection.protocol.connection_lost(end)
        reading.cancel()
        await asyncio.wait([reading])
        assert reading.cancelled()
        del connection, reading
    gc.collect()
    await asyncio.sleep(0)

    assert complaints == []


async def test_no_memory_is_taken_for_what_is_only_announced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiving, "BYTES_MAX", LARGE)
    connection = Connection()
    reading = connection.reading(LARGE + 1)
    await asyncio.sleep(0)

    assert len(connection.protocol.get_buffer(-1)) == PIECE_BYTES
    connection.receive(pattern(LARGE + 1))
    assert await reading == pattern(LARGE + 1)


async def test_a_number_below_zero_is_refused_as_ever() -> None:
    with pytest.raises(ValueError, match="less than zero"):
        await Connection().reader.readexactly(-1)


async def test_a_connection_that_nobody_has_is_let_go_of_without_looking_for_cycles() -> None:
    gc.disable()
    try:
        connection = Connection()
        gone = weakref.ref(connection.reader)
        protocol = connection.protocol
        connection.closed.cancel()
        del connection
        assert gone() is None
        protocol.get_buffer(-1)[:4] = b"late"
        protocol.buffer_updated(4)
    finally:
        gc.enable()


def answer_of(version: int, records: bytes) -> bytes:
    """Return an answer with one partition (Kafka protocol, FetchResponse)."""
    partition = (
        struct.pack(">ihq", 3, 0, 9)
        + {
            0: b"",
            4: struct.pack(">qi", 9, -1),
            5: struct.pack(">qqi", 9, 0, -1),
            11: struct.pack(">qqii", 9, 0, -1, -1),
        }[max(v for v in (0, 4, 5, 11) if v <= version)]
    )
    head = b"" if version == 0 else struct.pack(">i", 0)
    head += b"" if version < 7 else struct.pack(">hi", 0, 0)
    return head + struct.pack(">ih1si", 1, 1, b"t", 1) + partition + records


@pytest.mark.parametrize("version", range(12))
def test_records_stay_where_they_are_in_every_version_of_the_answer(version: int) -> None:
    raw = answer_of(version, struct.pack(">i", 7) + b"records")
    ((topic, ((partition, *_, records),)),) = (
        getattr(fetch, f"FetchResponse_v{version}").decode(BytesIO(raw)).topics
    )

    assert (topic, partition) == ("t", 3)
    assert records == Piece(raw, len(raw) - 7, len(raw))
    assert records.answer is raw


@pytest.mark.parametrize("version", [4, 11])
def test_fewer_records_than_announced_are_refused(version: int) -> None:
    answer = getattr(fetch, f"FetchResponse_v{version}")

    with pytest.raises(ValueError, match="fewer"):
        answer.decode(BytesIO(answer_of(version, struct.pack(">i", 8) + b"records")))


def test_no_records_are_none_and_none_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    raw = answer_of(11, struct.pack(">i", 7) + b"records")
    with caplog.at_level("DEBUG"):
        logging.getLogger().debug("%s", fetch.FetchResponse_v11.decode(BytesIO(raw)))

    assert RecordBytes.decode(BytesIO(struct.pack(">i", -1))) is None
    assert RecordBytes.repr(None) == "NULL"
    assert "7 bytes" in caplog.text
    assert "records'" not in caplog.text
