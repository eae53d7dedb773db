"""A shard that has partitions has a sequencer, however they came to it and whatever was removed before."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.unit.pretended import attached, pretend_processes

from salus.cli import callers, network_access, running, shards
from salus.cli.application import run
from salus.cli.approval_files import approve_request, read_request, written
from salus.cli.callers import NotSentError, RefusedError
from salus.cli.exits import CommandError, Exit
from salus.cli.shard_sequencers import remove_idle, start_lacking
from salus.devkit.narration import SilentNarrator
from salus.devkit.platform import Platform
from salus.events.did import LocalSigner

CLINICAL = "salus.clinical.events"
ORIGIN = "salus.local/dev"
REFUSAL = RefusedError("identity refused", problem="conflict")
NOT_SENT = NotSentError(Exit.NOT_RUNNING, "identity does not answer")
UNKNOWN = CommandError(Exit.NOT_RUNNING, "no answer")


class Identity:
    """An identity service that only knows assignments; `meets` happens before it answers a POST."""

    def __init__(self) -> None:
        self.topics: dict[int, dict[str, list[int]]] = {0: {CLINICAL: [0, 1]}}
        self.meets: Callable[[], None] = lambda: None
        self.refuses: CommandError | None = None
        self.away = False

    async def send(
        self, _service: str, _url: str, method: str, path: str, *, content: bytes | None = None, **_: Any
    ) -> httpx.Response:
        assert path == "/shards"
        if method == "POST":
            self.meets()
            if self.refuses is not None:
                raise self.refuses
            self.assign({shard["id"]: shard["topics"] for shard in json.loads(content or b"")["shards"]})
        elif self.away:
            raise NOT_SENT
        shards = [
            {"id": shard, "origin": f"{ORIGIN}/shard/{shard}", "topics": topics}
            for shard, topics in self.topics.items()
        ]
        return httpx.Response(200, json={"epoch": 3, "shards": shards})

    def assign(self, topics: Mapping[int, dict[str, list[int]]]) -> None:
        self.topics = dict(topics)

    def assign_one_to(self, shard: int) -> Callable[[], None]:
        return lambda: self.assign({0: {CLINICAL: [0]}, shard: {CLINICAL: [1]}})


@pytest.fixture
def identity(monkeypatch: pytest.MonkeyPatch) -> Identity:
    made = Identity()
    monkeypatch.setattr(callers, "send", made.send)
    monkeypatch.setattr(network_access, "send", made.send)
    return made


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was stopped; none of it is a process."""
    return pretend_processes(monkeypatch)


@pytest.fixture
def platform(tmp_path: Path, stopped: list[str], monkeypatch: pytest.MonkeyPatch) -> Platform:
    """A platform with the shards 0 and 1, on which everything runs."""
    assert stopped == []

    async def yes(_: Platform) -> bool:
        return True

    async def nobody(*_: object) -> dict[int, None]:
        return {0: None}

    async def nothing(_: Platform) -> dict[str, Any]:
        return {}

    monkeypatch.setattr(Platform, "parts_answer", yes)
    monkeypatch.setattr(shards, "_standings", nobody)
    monkeypatch.setattr(running, "describe", nothing)
    monkeypatch.setenv("SALUS_STATE", str(tmp_path))
    made = attached(tmp_path)
    asyncio.run(made.start_services())
    return made


def sequencers(platform: Platform) -> set[str]:
    """Return which run, as whoever looks now sees it."""
    now = Platform.attach(platform.state.folder)
    return {name for name in now.services if name.startswith("sequencer")}


def approved(tmp_path: Path) -> list[str]:
    """Return the words that submit what the first operator asks for, with the second one's approval."""
    assert run(["shard", "assign", "2", "--to-approve", str(tmp_path / "request")]) == 0
    now = datetime.now(UTC)
    request = read_request(tmp_path / "request", network=ORIGIN, now=now).request
    document = approve_request(request, LocalSigner.from_seed(b"2" * 32), now=now, lifetime_s=3600)
    (tmp_path / "approval").write_bytes(written(document))
    return ["party", "submit", str(tmp_path / "request"), "--approval", str(tmp_path / "approval")]


