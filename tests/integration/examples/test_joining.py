"""The service of `examples/coldchain` is added to a network that runs, with real parts, and through kills.

Issue 13: an operator of a running network adds a service; what was published before stays as it was judged.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
from tests.integration.examples.test_coldchain import RANGE, Platform, installed

from salus.cli.exits import Exit
from salus.devkit.free_ports import free_ports
from salus.devkit.platform import Platform as DevPlatform
from salus.devkit.processes import Place, stop
from salus.devkit.services import Surroundings, instances, readiness, start_service
from salus.devkit.waiting import until

pytestmark = pytest.mark.timeout(600)
TOPIC = "salus.coldchain.events"


@pytest.fixture(scope="module")
async def site(session_folder: Path) -> Path:
    return await asyncio.to_thread(installed, session_folder / "joining-wheel")


@pytest.fixture(scope="module")
async def platform(session_folder: Path, site: Path) -> AsyncIterator[Platform]:
    """A network that was made, and runs, without the package; then the package is there."""
    folder = session_folder / "joining"
    before = Platform(folder, folder / "nothing-installed")
    await before.salus("up")
    await before.salus("party", "register", "maker")
    yield Platform(folder, site)
    await before.run("down", "--erase")


async def killed(platform: Platform, *arguments: str, after: str) -> None:
    """Run a command, and kill it and no other process once it has said something on its way."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "salus.cli", *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=platform.environment | {"SALUS_STATE": str(platform.folder)},
    )
    assert process.stdout is not None
    said = b""
    while after.encode() not in said:
        said += (more := await process.stdout.read(1024))
        assert more, said.decode()
    with suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGKILL)
    assert await process.wait() == -signal.SIGKILL


async def it_joins_however_often_the_command_is_killed(
    platform: Platform,
) -> None:
    assert "coldchain" not in platform.run_record.services
    plan = await platform.salus("service", "add", "coldchain", "--plan")

    assert plan == {"service": "coldchain", "did": None, "registered": False, "sealed": [], "complete": False}

    # Once while the others are started anew, once while it joins.
    await killed(platform, "service", "add", "coldchain", after="starting identity")
    await killed(platform, "service", "add", "coldchain", after="joins the network")
    joined = await platform.salus("service", "add", "coldchain")
    again = await platform.salus("service", "add", "coldchain")

    assert joined == again
    assert joined["complete"]
    assert joined["sealed"] == [TOPIC]
    parties = await platform.salus("party", "list", "--role", "coldchain")
    assert [party["did"] for party in parties] == [joined["did"]]


async def what_it_states_is_sealed_verified_and_searched(platform: Platform) -> None:
    async with platform.client(platform.service.url) as maker:
        made = await maker.post("/batches", json={"batch": "VX-1", **RANGE})
        recalled = await maker.post("/batches/VX-1/recall", json={"reason": "excursion"})

    assert made.status_code == 201, made.text
    assert recalled.is_success, recalled.text
    query = f"select status, count(*) n from leaves where topic = '{TOPIC}' group by all"

    async def sealed() -> bool:
        # Rules, batch, recall.
        return bool(await platform.salus("ledger", "query", query) == [{"status": "accepted", "n": 3}])

    assert await until(sealed, deadline_s=60)
    report = await platform.salus("ledger", "fsck", "--deep")
    assert [it for it in report["findings"] if it["severity"] == "error"] == []


async def who_has_not_installed_the_package_says_so_and_accuses_nobody(platform: Platform) -> None:
    bare = Platform(platform.folder, platform.folder / "nothing-installed")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "salus.cli", "ledger", "fsck", "--deep", "--json"),
        stdout=subprocess.PIPE,
        env=bare.environment | {"SALUS_STATE": str(bare.folder)},
    )
    out, _ = await process.communicate()

    assert process.returncode == Exit.NO
    assert b"package-missing" in out
    assert b"verdict-wrong" not in out


async def a_sequencer_without_the_package_seals_nothing_says_why_and_loses_nothing(
    platform: Platform,
) -> None:
    devkit = DevPlatform.attach(platform.folder)
    await devkit.stop_service("sequencer")
    [port] = free_ports(1)
    place = Place(platform.folder / "data" / "bare", platform.folder / "logs", detached=False)
    urls = {"sequencer": f"http://127.0.0.1:{port}"}
    around = Surroundings(devkit.network, platform.run_record.parts, urls, {}, own_accounts=True)
    bare = start_service(instances(1)["sequencer"], around, place)
    try:
        # It halts as it looks at the newest block again, or at the next one: it is never ready.
        async with platform.client(platform.service.url) as maker:
            made = await maker.post("/batches", json={"batch": "VX-2", **RANGE})
        assert made.status_code == 201, made.text

        async def halted() -> bool:
            ready, why = await readiness(bare)
            return not ready and "PackageMissingError" in why and "coldchain" in why

        assert await until(halted, deadline_s=60)
    finally:
        await stop(bare.process)
    await platform.salus("up")
    sealed = f"select count(*) n from leaves where topic = '{TOPIC}' and status = 'accepted'"

    async def everything() -> bool:
        return bool(await platform.salus("ledger", "query", sealed) == [{"n": 4}])

    assert await until(everything, deadline_s=60)


async def a_network_that_stood_still_comes_back_with_it(platform: Platform) -> None:
    await platform.run("down")
    status = await platform.salus("up")

    assert status["services"]["coldchain"]["ready"]
    assert status["stopped"] == []
    async with platform.client(platform.service.url) as anybody:
        assert (await anybody.get("/batches/VX-1")).json()["recalled"] == "excursion"


async def test_a_service_joins_a_running_network_and_stays(platform: Platform) -> None:
    """One story: each part goes on where the one before it ended."""
    await it_joins_however_often_the_command_is_killed(platform)
    await what_it_states_is_sealed_verified_and_searched(platform)
    await who_has_not_installed_the_package_says_so_and_accuses_nobody(platform)
    await a_sequencer_without_the_package_seals_nothing_says_why_and_loses_nothing(platform)
    await a_network_that_stood_still_comes_back_with_it(platform)
