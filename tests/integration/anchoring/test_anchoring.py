"""The real service on real Kafka and MinIO: the log over HTTP, receipts, kills, races, one of them away."""

from __future__ import annotations

import asyncio
import random
import shutil
import signal
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.integration.anchoring.network import DEADLINE_S

from salus.archive.building import TOPIC
from salus.archive.fsck import BLOCKS_FOR_WORKERS_MIN, fsck
from salus.devkit.free_ports import free_ports
from salus.devkit.waiting import until
from salus.events.contexts import CATALOGUE
from salus.events.contexts.ledger import CheckpointPublished
from salus.events.envelope import decode_event
from salus.events.event_types import type_of
from salus.ledger.receipt import verify_receipt
from salus.ledger.tiles import decode_bundle
from salus.messaging import Reader
from salus.objects import refuse_stray

KILLS = 5
# One full tile, a partial one, and a second level.
ENTRIES = 300
FOREIGN = Path(__file__).parents[2] / "foreign"


async def test_the_log_and_receipts_are_served_as_c2sp_says(network: Any) -> None:
    for _ in range(3):
        await network.chain.seal_samples(2, 1)
    anchoring = await network.start_ready()
    assert await anchoring.reaches(3)

    checkpoint = await anchoring.get("/log/checkpoint")
    tile = await anchoring.get("/log/tile/0/000.p/3")
    entries = await anchoring.get("/log/tile/entries/000.p/3", headers={"Accept-Encoding": "identity"})
    packed = await anchoring.get("/log/tile/entries/000.p/3", headers={"Accept-Encoding": "gzip"})
    receipt = await anchoring.get("/receipts", params={"topic": TOPIC, "partition": 0, "offset": 5})

    assert checkpoint.headers["content-type"] == "text/plain; charset=utf-8"
    assert checkpoint.headers["cache-control"] == "no-cache"
    assert network.policy.open_checkpoint(checkpoint.content).checkpoint.size == 3
    assert tile.headers["content-type"] == entries.headers["content-type"] == "application/octet-stream"
    assert "immutable" in tile.headers["cache-control"]
    assert len(tile.content) == 96
    assert decode_bundle(entries.content) == network.chain.notes
    assert "content-encoding" not in entries.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.content == entries.content
    verified = verify_receipt(receipt.content, network.policy)
    assert (verified.leaf.offset, verified.header.height, verified.log_index) == (5, 2, 2)


NOT_THERE = [
    ("/log/tile/0/000.p/9", 404, "no-such-tile"),
    ("/log/tile/0/000", 404, "no-such-tile"),
    ("/log/tile/0/0", 404, "no-such-tile"),
    ("/log/tile/64/000", 404, "no-such-tile"),
    ("/log/tile/0/000.p/256", 404, "no-such-tile"),
    ("/log/tile/0/..%2f..%2f_salus/head", 404, "no-such-tile"),
    (f"/receipts?topic={TOPIC}&partition=0&offset=2", 404, "not-anchored-yet"),
    (f"/receipts?topic={TOPIC}&partition=9&offset=0", 404, "unknown-partition"),
    (f"/receipts?topic={TOPIC}&partition=0", 422, "invalid-request"),
    (f"/receipts?topic={TOPIC}&partition=0&offset=-1", 422, "invalid-request"),
    (f"/receipts?topic={TOPIC}&partition=0&offset=99999999999999999999", 422, "invalid-request"),
    (f"/receipts?topic={TOPIC}&partition=0&offset=1&wait_s=999", 422, "invalid-request"),
]


async def test_what_is_not_there_is_a_problem_with_a_code_and_status_says_what_is(network: Any) -> None:
    await network.chain.seal_samples(2)
    anchoring = await network.start_ready()
    assert await anchoring.reaches(1)

    for path, status, code in NOT_THERE:
        answer = await anchoring.get(path)

        assert (path, answer.status_code, answer.json()["code"]) == (path, status, code)
        assert answer.headers["content-type"] == "application/problem+json"
    status_page = (await anchoring.get("/status")).json()
    metrics = (await anchoring.get("/metrics")).text
    assert status_page["next_heights"] == {"0": 1}
    assert status_page["stalled"] == {}
    assert "salus_log_size 1.0" in metrics
    assert "salus_checkpoint_age_seconds" in metrics


async def test_an_announcement_wakes_and_a_checkpoint_is_announced(network: Any) -> None:
    anchoring = await network.start_ready(SALUS_POLL_INTERVAL_MS_MAX="600000")
    topic, origin = type_of(CheckpointPublished).topic, network.policy.logs[0].name
    async with Reader(network.parts.kafka_bootstrap, starts={(topic, 0): 0}) as reader:
        waiting = asyncio.create_task(
            anchoring.get("/receipts", params={"topic": TOPIC, "partition": 0, "offset": 0, "wait_s": 30})
        )
        await asyncio.sleep(0)
        await network.chain.seal_samples(1)
        # Anchoring may be ready before it listens; what was announced until then is for the slow poll.
        while not waiting.done():
            await network.announce_last_block()
            await asyncio.wait((waiting,), timeout=2)
        receipt = waiting.result()
        sizes: list[int] = []
        while 1 not in sizes:
            for record in await reader.poll(max_records=100, timeout_ms=5000):
                data = decode_event(record.value or b"", CATALOGUE).data
                if isinstance(data, CheckpointPublished) and data.checkpoint.startswith(origin):
                    sizes.append(network.policy.open_checkpoint(data.checkpoint.encode()).checkpoint.size)

    assert verify_receipt(receipt.content, network.policy).header.height == 0


