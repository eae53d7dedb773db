"""`salus up`, `status`, `logs` and `down` as someone uses them, in a state folder of their own."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from base64 import b64decode
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from tests.commands import Said

from salus.cli.exits import Exit
from salus.crypto.sealing import seal
from salus.devkit.processes import start_time
from salus.devkit.run_record import StateFolder
from salus.devkit.waiting import until
from salus.events.contexts.lab import ResultReleased
from salus.events.sealing_context import sealing_context
from salus.runtime.manifests import services

pytestmark = pytest.mark.timeout(600)
# One shard and no witness: each of the others is one process.
SERVICES = {manifest.name for manifest in services() if manifest.is_party}


class Salus:
    """The command, with a state folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    async def begin(self, *arguments: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "salus.cli",
            *arguments,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "SALUS_STATE": str(self.folder)},
        )

    async def __call__(self, *arguments: str) -> Said:
        process = await self.begin(*arguments)
        out, err = await process.communicate()
        return Said(process.returncode or 0, out.decode(), err.decode())

    def pids(self) -> list[int]:
        run = StateFolder(self.folder).run()
        assert run is not None
        return [*(one.pid for one in run.processes), *(it.process.pid for it in run.services.values())]


@pytest.fixture(scope="module")
async def salus(session_folder: Path) -> AsyncIterator[Salus]:
    command = Salus(session_folder / "lifecycle")
    up = await command("up", "--json")
    assert up.code == Exit.OK, up.err
    yield command
    await command("down", "--erase")


async def test_status_tells_scripts_where_everything_is(salus):
    status: dict[str, Any] = {}

    async def ready() -> bool:
        # On a busy machine a service may take longer for an answer than the command waits.
        status.update((await salus("status", "--json")).json)
        return bool(status["ready"])

    assert await until(ready, deadline_s=60), status
    assert status["running"]
    assert set(status["services"]) == SERVICES
    assert all(
        service["ready"] and service["url"].startswith("http://127.0.0.1:")
        for service in status["services"].values()
    )
    assert set(status["s3"]) == {"endpoint", "access_key", "region", "ready"}
    assert ":" in status["kafka"]["bootstrap"]
    assert status["log"]["origin"] == "salus.local/dev/log"
    assert status["log"]["verifier_key"].startswith("salus.local/dev/log+")
    assert status["log"]["url"] == status["services"]["anchoring"]["url"] + "/log"


async def test_a_secret_is_shown_to_who_asks_for_it(salus):
    # Case security.md, low: `status --json` printed the object store's secret.
    told = await salus("status", "--json")
    asked = await salus("status", "--json", "--show-secrets")

    assert asked.json["s3"]["secret_key"]
    assert asked.json["s3"]["secret_key"] not in told.out


def exposed(folder: Path) -> set[str]:
    """Return what others than its owner may read or change below a folder, and the folder itself if so."""
    whole = [folder, *folder.rglob("*")]
    return {path.name for path in whole if not path.is_symlink() and path.stat().st_mode & 0o077}


async def test_databases_logs_and_state_are_their_owners_alone(salus):
    """Case security.md, low (issue 12, item 15): files were 0644, with every event and the store's secret."""
    assert await asyncio.to_thread(exposed, salus.folder) == {"network.json"}


async def test_the_wait_for_a_second_up_is_short_and_changes_nothing(salus):
    before = salus.pids()

    again = await salus("up", "--json")

    assert again.code == Exit.OK
    assert salus.pids() == before


async def test_a_service_that_died_is_not_ready_and_up_brings_it_back_where_it_was(salus):
    before = (await salus("status", "--json")).json["services"]["identity"]
    os.kill(before["pid"], signal.SIGKILL)
    assert await until(lambda: start_time(before["pid"]) is None, deadline_s=60)

    broken = await salus("status", "--json")
    assert broken.code == Exit.NO
    assert not broken.json["services"]["identity"]["ready"]

    healed = (await salus("up", "--json")).json["services"]["identity"]
    assert healed["ready"]
    assert healed["url"] == before["url"]
    assert healed["pid"] != before["pid"]


