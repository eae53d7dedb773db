"""The service of `examples/coldchain`: built, installed beside the release, started, used, killed.

Issue 13, section 2: a new service is one folder and one manifest, and nothing else is touched.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from salus.cli.exits import Exit
from salus.client.auth import RequestSigner
from salus.crypto.keys import load_ed25519
from salus.devkit.free_ports import free_ports
from salus.devkit.network import Plan
from salus.devkit.processes import start_time
from salus.devkit.run_record import Run, RunningService, StateFolder
from salus.devkit.waiting import until
from salus.events.did import LocalSigner

pytestmark = pytest.mark.timeout(600)
ROOT = Path(__file__).parents[3]
UV = ROOT / ".venv" / "salus-tools" / "uv"
RANGE = {"product": "MMR-2", "lowest": 20, "highest": 80}


def installed(folder: Path) -> Path:
    """Build the service's wheel and install it; return where, to be put on the path."""
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder / "wheels")]
    subprocess.run(build, cwd=ROOT / "examples/coldchain", check=True, capture_output=True)
    [wheel] = (folder / "wheels").glob("*.whl")
    install = [str(UV), "pip", "install", "--offline", "--no-deps", "--python", sys.executable]
    subprocess.run([*install, "--target", str(folder / "site"), str(wheel)], check=True, capture_output=True)
    return folder / "site"