async def test_killed_and_raced_again_and_again_the_log_is_whole(network: Any) -> None:
    steady = await network.start_ready(SALUS_CHECKPOINT_INTERVAL_MS_MIN="0")
    chance = random.Random(7)
    for _ in range(KILLS):
        rival = await network.start(SALUS_CHECKPOINT_INTERVAL_MS_MIN="0", SALUS_POLL_INTERVAL_MS_MAX="10")
        before = await steady.size()
        while await steady.size() < before + 3 or not await rival.is_ready():
            await network.chain.seal_samples(1)
        for _ in range(chance.randrange(6)):
            await network.chain.seal_samples(1)
        await rival.kill()
    # So many that fsck takes worker processes.
    while len(network.chain.notes) < BLOCKS_FOR_WORKERS_MIN:
        await network.chain.seal_samples(1)
    await steady.kill()
    last = await network.start_ready()
    assert await last.reaches(len(network.chain.notes))

    report = await fsck(network.address, network.trust, workers=2)

    assert report.ok, report.errors
    assert report.size == report.counts.blocks == len(network.chain.notes)
    assert await last.stop() in {0, -signal.SIGTERM}


async def test_programs_that_nobody_here_wrote_find_nothing_wrong_in_the_served_log(
    network: Any, tmp_path: Path
) -> None:
    go = shutil.which("go")
    if go is None:
        pytest.skip("the Go toolchain is not installed: nothing foreign can check the log")
    program = str(tmp_path / "foreign")
    build = (go, "build", "-mod=readonly", "-o", program, ".")
    assert await (await asyncio.create_subprocess_exec(*build, cwd=FOREIGN)).wait() == 0
    anchoring = await network.start_ready(SALUS_APPEND_ENTRIES_MAX="100")
    network.chain.with_bodies = False
    for _ in range(ENTRIES):
        await network.chain.seal([])
    assert await anchoring.reaches(ENTRIES)
    trust = network.trust

    log = ("-url", f"{anchoring.url}/log/", "-log", trust.log_key, "-shard", trust.shard_keys[0])
    checking = await asyncio.create_subprocess_exec(program, "log", *log, stdout=PIPE, stderr=PIPE)
    said, complained = await checking.communicate()

    assert checking.returncode == 0, complained.decode()
    assert said.startswith(b"ok: %d entries" % ENTRIES)

    bucket = network.address.open().log

    async def tidied_up() -> bool:
        return not [entry.key async for entry in bucket.list("tile/0/000.p", on_stray=refuse_stray)]

    assert "tile/0/000" in [entry.key async for entry in bucket.list("tile/0", on_stray=refuse_stray)]
    assert await until(tidied_up, deadline_s=DEADLINE_S)


async def test_without_kafka_the_log_grows_and_readiness_says_so(network: Any) -> None:
    (nobody,) = free_ports(1)
    anchoring = await network.start(SALUS_KAFKA_BOOTSTRAP=f"127.0.0.1:{nobody}")
    await network.chain.seal_samples(1)

    assert await anchoring.reaches(1)

    async def log_is_ok() -> bool:
        # It is published a moment before the round that did so has ended.
        said: str = await anchoring.check("log")
        return said == "ok"

    assert await until(log_is_ok, deadline_s=DEADLINE_S), await anchoring.state()
    ready = await anchoring.get("/readyz")
    assert ready.status_code == 503
    assert ready.json()["checks"]["kafka"] != "ok"


@asynccontextmanager
async def appearing(port: int, endpoint: str) -> AsyncIterator[None]:
    """Let another address lead to this one, for as long as the context lasts."""
    to = urlsplit(endpoint)

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while piece := await source.read(1 << 16):
                sink.write(piece)
                await sink.drain()
        sink.close()

    async def lead(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(to.hostname, to.port)
        await asyncio.gather(pump(reader, there_writer), pump(there_reader, writer))

    async with await asyncio.start_server(lead, "127.0.0.1", port):
        yield


async def test_a_store_that_comes_later_than_anchoring_is_waited_for_and_readiness_says_so(
    network: Any,
) -> None:
    await network.chain.seal_samples(1)
    (port,) = free_ports(1)
    anchoring = await network.start(SALUS_S3_ENDPOINT=f"http://127.0.0.1:{port}")

    async def names_the_store() -> bool:
        said: str = await anchoring.check("log")
        return "StoreAwayError" in said or "no answer" in said

    assert await until(names_the_store, deadline_s=DEADLINE_S), await anchoring.state()
    async with appearing(port, network.address.endpoint):
        assert await until(anchoring.is_ready, deadline_s=DEADLINE_S), await anchoring.state()
        assert await anchoring.reaches(1)
        assert await anchoring.stop() == 0
