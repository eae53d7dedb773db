"""Whoever is cancelled while a client connects, asks or closes leaves no connection behind."""

from __future__ import annotations

import asyncio
import gc
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiokafka.conn import AIOKafkaConnection

from salus.devkit.addresses import Addresses
from salus.devkit.waiting import until
from salus.messaging import Producer, Reader, Topic, ensure_topics, ping

# Steps of about a millisecond, from before the first byte to after a slow machine has connected.
DELAYS_S = [step * step / 20_000 for step in range(60)]


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> list[AIOKafkaConnection]:
    """Every connection made meanwhile; holding them keeps the collector from closing a forgotten one."""
    made: list[AIOKafkaConnection] = []
    connect = AIOKafkaConnection.connect

    async def remembering(self: AIOKafkaConnection) -> Any:
        made.append(self)
        return await connect(self)

    monkeypatch.setattr(AIOKafkaConnection, "connect", remembering)
    return made


async def read(bootstrap: str, topic: str) -> None:
    async with Reader(bootstrap, starts={(topic, 0): 0}) as reader:
        await reader.end_offsets()
        await reader.poll(max_records=1, timeout_ms=1)


async def write(bootstrap: str, topic: str) -> None:
    async with Producer(bootstrap, client_id="cancelled") as producer:
        await producer.enqueue(topic, key=None, value=b"v")


async def ask(bootstrap: str, _topic: str) -> None:
    await ping(bootstrap)


@pytest.mark.parametrize("use", [read, write, ask])
async def test_a_cancelled_client_leaves_no_connection(
    parts: Addresses, connections: list[AIOKafkaConnection], use: Callable[[str, str], Awaitable[None]]
) -> None:
    topic = f"messaging-{uuid.uuid4().hex}"
    await ensure_topics(parts.kafka_bootstrap, [Topic(topic, 1)])

    for delay in DELAYS_S:
        task = asyncio.ensure_future(use(parts.kafka_bootstrap, topic))
        await asyncio.wait([task], timeout=delay)
        task.cancel()
        await asyncio.wait([task])
        assert [c for c in connections if c.connected()] == [], f"cancelled after {delay * 1000:.2f} ms"

    assert len(connections) > len(DELAYS_S)
    gc.collect()


# red team 5, A3: `spurious.py`
async def test_whose_connections_broke_is_not_cancelled_by_closing(
    parts: Addresses, connections: list[AIOKafkaConnection]
) -> None:
    topic = f"messaging-{uuid.uuid4().hex}"
    await ensure_topics(parts.kafka_bootstrap, [Topic(topic, 1)])

    async def broken() -> None:
        async with Reader(parts.kafka_bootstrap, starts={(topic, 0): 0}) as reader:
            await reader.poll(max_records=1, timeout_ms=200)
            client = reader._open._client
            assert await until(lambda: any(each._requests for each in client._conns.values()), deadline_s=60)
            # What a broker does that restarts. The library then pauses, in a task that it cancels and awaits.
            for connection in list(client._conns.values()):
                connection.close()
            for _ in range(20):
                await asyncio.sleep(0)

    task = asyncio.create_task(broken())
    await asyncio.wait([task])

    assert not task.cancelled()
    assert task.exception() is None
    assert [each for each in connections if each.connected()] == []