async def test_an_event_goes_from_publish_to_a_verified_receipt(salus, tmp_path):
    patient = "urn:uuid:00000000-0000-4000-8000-000000000001"
    data = {"patient": patient, "object": "object-1", "media_type": "application/json"}
    registered = await salus("party", "register", "hospital", "--json")
    assert registered.code == Exit.OK, registered.err
    receipt, event = tmp_path / "a.salus", tmp_path / "event.json"
    kind = "salus.clinical.document-registered.v1"
    files = ["--receipt", str(receipt), "--event", str(event)]
    told = ["--subject", patient, "--data", json.dumps(data), "--as", "hospital", "--json"]
    published = await salus("publish", kind, *told, *files)
    assert published.code == Exit.OK, published.err

    verified = await salus("verify", str(receipt), "--event", str(event), "--json")
    place = [str(published.json[name]) for name in ("topic", "partition", "offset")]
    fetched = await salus("ledger", "receipt", *place)
    listed = await salus("ledger", "bodies", "--scheme", "s3a")
    here = f"topic = '{place[0]}' and partition = {place[1]} and \"offset\" = {place[2]}"
    sql = f"select count(*) n from leaves where type = '{kind}' and {here}"
    count = await salus("ledger", "query", sql, "--json")
    checked = await salus("ledger", "fsck", "--deep", "--json")

    assert verified.json["leaf"]["status"] == "accepted"
    assert fetched.out.startswith("c2sp.org/tlog-proof@v1\n")
    assert count.json == [{"n": 1}]
    body = re.compile(r"s3a://salus-ledger/shard/0/[0-9]{12}/body-[0-9a-f]{64}\.parquet")
    assert listed.out.splitlines()
    assert all(map(body.fullmatch, listed.out.splitlines()))
    # A log of one block has no COSE receipt; a second event is in a later block, as the first has a receipt.
    more = [*told[:3], json.dumps(data | {"object": "object-2"}), *told[4:]]
    later = await salus("publish", kind, *more, "--receipt", str(tmp_path / "b.salus"))
    assert later.code == Exit.OK, later.err
    cose = tmp_path / "a.cose"
    exported = await salus("ledger", "receipt", *place, "--format", "cose", "--output", str(cose))
    again = await salus("verify", str(cose), "--event", str(event), "--json")
    assert (exported.code, again.code) == (Exit.OK, Exit.OK), exported.err + again.err
    assert again.json["leaf"] == verified.json["leaf"]
    assert checked.code == Exit.OK
    assert checked.json["ok"]


# case K4
async def test_who_retries_as_documented_is_told_what_the_first_attempt_was_told(salus, tmp_path):
    patient = "urn:uuid:00000000-0000-4000-8000-000000000002"
    data = {"patient": patient, "object": "object-1", "media_type": "application/json"}
    assert (await salus("party", "register", "clinic", "--json")).code == Exit.OK
    kind, answers = "salus.clinical.document-registered.v1", []
    who = ["--subject", patient, "--as", "clinic", "--id", "retry-1", "--json"]
    for number in (1, 2):
        files = ["--receipt", str(tmp_path / f"{number}.salus"), "--event", str(tmp_path / f"{number}.json")]
        answers.append(await salus("publish", kind, *who, "--data", json.dumps(data), *files))
        assert answers[-1].code == Exit.OK, answers[-1].err
    other = json.dumps(data | {"object": "object-2"})
    reused = await salus("publish", kind, *who, "--data", other, "--receipt", str(tmp_path / "reused.salus"))
    fetched = await salus(
        *("receipts", "retry-1", "--source", answers[0].json["source"], "--to", str(tmp_path / "fetched"))
    )
    verified = await salus("verify", str(tmp_path / "fetched" / "retry-1.salus"), str(tmp_path / "1.salus"))
    event = await salus("verify", str(tmp_path / "2.salus"), "--event", str(tmp_path / "2.json"))
    refused = await salus("verify", str(tmp_path / "reused.salus"), "--json")

    assert answers[1].json["offset"] == answers[0].json["offset"]
    assert (tmp_path / "1.json").read_bytes() == (tmp_path / "2.json").read_bytes()
    assert (reused.code, "id-reused" in reused.err) == (Exit.REFUSED, True)
    assert (fetched.code, verified.code, event.code) == (Exit.OK, Exit.OK, Exit.OK), fetched.err
    assert (refused.code, refused.json["reason"]) == (Exit.REFUSED, "duplicate")


