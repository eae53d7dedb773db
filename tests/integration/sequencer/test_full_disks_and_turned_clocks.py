"""Disks fill up and clocks are turned: sealing waits or goes on, nothing is lost, twice or moved.

A full disk is a limit on how long a file of a running server may become, which needs no privileges to set and
to lift: every write beyond it fails, as on a disk without room.
"""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.integration.sequencer.shard import SequencerProcess, Shard, open_shard

from salus.client import ClientError
from salus.devkit.addresses import Addresses
from salus.devkit.parts import LocalParts
from salus.devkit.processes import is_alive
from salus.devkit.waiting import until
from salus.messaging import MessagingError

DEADLINE_S = 60
FAKETIME = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
# Bodies are longer, headers and what MinIO notes beside them are not.
ROOM_BYTES = 20_000


@contextmanager
def full_disk(pid: int, room_bytes: int) -> Iterator[None]:
    """Let no file of a process become longer than that."""
    hard = resource.RLIM_INFINITY
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (room_bytes, hard))
    try:
        yield
    finally:
        # The process may have ended over it.
        with suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))


async def test_full_disks_lose_nothing(own_parts: LocalParts, tmp_path: Path) -> None:
    addresses = await own_parts.start(None)
    async with open_shard(addresses, tmp_path / "network") as shard:
        await shard.join_hospital()
        sequencer = await shard.start_sequencer()
        await shard.publish_documents(100, name="before")
        await shard.wait_until_sealed()
        await the_store_is_full(own_parts, sequencer, shard)
        await kafka_is_full(own_parts, sequencer, shard)
        await shard.publish_documents(100, name="after")
        await shard.wait_until_sealed()
        rows = await shard.require_laws()

        assert sum(row["source"] == shard.hospital.did for row in rows) >= 500
        assert await until(sequencer.is_ready, deadline_s=DEADLINE_S)
        assert await sequencer.stop() in {0, -15}


async def the_store_is_full(parts: LocalParts, sequencer: SequencerProcess, shard: Shard) -> None:
    assert parts._minio is not None
    assert parts._minio.process is not None
    height = len(await shard.chain())
    with full_disk(parts._minio.process.pid, ROOM_BYTES):
        await shard.publish_documents(300, name="without room")

        async def waits() -> bool:
            return "waiting for a part that is away" in sequencer.log.read_text()

        assert await until(waits, deadline_s=DEADLINE_S), sequencer.log.read_text()[-2000:]
        assert len(await shard.chain()) == height
        assert is_alive(parts._minio.process)
    await shard.wait_until_sealed()


async def kafka_is_full(parts: LocalParts, sequencer: SequencerProcess, shard: Shard) -> None:
    """Kafka gives up a full disk and ends; with room again it is started by whoever runs it."""
    assert parts._kafka is not None
    assert parts._kafka.process is not None
    process = parts._kafka.process
    with full_disk(process.pid, 1):
        publishing = asyncio.create_task(shard.publish_documents(50, name="not taken"))

        async def has_ended() -> bool:
            return not is_alive(process)

        assert await until(has_ended, deadline_s=DEADLINE_S), process.log_tail()
        assert await until(lambda: sequencer.lacks("kafka"), deadline_s=DEADLINE_S)
    await parts._kafka.start()
    # Whoever was told so may publish again; what the topic has of it is on the ledger once.
    with suppress(ClientError, MessagingError):
        await publishing


class Clock:
    """What a process that is started with these settings takes for the time."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.turn("+0")

    def turn(self, offset: str) -> None:
        """Turn the clock: `+600` is ten minutes ahead of the true time."""
        fresh = self._file.with_suffix(".new")
        fresh.write_text(f"{offset}\n")
        fresh.replace(self._file)

    @property
    def settings(self) -> dict[str, str]:
        return {
            "LD_PRELOAD": str(FAKETIME[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            # Timers run by the second hand, which nobody turns.
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }


@pytest.mark.skipif(not FAKETIME, reason="libfaketime is not installed (Debian: libfaketime)")
async def test_no_block_is_dated_by_a_turned_clock_and_sealing_goes_on_when_it_is_right(
    parts: Addresses, tmp_path: Path
) -> None:
    """Up to a quarter of an hour the store takes requests of a wrong time; further off it refuses them."""
    clock = Clock(tmp_path / "clock")
    async with open_shard(parts, tmp_path / "network") as shard:
        await shard.join_hospital()
        sequencer = await shard.start_sequencer(**clock.settings)
        await shard.publish_documents(50, name="right")
        await shard.wait_until_sealed()
        for offset in ("+600", "-600", "+172800"):
            height = len(await shard.chain())
            clock.turn(offset)
            await shard.publish_documents(50, name=f"at {offset}")
            assert await until(lambda: sequencer.lacks("sealing"), deadline_s=DEADLINE_S)
            assert len(await shard.chain()) == height
            clock.turn("+0")
            await shard.wait_until_sealed()
            assert await until(sequencer.is_ready, deadline_s=DEADLINE_S)
        rows = await shard.require_laws()
        times = [header.time for header, *_ in await shard.chain()]

        assert times == sorted(times)
        assert datetime.now(UTC) - timedelta(minutes=10) < times[0] <= times[-1] <= datetime.now(UTC)
        accepted = [row for row in rows if row["source"] == shard.hospital.did]
        assert len(accepted) == 200
        assert "no block is dated" in sequencer.log.read_text()
