"""A newcomer's case: `salus service add` stopped every service that had joined before, for good.

It was rc 0, and `salus status` did not list those that were gone.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from tests.unit.pretended import attached, pretend_processes

from salus.cli import network_access, reporting
from salus.cli.application import run
from salus.cli.callers import refusal
from salus.cli.exits import CommandError, Exit
from salus.cli.reporting import joined_and_stopped
from salus.cli.services import join_new_services
from salus.devkit.narration import SilentNarrator
from salus.devkit.platform import Platform

JOINED, UNJOINED = "storage", "consent"


class Narration(SilentNarrator):
    """Keeps what was said."""

    def __init__(self) -> None:
        self.steps: list[str] = []

    def step(self, text: str) -> None:
        self.steps.append(text)


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    return pretend_processes(monkeypatch)


@pytest.fixture
def platform(tmp_path: Path, stopped: list[str], monkeypatch: pytest.MonkeyPatch) -> Platform:
    """A platform whose network was made without two services, of which one joined and runs."""
    assert stopped == []
    made = attached(tmp_path)
    network = made.network.read()
    for name in (JOINED, UNJOINED):
        del network["services"][name]
    made.network.write(network)
    joined = made.network.signer(JOINED).did

    async def send(_: str, __: str, ___: str, target: str, **____: Any) -> httpx.Response:
        if target == "/shards":
            topics = {f"salus.{name}.events": [0] for name in ("identity", JOINED)}
            shards = [{"id": 0, "origin": "o/shard/0", "topics": topics}]
            return httpx.Response(200, json={"epoch": 1, "shards": shards})
        if target.removeprefix("/parties/") != joined:
            raise refusal("identity", httpx.Response(404, json={"code": "unknown-party", "detail": "none"}))
        party = {"did": joined, "kind": "service", "member": None, "roles": [JOINED], "keys": []}
        return httpx.Response(200, json=party)

    monkeypatch.setattr(network_access, "send", send)
    monkeypatch.setenv("SALUS_STATE", str(tmp_path))
    asyncio.run(made.start_services())
    asyncio.run(made.start_services([JOINED]))
    return made


def outdated(platform: Platform) -> Platform:
    """Return the platform as one more package is installed: all that runs knows fewer event types."""
    record = platform.state.run()
    assert record is not None
    older = {n: msgspec.structs.replace(it, catalogue="older") for n, it in record.services.items()}
    platform.state.write_run(msgspec.structs.replace(record, services=older))
    return Platform.attach(platform.state.folder)


async def test_who_joined_and_ran_runs_again_when_one_more_package_is_there(
    platform: Platform, stopped: list[str]
) -> None:
    before = set(platform.services)
    later = outdated(platform)
    await later.start_services()

    assert set(stopped) == before
    assert set(later.services) == before
    assert JOINED in before
    assert UNJOINED not in before


async def test_only_what_is_started_is_said_to_start_and_who_has_joined_joins_no_more(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(_: Platform) -> None: ...

    monkeypatch.setattr(Platform, "make_resources", nothing)
    network = platform.network.read()
    network["services"][UNJOINED] = {}
    platform.network.write(network)
    narration = Narration()
    platform.narrate(narration)
    await platform.start_services([name for name in platform.services if name != UNJOINED])
    await join_new_services(platform, narration)

    assert narration.steps == []


@pytest.mark.parametrize(("runs", "names"), [(True, []), (False, [JOINED])])
async def test_who_joined_and_does_not_run_is_named(
    platform: Platform, names: Sequence[str], *, runs: bool
) -> None:
    if not runs:
        del platform._services[JOINED]

    assert await joined_and_stopped(platform) == names


async def test_without_an_answer_of_identity_nobody_is_accused(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object, **__: object) -> httpx.Response:
        raise CommandError(Exit.NOT_RUNNING, "identity does not answer")

    del platform._services[JOINED]
    monkeypatch.setattr(network_access, "send", away)

    assert await joined_and_stopped(platform) == []


def test_status_names_it_and_is_not_all_ready(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def ready(it: Platform) -> dict[str, tuple[bool, str]]:
        return dict.fromkeys(it.services, (True, ""))

    async def yes(_: object) -> bool:
        return True

    monkeypatch.setattr(Platform, "ready", ready)
    monkeypatch.setattr(reporting, "_kafka_answers", yes)
    monkeypatch.setattr(reporting, "is_ready", yes)
    monkeypatch.setattr(reporting, "_damaged", lambda _: asyncio.sleep(0))
    record = platform.state.run()
    assert record is not None
    others = {name: it for name, it in record.services.items() if name != JOINED}
    assert run(["status", "--json"]) == Exit.OK
    capsys.readouterr()
    platform.state.write_run(msgspec.structs.replace(record, services=others))

    assert run(["status"]) == Exit.NO
    assert f"{JOINED} not ready it joined the network and does not run" in " ".join(
        capsys.readouterr().out.split()
    )
    assert run(["status", "--json"]) == Exit.NO
    assert json.loads(capsys.readouterr().out)["stopped"] == [JOINED]