def test_submit_brings_back_the_sequencer_of_a_shard_that_gets_partitions(
    platform: Platform, identity: Identity, tmp_path: Path
) -> None:
    # `submit` said "done", and nobody sealed the partitions of the shard whose sequencer was removed.
    words = approved(tmp_path)
    assert run(["shard", "remove", "1"]) == 0
    assert sequencers(platform) == {"sequencer"}

    assert run(words) == 0

    assert identity.topics[1] == {CLINICAL: [1]}
    assert sequencers(platform) == {"sequencer", "sequencer-1"}
    assert platform.state.removed_shards() == frozenset()


@pytest.mark.parametrize(
    ("refused", "there"),
    [
        (REFUSAL, {"sequencer"}),
        (NOT_SENT, {"sequencer"}),
        (UNKNOWN, {"sequencer", "sequencer-1"}),
    ],
)
def test_a_sequencer_that_submit_brought_back_for_nothing_is_removed_again(
    refused: CommandError, there: set[str], *, platform: Platform, identity: Identity, tmp_path: Path
) -> None:
    words = approved(tmp_path)
    assert run(["shard", "remove", "1"]) == 0
    identity.refuses = refused

    assert run(words) != 0

    assert sequencers(platform) == there


@pytest.mark.parametrize("has_partitions", [True, False])
def test_up_starts_a_removed_sequencer_only_if_its_shard_has_partitions(
    platform: Platform, identity: Identity, *, has_partitions: bool
) -> None:
    asyncio.run(platform.remove_sequencers([1]))
    if has_partitions:
        identity.assign_one_to(1)()

    asyncio.run(running._start(platform.state.folder, SilentNarrator(), kafka_accounts=False))

    assert sequencers(platform) == ({"sequencer", "sequencer-1"} if has_partitions else {"sequencer"})


@pytest.mark.parametrize("looks", ["and sees it", "and is told nothing"])
def test_whoever_is_refused_leaves_the_sequencer_that_another_assignment_needs(
    looks: str, *, platform: Platform, identity: Identity, stopped: list[str]
) -> None:
    # Two `salus shard assign` at once: the refused one removed the sequencer that the other one needs.
    asyncio.run(platform.remove_sequencers([1]))
    stopped.clear()
    identity.refuses = REFUSAL

    def meets() -> None:
        identity.assign_one_to(1)()
        identity.away = looks == "and is told nothing"

    identity.meets = meets

    assert run(["shard", "assign", "2"]) == Exit.NO

    assert stopped == []
    assert sequencers(platform) == {"sequencer", "sequencer-1"}


def test_an_assignment_brings_back_what_another_command_removed_while_it_was_sent(
    platform: Platform, identity: Identity
) -> None:
    identity.meets = lambda: Platform.attach(platform.state.folder).state.remove_shards(frozenset({1}))

    assert run(["shard", "assign", "2", "--no-wait"]) == 0

    assert platform.state.removed_shards() == frozenset()
    assert sequencers(platform) == {"sequencer", "sequencer-1"}


async def removed_while_assigned(platform: Platform, identity: Identity) -> set[int]:
    remove = platform.remove_sequencers

    async def after_it(idle: set[int]) -> None:
        await remove(idle)
        identity.assign_one_to(1)()

    platform.remove_sequencers = after_it  # type: ignore[method-assign,assignment]
    return await remove_idle(platform, [1])


def test_a_sequencer_that_is_removed_while_its_shard_gets_partitions_is_back(
    platform: Platform, identity: Identity
) -> None:
    assert asyncio.run(removed_while_assigned(platform, identity)) == {1}
    assert sequencers(platform) == {"sequencer", "sequencer-1"}


def test_a_shard_of_another_machine_gets_neither_a_key_nor_a_sequencer_here(platform: Platform) -> None:
    assert asyncio.run(start_lacking(platform, [0, 1, 7])) == set()
    assert [shard["id"] for shard in platform.network.read()["shards"]] == [0, 1]
