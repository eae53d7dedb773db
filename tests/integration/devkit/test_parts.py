"""The parts are the real ones, and can be used as the design needs."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from salus.devkit.addresses import Addresses
from salus.devkit.free_ports import free_ports, is_free, listens
from salus.devkit.narration import SilentNarrator
from salus.devkit.parts import LocalParts
from salus.devkit.processes import Place, is_alive, start_time
from salus.devkit.waiting import until
from salus.messaging import Producer, Reader, Topic, ensure_topics, partitions_of

BIG = 20 * 1024 * 1024
HOLDER = """
import asyncio, pathlib, sys
from salus.devkit.narration import SilentNarrator
from salus.devkit.parts import LocalParts
from salus.devkit.processes import Place

async def hold():
    folder = pathlib.Path(sys.argv[1])
    parts = LocalParts(Place(folder, folder / "logs", detached=False), SilentNarrator())
    await parts.start(None)
    print(*(record.pid for record in parts.processes()), flush=True)
    await asyncio.sleep(600)

asyncio.run(hold())
"""


async def write(bootstrap: str, topic: str, value: bytes) -> int:
    async with Producer(bootstrap, client_id="devkit-test") as producer:
        position = await (await producer.enqueue(topic, key=b"k", value=value, headers=[("h", b"1")]))
    return position.offset


async def read(bootstrap: str, topic: str, offset: int) -> list[tuple[int, bytes | None]]:
    async with Reader(bootstrap, starts={(topic, 0): offset}) as reader:
        records = await reader.poll(max_records=10, timeout_ms=10_000)
    return [(record.offset, record.value) for record in records]


async def test_a_record_of_twenty_megabytes_goes_through(parts: Addresses):
    topic = "devkit.large"
    await ensure_topics(
        parts.kafka_bootstrap, [Topic(topic, 1, {"max.message.bytes": str(32 * 1024 * 1024)})]
    )
    value = bytes(BIG)

    offset = await write(parts.kafka_bootstrap, topic, value)

    assert await read(parts.kafka_bootstrap, topic, offset) == [(offset, value)]


async def test_a_topic_is_never_made_by_a_typing_mistake(parts: Addresses):
    # Asking for a topic makes it, on a broker that allows that.
    async with Reader(parts.kafka_bootstrap, starts={("devkit.mistyped", 0): 0}) as reader:
        assert await reader.poll(max_records=1, timeout_ms=1_000) == []

    assert await partitions_of(parts.kafka_bootstrap, ["devkit.mistyped"]) == {}


async def test_stopped_and_restarted_parts_keep_their_addresses_and_data(tmp_path: Path):
    place = Place(tmp_path, tmp_path / "logs", detached=False)
    first = LocalParts(place, SilentNarrator())
    addresses = await first.start(None)
    try:
        await ensure_topics(addresses.kafka_bootstrap, [Topic("kept", 1)])
        await write(addresses.kafka_bootstrap, "kept", b"before")
        await first.restart_kafka()
        assert await read(addresses.kafka_bootstrap, "kept", 0) == [(0, b"before")]
    finally:
        await first.stop()
    assert not any(map(is_alive, first.processes()))

    second = LocalParts(place, SilentNarrator())
    try:
        assert await second.start(addresses) == addresses
        assert await read(addresses.kafka_bootstrap, "kept", 0) == [(0, b"before")]
    finally:
        await second.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
async def test_kafka_and_minio_end_with_a_program_that_was_killed(tmp_path: Path):
    holder = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLDER, str(tmp_path), stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    async with asyncio.timeout(120):
        pids = [int(pid) for pid in (await holder.stdout.readline()).split()]
    assert len(pids) == 2

    holder.kill()
    await holder.wait()

    assert await until(lambda: not any(start_time(pid) for pid in pids), deadline_s=60)


async def test_a_port_in_use_is_not_taken_for_free(parts: Addresses):
    taken = int(parts.kafka_bootstrap.rpartition(":")[2])
    [free] = free_ports(1)

    assert await listens(taken)
    assert not is_free(taken)
    assert is_free(free)
    assert free_ports(1, preferred=[free]) == [free]
    assert free_ports(1, preferred=[taken]) != [taken]
    assert len(set(free_ports(20))) == 20
