"""Dealing partitions out to shards, and what `salus shard` says and refuses before it asks anybody."""

from __future__ import annotations

import json
from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from salus.cli import network_access, shards
from salus.cli.application import build, run
from salus.cli.approval_files import read_request
from salus.cli.callers import NotSentError, RefusedError
from salus.cli.exits import CommandError, Exit
from salus.cli.network_access import NetworkAccess, UnknownOutcomeError
from salus.cli.request_acts import act_of
from salus.cli.sharding import (
    Assignment,
    Standing,
    dealt,
    first_shards,
    parse_move,
    require_shards,
    settled,
    unassigned,
)
from salus.client.auth import RequestLine
from salus.devkit.narration import SilentNarrator
from salus.devkit.network import NetworkFolder, Plan
from salus.devkit.platform import Platform
from salus.devkit.processes import ProcessRecord
from salus.devkit.run_record import RunningService
from salus.ledger.policy import Policy

CLINICAL = "salus.clinical.events"
VIEW: dict[str, Any] = {
    "epoch": 3,
    "shards": [
        {"id": 0, "origin": "net/shard/0", "topics": {CLINICAL: [0, 1]}},
        {"id": 1, "origin": "net/shard/1", "topics": {CLINICAL: [2], "salus.consent.events": [0]}},
    ],
}


def status(**changes: Any) -> dict[str, Any]:
    sealed = [{"topic": CLINICAL, "partition": p, "next": 7, "lag": 0} for p in (0, 1)]
    return {
        "epoch": 3,
        "ranges": sealed,
        "awaited": [],
        "unassigned": [],
        "trouble": None,
        "halted": None,
    } | changes


def test_what_identity_and_the_sequencers_answer_comes_together() -> None:
    assignment = Assignment.of(VIEW)
    second = status(
        ranges=[{"topic": CLINICAL, "partition": 2, "next": 0, "lag": 0}],
        awaited=[{"topic": "salus.consent.events", "partition": 0}],
    )
    standings = {0: Standing.of(status()), 1: Standing.of(second)}

    assert assignment.topics_of(1) == {CLINICAL: [2], "salus.consent.events": [0]}
    assert settled(assignment, standings) == {(CLINICAL, 0), (CLINICAL, 1), (CLINICAL, 2)}
    assert settled(assignment, {0: None, 1: None}) == set()
    assert Standing.of(status(halted="stopped", trouble="no matter")).trouble == "stopped"


@given(
    st.dictionaries(st.tuples(st.sampled_from("abc"), st.integers(0, 20)), st.integers(0, 3), min_size=1),
    st.integers(1, 9),
)
def test_partitions_are_dealt_out_evenly(homes: dict[tuple[str, int], int], count: int) -> None:
    shards = first_shards([0, 1, 2], count)
    new = dealt(homes, shards)

    assert len(shards) == len(set(shards)) == count
    assert new.keys() == homes.keys()
    for topic in "abc":
        of = [shard for (t, _), shard in new.items() if t == topic]
        assert max(map(of.count, shards)) - min(map(of.count, shards)) <= 1
    assert dealt(new, shards) == new


def test_shards_that_are_known_come_first_and_new_ones_have_new_ids() -> None:
    assert first_shards([0, 1, 2], 2) == [0, 1]
    assert first_shards([0, 4], 4) == [0, 4, 5, 6]


@pytest.mark.parametrize(
    "text", ["x", f"{CLINICAL}/0", f"{CLINICAL}=1", f"{CLINICAL}/a=1", "salus.lab.events/9=1", "/0=1"]
)
def test_a_move_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"form|no topic"):
        parse_move(text, Assignment.of(VIEW).homes)


def test_a_move_names_a_partition_and_a_shard() -> None:
    assert parse_move(f"{CLINICAL}/2=0", Assignment.of(VIEW).homes) == ((CLINICAL, 2), 0)
    assert parse_move(f"{CLINICAL}/3=0", Assignment.of(VIEW).homes) == ((CLINICAL, 3), 0)


@pytest.mark.parametrize(
    ("known", "named"), [([0], {0, 1}), ([0], {0, 1, 2, 3}), ([0, 4], {1}), ([0, 4], {0, 5, 6}), ([], {0})]
)
def test_new_shards_are_the_next_ones(known: list[int], named: set[int]) -> None:
    require_shards({(CLINICAL, shard): shard for shard in named}, known)


@pytest.mark.parametrize(("known", "named"), [([0], {0, 7}), ([0, 1], {1, 2, 9}), ([0], {1000})])
def test_a_shard_that_is_far_off_is_a_slip_of_the_pen(known: list[int], named: set[int]) -> None:
    # "`shard assign --move salus.clinical.events/3=7` made seven keys and started seven sequencers".
    with pytest.raises(ValueError, match=f"no shard {max(named)}; the next new one is {max(known) + 1}"):
        require_shards({(CLINICAL, shard): shard for shard in named}, known)


def test_what_no_shard_seals_is_told_once_whoever_says_it() -> None:
    # case K1
    said = Standing.of(status(unassigned=[{"topic": CLINICAL, "partition": p} for p in (4, 3)]))

    assert unassigned({0: said, 1: said, 2: None}) == [(CLINICAL, 3), (CLINICAL, 4)]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "how many shards"),
        (["3", "--identity", "http://x"], "belong together"),
        (["3", "--directory", "x"], "belong together"),
    ],
)
def test_what_is_not_understood_is_said(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["shard", "assign", *arguments]) == 2
    assert sentence in capsys.readouterr().err