@dataclass
class Platform:
    """A whole Salus, in an environment where coldchain is installed, with its member `maker`."""

    folder: Path
    site: Path

    async def salus(self, *arguments: str) -> Any:
        """Run the command and return what it answers as JSON."""
        return json.loads(await self.run(*arguments, "--json"))

    async def run(self, *arguments: str) -> bytes:
        """Run the command and return what it writes."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "salus.cli", *arguments),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.environment | {"SALUS_STATE": str(self.folder)},
        )
        out, err = await process.communicate()
        assert process.returncode == Exit.OK, err.decode()
        return out

    @property
    def environment(self) -> dict[str, str]:
        """Ours, with coldchain."""
        return {**os.environ, "PYTHONPATH": str(self.site)}

    @property
    def run_record(self) -> Run:
        """What runs, and where."""
        run = StateFolder(self.folder).run()
        assert run is not None
        return run

    @property
    def service(self) -> RunningService:
        """Where coldchain runs."""
        return self.run_record.services["coldchain"]

    def client(self, url: str, name: str = "maker") -> httpx.AsyncClient:
        """Return a client of a replica that signs as a member."""
        signer = LocalSigner(load_ed25519(self.folder / "keys" / "parties" / f"{name}.pem"))
        auth = RequestSigner(signer, "coldchain", network=Plan().origin)
        return httpx.AsyncClient(base_url=url, auth=auth, timeout=60)

    @contextmanager
    def replica(self) -> Iterator[str]:
        """Run another replica with a database of its own; return its URL."""
        [port] = free_ports(1)
        told = {
            "SERVICE_NAME": "coldchain",
            "HTTP_PORT": port,
            "KAFKA_BOOTSTRAP": self.run_record.parts.kafka_bootstrap,
            "NETWORK_FILE": self.folder / "network.json",
            "SIGNING_KEY_FILE": self.folder / "keys" / "coldchain.pem",
            "DATABASE_URL": f"sqlite+aiosqlite:///{self.folder / 'replica.db'}",
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "salus.coldchain"],
            env=self.environment | {f"SALUS_{name}": str(value) for name, value in told.items()},
            stdout=subprocess.DEVNULL,
        )
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0


@pytest.fixture(scope="module")
async def platform(session_folder: Path) -> AsyncIterator[Platform]:
    site = await asyncio.to_thread(installed, session_folder / "coldchain-wheel")
    started = Platform(session_folder / "coldchain", site)
    await started.salus("up")
    await started.salus("party", "register", "maker")
    await started.salus("party", "register", "rival")
    yield started
    await started.run("down", "--erase")


async def is_ready(url: str) -> bool:
    async with httpx.AsyncClient(base_url=url) as client:
        try:
            return (await client.get("/readyz")).is_success
        except httpx.TransportError:
            return False


async def test_what_is_done_over_http_is_sealed_folded_and_in_the_trail(platform: Platform) -> None:
    kind = "salus.coldchain.temperature-recorded.v1"
    async with platform.client(platform.service.url) as maker:
        registered = await maker.post("/batches", json={"batch": "VX-1", **RANGE})
        fit = await maker.post("/batches/VX-1/temperatures", json={"reading": "R-1", "temperature": 50})
        warm = await maker.post("/batches/VX-1/temperatures", json={"reading": "R-2", "temperature": 91})
        again = await maker.post("/batches/VX-1/temperatures", json={"reading": "R-2", "temperature": 91})
        unread = await maker.post(
            "/batches/VX-1/temperatures", json={"reading": "R-3", "temperature": 91, "note": "?"}
        )
        recalled = await maker.post("/batches/VX-1/recall", json={"reason": "excursion"})
        twice = await maker.post("/batches/VX-1/recall", json={"reason": "label"})
        seen = (await maker.get("/batches/VX-1")).json()
    async with platform.client(platform.service.url, "rival") as rival:
        foreign = await rival.post("/batches/VX-1/temperatures", json={"reading": "R-4", "temperature": 50})
    holder = registered.json()["holder"]

    async def entries() -> list[dict[str, Any]]:
        found = (await platform.salus("audit", "search", "--type", kind))["entries"]
        # Other tests have batches of their own.
        return [entry for entry in found if entry["subject"] == "VX-1"]

    async def are_in_the_trail() -> bool:
        return len(await entries()) == 3

    assert [a.status_code for a in (registered, fit, warm, again, unread, recalled, twice)] == [
        *(201, 201, 201, 409, 422, 200, 409)
    ]
    assert (fit.json()["usable"], warm.json()["usable"], recalled.json()["usable"]) == (True, False, False)
    assert (twice.json()["code"], foreign.json()["code"]) == ("already-recalled", "not-the-holder")
    assert (seen["readings"], seen["excursions"], seen["recalled"]) == (2, 1, "excursion")
    assert await until(are_in_the_trail, deadline_s=60)
    repeated, entry, _ = await entries()
    assert (repeated["outcome"], again.json()["code"]) == ("without-effect", "name-taken")
    # Who asked is the actor, and what it means is what the catalogue says that the type means.
    assert (entry["actor"], entry["object"], entry["outcome"]) == (holder, "VX-1", "success")
    assert entry["summary"] == f"{kind}: A batch had this temperature, in tenths of a degree Celsius."
    # The start said which rules decide, once: the digest of domain.py.
    rules = "select count(*) n from leaves where type = 'salus.coldchain.rules-adopted.v1'"
    assert await platform.salus("ledger", "query", rules) == [{"n": 1}]
    query = (
        f"select status, count(*) n from leaves where type = '{kind}' and subject = 'VX-1' group by status"
    )
    assert await platform.salus("ledger", "query", query) == [{"status": "accepted", "n": 3}]
    assert (await platform.salus("audit", "reconcile"))["result"] == "equal"


async def test_of_two_replicas_that_race_one_is_first_and_both_know_all(platform: Platform) -> None:
    with platform.replica() as other:
        assert await until(lambda: is_ready(other), deadline_s=120)
        url = platform.service.url
        async with platform.client(url) as one, platform.client(other) as two:
            registered = await asyncio.gather(
                *(client.post("/batches", json={"batch": "VX-2", **RANGE}) for client in (one, two))
            )
            recorded = await asyncio.gather(
                *(
                    client.post(
                        "/batches/VX-2/temperatures",
                        json={"reading": f"{'A' if client is one else 'B'}-{n}", "temperature": 20 + n},
                    )
                    for n in range(4)
                    for client in (one, two)
                )
            )
            seen = [(await client.get("/batches/VX-2")).json() for client in (one, two)]

    assert sorted(answer.status_code for answer in registered) == [201, 409]
    assert {answer.status_code for answer in recorded} == {201}
    assert seen[0] == seen[1]
    assert seen[0]["readings"] == 8


async def test_who_is_killed_knows_everything_after_its_start_without_its_database_too(
    platform: Platform,
) -> None:
    url = platform.service.url
    async with platform.client(url) as maker:
        await maker.post("/batches", json={"batch": "VX-3", **RANGE})
        known = (
            await maker.post("/batches/VX-3/temperatures", json={"reading": "R-1", "temperature": 25})
        ).json()
    for loses_its_database in (False, True):
        pid = platform.service.process.pid
        os.kill(pid, signal.SIGKILL)
        assert await until(lambda pid=pid: start_time(pid) is None, deadline_s=60)
        if loses_its_database:
            for file in (platform.folder / "data" / "coldchain").glob("state.db*"):
                file.unlink()
        await platform.salus("up")
        assert platform.service.process.pid != pid
        async with platform.client(url) as maker:
            assert (await maker.get("/batches/VX-3")).json() == known
