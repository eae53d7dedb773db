"""`salus bench` with tiny sizes: the shape of what it says. Never how fast: that is for people to look at."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tempfile
from pathlib import Path

import pytest
from tests.effort import LONG

from salus.devkit.waiting import until

pytestmark = pytest.mark.integration
ENDS_S_MAX = 240
EVERY = {"benchmark", "goals", "machine"}
COMMANDS = {
    "drain": (
        ["--events", "300", "--shards", "2"],
        {"events_per_s", "rss_mb_max", "cpu_us_per_event", "limits_us_per_event"},
    ),
    "steady": (
        ["--rate", "200", "--seconds", "1", "--witnesses", "1"],
        {"events_per_s", "p50_ms", "p99_ms", "max_ms", "lag_growth_events_per_s", "generator_late_ms_max"},
    ),
    "receipt": (
        ["--events", "300", "--requests", "40", "--clients", "4"],
        {"receipts_per_s", "p50_ms", "p99_ms", "verified_per_s"},
    ),
    "contracts": (
        ["--commands", "64", "--events", "128", "--clients", "8", "--rate", "20", "--seconds", "1"],
        {
            "commands_per_s_sqlite",
            "folds_per_s",
            "get_p99_ms",
            "rss_mb_max",
            "kafka_alone_per_s",
            "sql_alone_per_s",
        },
    ),
    "storage": (
        ["--rounds", "1", "--small", "32", "--largest", "8", "--ranges", "3"],
        {
            "put_ratio_100mb",
            "get_ratio_100mb",
            "small_puts_per_s",
            "small_gets_per_s",
            "range_p95_ms",
            "rss_mb_max",
        },
    ),
    "fsck": (["--events", "300", "--deep"], {"events_per_s", "events_per_s_a_core", "events_per_s_deep"}),
    "tiles": (["--entries", "2000"], {"entries_per_s", "compact_range_bytes", "proof_hashes_growth"}),
}

# Each starts servers of its own; the others go through the same doors.
LONG_ONLY = {"steady", "receipt", "fsck"}
LONG_RUN = pytest.mark.skipif(not LONG, reason="the long run: `make laws`")


@pytest.fixture
def folder(session_folder):
    """Where the benchmark makes its own folder, which is to be gone in the end."""
    return Path(tempfile.mkdtemp(dir=session_folder, prefix="bench-"))


async def start(folder, *arguments):
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "salus.cli", "bench", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(folder)},
    )


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=LONG_RUN if name in LONG_ONLY else ()) for name in COMMANDS]
)
async def test_a_benchmark_says_its_figures_in_one_last_line_and_leaves_nothing_behind(
    name, folder, tmp_path
):
    arguments, figures = COMMANDS[name]
    plot = tmp_path / "plot.svg"

    process = await start(folder, name, *arguments, "--json", "--plot", str(plot))
    async with asyncio.timeout(ENDS_S_MAX):
        out, err = await process.communicate()

    assert process.returncode == 0, err.decode()[-2000:]
    last = json.loads(out.decode().splitlines()[-1])
    assert last["benchmark"] == name
    assert figures | EVERY <= last.keys()
    assert all(
        last[figure] for figure in figures if figure.endswith(("_per_s", "_ms")) and "lag" not in figure
    )
    assert last["machine"]["cores"] >= 1
    assert all(isinstance(goal["holds"], bool) for goal in last["goals"].values())
    assert plot.read_text().startswith("<?xml")
    assert f"salus bench {name}" in err.decode()
    assert list(folder.iterdir()) == []


async def test_ctrl_c_in_the_middle_leaves_nothing_behind(folder):
    process = await start(folder, "drain", "--events", "1000000")
    try:
        # The loaders run: Kafka and MinIO are up, and there is much to do yet.
        assert await until(lambda: any(folder.glob("*/logs/loader-*.log")), deadline_s=120)
        children = pids_below(process.pid)
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(ENDS_S_MAX):
            _, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()

    assert process.returncode == 130, err.decode()[-2000:]
    assert list(folder.iterdir()) == []
    assert len(children) >= 3
    assert [pid for pid in children if is_there(pid)] == []


def is_there(pid):
    return Path(f"/proc/{pid}").exists()


def pids_below(pid):
    found = []
    for line in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        found += [int(line), *pids_below(int(line))]
    return found