def test_a_shard_is_added_to_network_json_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = NetworkFolder(tmp_path)
    folder.create(Plan())

    assert run(["shard", "add", "--directory", str(tmp_path), "1"]) == 0
    entry = folder.add_shard(1)
    assert run(["shard", "add", "--directory", str(tmp_path), "1", "--json"]) == 0

    shards = folder.read()["shards"]
    assert [shard["id"] for shard in shards] == [0, 1]
    assert shards[1] == entry
    assert entry["topics"] == {}
    assert folder.key_file("shard-1").exists()
    assert entry["verifier_key"] in capsys.readouterr().out
    assert "salus.local/dev/shard/1" in Policy.from_network(folder.file.read_bytes()).shards


def test_a_new_shard_is_written_for_a_second_operator_and_nothing_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = NetworkFolder(tmp_path)
    folder.create(Plan(origin="test", wide_partitions=2))
    [shard] = folder.read()["shards"]
    added = folder.add_shard(1)
    view = {"epoch": 0, "shards": [{"id": 0, "origin": shard["origin"], "topics": shard["topics"]}]}

    async def send(_service: str, _url: str, method: str, path: str, **_: Any) -> httpx.Response:
        assert (method, path) == ("GET", "/shards")
        return httpx.Response(200, json=view)

    monkeypatch.setattr(network_access, "send", send)
    where = ["--directory", str(tmp_path), "--identity", "http://identity"]
    words = ["shard", "assign", "2", *where, "--to-approve", str(tmp_path / "request")]
    told = CliRunner().invoke(build(["shard"]), words)

    assert told.exit_code == 0, told.exception
    now = datetime.now(UTC)
    act = act_of(read_request(tmp_path / "request", network="test", now=now).request, at=now)
    shown = "\n".join(line.plain for line in act.lines)
    assert act.name == "assign-shards"
    assert f"verifier key {added['verifier_key']}" in shown
    assert "shard 1 seals " in shown


class Here(Platform):
    """A platform with the sequencers of two shards, which only notes what is started and removed."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.network.create(Plan(shards=2))
        self.network.add_shard(2)
        self.added: list[list[int]] = []
        self.removed: list[set[int]] = []
        self._services = {
            name: RunningService("http://127.0.0.1:1", ProcessRecord(name, 1, "", ""))
            for name in ("identity", "sequencer", "sequencer-1")
        }

    async def add_shards(self, shards: Collection[int]) -> None:
        self.added.append([*shards])

    async def remove_sequencers(self, shards: Collection[int]) -> None:
        self.removed.append({*shards})


REFUSAL = RefusedError("identity refused", problem="second-operator-needed")
NOT_SENT = NotSentError(Exit.NOT_RUNNING, "identity does not answer")
UNKNOWN = UnknownOutcomeError(Exit.NOT_RUNNING, "no answer")


@pytest.mark.parametrize(("error", "removed"), [(REFUSAL, [{2}]), (NOT_SENT, [{2}]), (UNKNOWN, [])])
async def test_a_sequencer_started_for_an_assignment_that_is_refused_is_removed(
    error: CommandError, removed: list[set[int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new user's case: it ran on. If the assignment may have taken effect, it has to."""
    platform = Here(tmp_path)
    network = NetworkAccess(platform.network, "http://identity")

    async def ask(*_: object) -> bytes:
        return json.dumps(VIEW).encode()

    async def command(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(NetworkAccess, "ask", ask)
    monkeypatch.setattr(NetworkAccess, "command", command)
    move = [f"{CLINICAL}/2=2"]
    narrator = SilentNarrator()
    line, started = await shards._line_on(platform, network, None, move, narrator)
    assert isinstance(line, RequestLine)
    assert platform.added == [[0, 1, 2]]

    with pytest.raises(type(error)):
        await shards._carry_out(
            line,
            network,
            platform.network.signer("operator"),
            platform=platform,
            started=started,
            wait=False,
            narrator=narrator,
        )

    assert platform.removed == removed


ENDED: dict[str, Any] = {"ranges": [], "awaited": []}


@pytest.mark.parametrize(
    ("shard", "seen", "code", "said"),
    [
        (1, ENDED, Exit.OK, "sequencer-1 is removed"),
        (1, None, Exit.NO, "has not handed everything over"),
        (1, ENDED | {"epoch": 2}, Exit.NO, "has not handed everything over"),
        (1, {"awaited": []}, Exit.NO, "has not handed everything over"),
        (0, ENDED, Exit.NO, "shard 0 has 4 partitions: `salus shard assign` them to others first"),
        (2, ENDED, Exit.NO, "sequencer-2 does not run"),
        (7, ENDED, Exit.USAGE, "the network has no shard 7"),
    ],
)
def test_only_a_shard_that_seals_nothing_loses_its_sequencer(
    shard: int,
    seen: dict[str, Any] | None,
    code: Exit,
    said: str,
    *,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    platform = Here(tmp_path)
    homes = dict.fromkeys(Assignment.of(VIEW).homes, 0)
    assignment = Assignment(3, homes, Assignment.of(VIEW).origins)

    async def look(_: Platform) -> tuple[Assignment, dict[int, Standing | None]]:
        return assignment, {1: None if seen is None else Standing.of(status(**seen))}

    async def ask(*_: object) -> bytes:
        told = [{"id": 0, "origin": "", "topics": assignment.topics_of(0)}]
        return json.dumps({"epoch": 3, "shards": told}).encode()

    monkeypatch.setattr(NetworkAccess, "ask", ask)
    monkeypatch.setattr(shards, "look", look)
    monkeypatch.setattr(shards, "running_platform", lambda: platform)

    assert run(["shard", "remove", str(shard)]) == code

    told = capsys.readouterr()
    assert said in " ".join((told.out + told.err).split())
    assert platform.removed == ([{shard}] if code is Exit.OK else [])
