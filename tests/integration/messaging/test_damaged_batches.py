"""A broker's disk that changes a byte: its partition is not read on, others are, and it mends by itself."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from salus.devkit.kafka_server import KafkaServer, kafka_needs
from salus.devkit.narration import PlainNarrator
from salus.devkit.processes import Place
from salus.devkit.waiting import until
from salus.messaging import ColumnReader, CorruptBatchError, Producer, Topic, ensure_topics, reader

TOPIC = "damaged"
WAIT_S = 60


def flip(folder: Path, value: bytes) -> None:
    """Change one byte of a value where the broker keeps it, or change it back."""
    (segment,) = folder.glob(f"damaged-*/data/{TOPIC}-0/*.log")
    with segment.open("r+b") as file:
        data = file.read()
        at = data.index(value[1:])
        file.seek(at - 1)
        file.write(bytes([data[at - 1] ^ 1]))


@pytest.fixture
async def broker(session_folder: Path) -> AsyncIterator[KafkaServer]:
    """A broker of this test's own, whose disk may fail."""
    if absent := kafka_needs():
        pytest.skip(f"needs a broker of its own; {', '.join(absent)} is missing")
    folder = session_folder / f"damaged-{uuid.uuid4().hex[:8]}"
    server = KafkaServer(Place(folder, folder / "logs", detached=False), PlainNarrator())
    await server.start()
    yield server
    await server.stop()


async def send(broker: KafkaServer, *values: bytes, partition: int) -> None:
    async with Producer(broker.bootstrap, client_id="test", linger_ms=0) as producer:
        for value in values:
            await (await producer.enqueue(TOPIC, key=None, value=value, partition=partition))


async def read(columns: ColumnReader, *, until_there: set[tuple[int, int]]) -> set[tuple[int, int]]:
    """Return what is read, by partition and offset, as soon as these are among it."""
    found: set[tuple[int, int]] = set()

    async def are_there() -> bool:
        for run in await columns.poll(max_records=100, timeout_ms=100):
            found.update((run.partition, offset) for offset in run.offsets)
        return until_there <= found

    assert await until(are_there, deadline_s=WAIT_S), found
    return found


async def test_a_damaged_batch_stops_its_own_partition_until_it_is_whole(
    broker: KafkaServer, session_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # case K3
    monkeypatch.setattr(reader, "DAMAGED_RETRY_S", 0.2)
    await ensure_topics(broker.bootstrap, [Topic(TOPIC, 2)])
    damaged = uuid.uuid4().bytes
    await send(broker, b"before", damaged, b"after", partition=0)
    flip(session_folder, damaged)
    await send(broker, b"sound", partition=1)
    async with ColumnReader(broker.bootstrap, starts={(TOPIC, 0): 0, (TOPIC, 1): 0}) as columns:
        found = await read(columns, until_there={(0, 0), (1, 0)})
        await send(broker, b"sound too", partition=1)
        found |= await read(columns, until_there={(1, 1)})

        assert found == {(0, 0), (1, 0), (1, 1)}
        assert columns.damaged == {(TOPIC, 0): 1}
        assert await columns.position(TOPIC, 0) == 1
        with pytest.raises(CorruptBatchError, match=f"{TOPIC} 0: the record batch at offset 1"):
            columns.require_whole_topics()

        flip(session_folder, damaged)
        await read(columns, until_there={(0, 1), (0, 2)})
        columns.require_whole_topics()