# case SEC9
async def test_what_is_sealed_in_an_event_is_read_under_a_decision_and_is_in_the_trail(salus, tmp_path):
    ward = (await salus("party", "register", "ward", "--json")).json
    person = ["doctor", "--kind", "person", "--member", "ward", "--role", "clinician"]
    assert (await salus("party", "register", *person, "--json")).code == Exit.OK
    subject = (await salus("object", "subject", "--as", "ward", "--json")).json
    patient, kind = subject["patient"], "salus.lab.result-released.v1"
    context = sealing_context(ResultReleased, source=ward["did"], id="result-1")
    sealed = seal(
        b"a finding", public_key=b64decode(subject["public_key"]), key=subject["key"], context=context
    )
    data = {"patient": patient, "report": "r", "content": asdict(sealed)}
    event, told = tmp_path / "result.json", ["--subject", patient, "--as", "ward", "--json"]
    files = ["--event", str(event), "--receipt", str(tmp_path / "result.salus")]
    assert (
        await salus("publish", kind, *told, "--id", "result-1", "--data", json.dumps(data), *files)
    ).code == Exit.OK
    unsealed = data | {"content": {"suite": "rot13", "key": "nokey", "ciphertext": "bm8="}}

    denied = await salus("object", "open", str(event), "--as", "doctor")
    assert (await salus("consent", "grant", patient, "doctor", "--as", "ward")).code == Exit.OK
    opened = await salus("object", "open", str(event), "--as", "doctor")
    refused = await salus("publish", kind, *told, "--data", json.dumps(unsealed))

    assert (denied.code, denied.out) == (Exit.NO, "")
    assert (opened.code, opened.out) == (Exit.OK, "a finding"), opened.err
    assert refused.code != Exit.OK
    assert "content.suite" in refused.err


async def test_logs_can_be_followed_until_ctrl_c(salus):
    unknown = await salus("logs", "nobody")
    assert unknown.code == Exit.USAGE

    following = await salus.begin("logs", "--follow", "identity", "--json")
    assert following.stdout is not None
    async with asyncio.timeout(60):
        line = json.loads(await following.stdout.readline())
    following.send_signal(signal.SIGINT)
    await following.communicate()

    assert line["process"] == "identity"
    assert following.returncode == Exit.INTERRUPTED


async def test_an_interrupted_up_leaves_nothing_behind(session_folder):
    command = Salus(session_folder / "interrupted")
    up = await command.begin("up")
    state = StateFolder(command.folder)
    assert await until(lambda: bool(getattr(state.run(), "services", None)), deadline_s=180, period_s=0.02)
    pids = command.pids()

    up.send_signal(signal.SIGINT)
    await up.communicate()

    assert up.returncode == Exit.INTERRUPTED
    assert state.run() is None
    assert await until(lambda: not any(start_time(pid) for pid in pids), deadline_s=60)


async def test_down_leaves_nothing_behind_and_keeps_the_data(session_folder):
    command = Salus(session_folder / "downed")
    assert (await command("up")).code == Exit.OK
    network = (command.folder / "network.json").read_bytes()
    pids = command.pids()

    assert (await command("down")).code == Exit.OK

    assert not any(start_time(pid) for pid in pids)
    assert (await command("status")).code == Exit.NOT_RUNNING
    assert (command.folder / "network.json").read_bytes() == network
    assert (command.folder / "data" / "kafka" / "data" / "meta.properties").exists()
    assert (await command("down", "--erase")).code == Exit.OK
    assert [path.name for path in command.folder.iterdir()] == ["lock"]
