"""`salus member`: what it asks identity for, and that nothing is sent before somebody has said yes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.unit.cli.test_parties import Identity as AnyIdentity
from tests.unit.cli.test_parties import folder
from typer.testing import CliRunner

from salus.cli import members, network_access
from salus.cli.application import build
from salus.cli.exits import Exit
from salus.cli.refusal_advice import ADVICE
from salus.devkit.network import NetworkFolder

__all__ = ["folder"]
HOSPITAL = "did:web:hospital.example"
MEMBER: dict[str, Any] = {
    "did": HOSPITAL,
    "kind": "member",
    "keys": [],
    "name": "Hospital",
    "membership": "suspended",
    "standing_reason": "inquiry",
}
Salus = Callable[..., Any]


class Identity(AnyIdentity):
    """Answers about one member."""

    party: Mapping[str, Any] = MEMBER

    async def send(self, _service: str, _url: str, method: str, path: str, **request: Any) -> httpx.Response:
        if method == "GET":
            page = {"parties": [self.party], "next": None}
            return httpx.Response(200, json=page if path == "/parties" else self.party)
        return await super().send(_service, _url, method, path, **request)


@pytest.fixture
def identity() -> Identity:
    return Identity()


@pytest.fixture
def salus(identity: Identity, folder: NetworkFolder, monkeypatch: pytest.MonkeyPatch) -> Salus:  # the fixture
    """Return what runs `salus member`, which speaks to this identity."""
    monkeypatch.setattr(network_access, "send", identity.send)

    def run(*words: object, says: str | None = None) -> Any:
        where = ["--directory", str(folder.folder), "--identity", "http://identity"]
        if says is not None:
            monkeypatch.setattr(members, "require_terminal", lambda **_: None)
        return CliRunner().invoke(build(["member"]), ["member", *map(str, words), *where], input=says)

    return run


ACTS = [("suspend", "key-compromised"), ("reinstate", "unfounded"), ("expel", "left")]


@pytest.mark.parametrize(("act", "reason"), ACTS)
def test_a_command_asks_for_what_it_says(act: str, reason: str, salus: Salus, identity: Identity) -> None:
    told = salus(act, HOSPITAL, "--reason", reason, "--yes")

    assert told.exit_code == 0, told.output
    assert [line[:3] for line in identity.commands] == [
        ("POST", f"/parties/{HOSPITAL}/{act}", {"reason": reason})
    ]
    assert reason in told.stdout


@pytest.mark.parametrize(("says", "sent"), [("y\n", 1), ("n\n", 0), ("", 0)])
def test_somebody_says_yes_before_it_is_sent(says: str, sent: int, salus: Salus, identity: Identity) -> None:
    told = salus("suspend", HOSPITAL, "--reason", "inquiry", says=says)

    assert len(identity.commands) == sent
    assert "nothing is taken from it, its people and its devices" in told.stderr


def test_without_a_terminal_nothing_is_sent_unless_yes_is_said(salus: Salus, identity: Identity) -> None:
    told = salus("expel", HOSPITAL, "--reason", "left")

    assert told.exit_code != 0
    assert not identity.commands


def test_a_request_for_the_second_operator_is_written_and_not_sent(
    salus: Salus, identity: Identity, tmp_path: Path
) -> None:
    told = salus("suspend", HOSPITAL, "--reason", "inquiry", "--to-approve", tmp_path / "request")

    assert told.exit_code == 0, told.output
    assert "salus approve" in told.stderr
    assert b"suspend" in (tmp_path / "request").read_bytes()
    assert not identity.commands


def test_a_reason_is_needed_and_one_of_the_list(salus: Salus, identity: Identity) -> None:
    for words in ([], ["--reason", "they know why"]):
        told = salus("suspend", HOSPITAL, *words, "--yes")
        assert told.exit_code == Exit.USAGE
        assert "--reason" in told.stderr
    assert not identity.commands


def test_only_a_member_is_suspended(salus: Salus, identity: Identity) -> None:
    identity.party = {**MEMBER, "kind": "person"}
    told = salus("suspend", HOSPITAL, "--reason", "inquiry", "--yes")

    assert told.exit_code != 0
    assert not identity.commands


def test_the_list_says_who_takes_part_and_why_not(salus: Salus) -> None:
    told = salus("list")

    assert [word for word in ("Hospital", "suspended", "inquiry", HOSPITAL) if word not in told.stdout] == []


@pytest.mark.parametrize(
    "code",
    [
        "already-expelled",
        "already-suspended",
        "last-operators",
        "member-expelled",
        "member-suspended",
        "not-a-member",
        "not-suspended",
    ],
)
def test_each_refusal_says_what_to_do_next(code: str) -> None:
    assert ADVICE[code]
