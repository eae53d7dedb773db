"""Ctrl-C on a real fsck leaves what `--resume` goes on with."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.integration.anchoring.network import AnchoredNetwork

from salus.devkit.addresses import Addresses
from salus.devkit.network import NetworkFolder, Plan, create_topics
from salus.devkit.waiting import until
from salus.ledger.block import body_key

BLOCKS = 480
DEADLINE_S = 60


@pytest.fixture
async def network(parts: Addresses, tmp_path: Path) -> AsyncIterator[AnchoredNetwork]:
    await create_topics(parts.kafka_bootstrap, Plan())
    network = AnchoredNetwork(parts, NetworkFolder(tmp_path / "network"))
    await network.create()
    yield network
    for process in network.started:
        await process.kill()


async def begin_fsck(network: AnchoredNetwork, state: Path, *more: str) -> asyncio.subprocess.Process:
    address = network.address
    environment = {
        "SALUS_S3_ENDPOINT": address.endpoint,
        "SALUS_S3_ACCESS_KEY": address.access_key,
        "SALUS_S3_SECRET_KEY": address.secret_key,
        "SALUS_LEDGER_BUCKET": address.ledger_bucket,
        "SALUS_LOG_BUCKET": address.log_bucket,
        "XDG_STATE_HOME": str(state),
    }
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "salus.cli", "ledger", "fsck", "--network", str(network.folder.file)),
        *("--json", "--workers", "1", *more),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | environment,
        # As a terminal does, Ctrl-C reaches the worker processes too.
        start_new_session=True,
    )


async def test_after_ctrl_c_it_goes_on(network: AnchoredNetwork, tmp_path: Path) -> None:
    for _ in range(BLOCKS):
        await network.chain.seal_samples(2)
    anchoring = await network.start_ready(SALUS_SCRUB_BYTES_PER_S_MAX="0")
    assert await anchoring.reaches(BLOCKS), anchoring.log.read_text()[-2000:]
    await anchoring.kill()
    state = tmp_path / "state"
    fsck = await begin_fsck(network, state)

    async def has_begun() -> bool:
        return any(len(file.read_bytes().splitlines()) > 1 for file in state.rglob("*.jsonl"))

    assert await until(has_begun, deadline_s=DEADLINE_S, period_s=0.005)
    os.killpg(fsck.pid, signal.SIGINT)
    _, said = await fsck.communicate()
    assert fsck.returncode == 130, said
    assert b"--resume" in said
    assert b"Traceback" not in said

    store = network.address.open().ledger
    key = body_key(0, 0, network.chain.headers[0].root)
    whole = await store.get(key, bytes_max=1 << 30)
    await store.put(key, whole[:50] + bytes([whole[50] ^ 1]) + whole[51:])
    fsck = await begin_fsck(network, state, "--resume")
    out, said = await fsck.communicate()
    damaged = json.loads(out)
    assert fsck.returncode == 1, said
    # The samples' headers run ahead of their records, which a note says.
    assert {f["key"] for f in damaged["findings"] if f["severity"] == "error"} == {key}
    assert damaged["counts"]["blocks"] == BLOCKS
    assert 0 <= damaged["counts"]["spared"] < BLOCKS
    assert "resumed_from" in damaged
    assert list(state.rglob("*.jsonl")) == []
