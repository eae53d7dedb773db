"""A service joins in steps; whichever is cut off, the command is run again and does the rest (issue 13)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import pytest
from typer.testing import CliRunner

from salus.cli import network_access
from salus.cli.application import build
from salus.cli.callers import refusal
from salus.cli.exits import CommandError, Exit
from salus.devkit.network import NetworkFolder, Plan

# Installed here, and new to the network of these tests.
NAME, TOPIC = "storage", "salus.storage.events"


class Identity:
    """An identity service that knows no such service, until it is asked to; `lose` cuts its answers off."""

    def __init__(self) -> None:
        self.parties: dict[str, dict[str, Any]] = {}
        self.shards = [{"id": 0, "origin": "test/shard/0", "topics": {"salus.identity.events": [0]}}]
        self.epoch = 0
        self.commands: list[str] = []
        self.lose: Callable[[str], CommandError | None] = lambda _: None
        self.refuse: str | None = None

    async def send(self, _: str, __: str, method: str, target: str, **request: Any) -> httpx.Response:
        if method == "GET":
            return self._told(unquote(target))
        if self.refuse is not None:
            raise refusal("identity", httpx.Response(403, json={"code": self.refuse, "detail": "no"}))
        self._do(target, json.loads(request["content"]))
        self.commands.append(target)
        if (error := self.lose(target)) is not None:
            raise error
        return self._told("/shards")

    def _do(self, target: str, body: dict[str, Any]) -> None:
        if target == "/parties":
            assert body["did"] not in self.parties
            self.parties[body["did"]] = {**body, "member": None}
        else:
            assert body["epoch"] == self.epoch + 1
            assert body["added"] == []
            self.epoch += 1
            self.shards = [{**shard, "origin": f"test/shard/{shard['id']}"} for shard in body["shards"]]

    def _told(self, target: str) -> httpx.Response:
        if target == "/shards":
            return httpx.Response(200, json={"epoch": self.epoch, "shards": self.shards})
        party = self.parties.get(target.removeprefix("/parties/"))
        if party is None:
            raise refusal("identity", httpx.Response(404, json={"code": "unknown-party", "detail": "none"}))
        return httpx.Response(200, json=party)


@pytest.fixture
def identity(monkeypatch: pytest.MonkeyPatch) -> Identity:
    made = Identity()
    monkeypatch.setattr(network_access, "send", made.send)
    return made


@pytest.fixture
def folder(tmp_path: Path) -> NetworkFolder:
    """The network's folder, without the service's key."""
    made = NetworkFolder(tmp_path)
    made.create(Plan(origin="test"))
    made.key_file(NAME).unlink()
    return made


@pytest.fixture
def add(folder: NetworkFolder, identity: Identity) -> Callable[..., Any]:
    """Return what runs `salus service add` where no platform runs, and this identity answers."""
    assert identity.commands == []

    def run_(*words: object) -> Any:
        where = ["--directory", str(folder.folder), "--identity", "http://identity"]
        arguments = ["service", "add", *map(str, words), *where]
        return CliRunner().invoke(build(["service"]), arguments)

    return run_


def test_a_plan_says_what_is_to_do_and_does_nothing(
    add: Callable[..., Any], identity: Identity, folder: NetworkFolder
) -> None:
    told = add(NAME, "--plan")

    assert told.exit_code == 0, told.output
    assert told.output.count("to do") == 2
    assert "one operator, or two where operators are of several organisations" in told.output
    assert (identity.commands, folder.key_file(NAME).exists()) == ([], False)


def test_a_service_is_registered_with_its_role_and_a_shard_seals_its_topic(
    add: Callable[..., Any], identity: Identity, folder: NetworkFolder
) -> None:
    told = json.loads(add(NAME, "--json").output)

    did = folder.signer(NAME).did
    party = identity.parties[did]
    assert told == {"service": NAME, "did": did, "registered": True, "sealed": [TOPIC], "complete": True}
    assert (party["kind"], party["roles"]) == ("service", [NAME])
    assert party["keys"][0]["proof"]
    assert identity.shards[0]["topics"] == {"salus.identity.events": [0], TOPIC: [0]}


@pytest.mark.parametrize("cut", ["/parties", "/shards"])
def test_whichever_answer_is_lost_the_rest_is_done_once_when_it_is_run_again(
    cut: str, add: Callable[..., Any], identity: Identity
) -> None:
    identity.lose = lambda target: CommandError(Exit.NO, "no answer") if target == cut else None
    first = add(NAME)
    identity.lose = lambda _: None
    again = [add(NAME), add(NAME)]

    assert isinstance(first.exception, CommandError)
    assert [it.exit_code for it in again] == [0, 0]
    assert identity.commands == ["/parties", "/shards"]


def test_what_needs_a_second_operator_is_written_for_him_and_the_same_key_is_taken_later(
    add: Callable[..., Any], identity: Identity, folder: NetworkFolder, tmp_path: Path
) -> None:
    identity.refuse = "second-operator-needed"
    alone = add(NAME)
    made = folder.signer(NAME).did
    written = add(NAME, "--to-approve", tmp_path / "request.json")

    assert isinstance(alone.exception, CommandError)
    assert "--to-approve FILE" in str(alone.exception)
    assert written.exit_code == 0, written.output
    assert identity.commands == []
    assert made in (tmp_path / "request.json").read_text()
    # It was approved and submitted.
    identity.refuse = None
    identity.parties[made] = {"did": made, "kind": "service", "roles": [NAME], "keys": []}
    assert add(NAME, "--to-approve", tmp_path / "request.json").exit_code == 0
    assert identity.commands == ["/shards"]


def test_who_has_joined_needs_no_operator(
    add: Callable[..., Any], identity: Identity, folder: NetworkFolder
) -> None:
    assert add(NAME).exit_code == 0
    folder.key_file("operator").unlink()
    again = add(NAME)

    assert again.exit_code == 0, again.output
    assert identity.commands == ["/parties", "/shards"]


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (
            ["nothing"],
            Exit.USAGE,
            "NAME: no service nothing is installed here: install its package",
        ),
        ([NAME, "--shard", 7], Exit.USAGE, "--shard: the network has no shard 7"),
    ],
)
def test_what_cannot_be_is_named(
    words: list[object], code: Exit, sentence: str, add: Callable[..., Any]
) -> None:
    told = add(*words)

    assert isinstance(told.exception, CommandError)
    assert told.exception.code == code
    assert sentence in str(told.exception)


def test_a_key_that_is_another_kind_of_partys_is_none_of_a_service(
    add: Callable[..., Any], identity: Identity, folder: NetworkFolder
) -> None:
    did = folder.ensure_service_key(NAME).did
    identity.parties[did] = {"did": did, "kind": "member", "roles": [], "keys": []}
    told = add(NAME)

    assert "is registered, and not as a service with the role storage" in str(told.exception)
    assert identity.commands == []
