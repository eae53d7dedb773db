"""redA6 5 and 6: who activates an event type has seen the very schema, and none steers a terminal."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.own_types import dataschema, name_of, schema_of

from salus.cli import network_access
from salus.cli.application import run
from salus.cli.approval_files import read_request
from salus.cli.exits import Exit
from salus.cli.request_acts import act_of
from salus.devkit.network import NetworkFolder, Plan
from salus.events.event_types import schema_file

ACTIVE = schema_of()
SEEN = schema_of(fields={"floor": {"type": "integer", "minimum": 0, "maximum": 9}})
OTHER = schema_of(fields={"patient_name": {"type": "string", "maxLength": 256}})
NAME = name_of(ACTIVE)
EVIL = "\u009b2J\u202e\u200b\x7f\u2028"


class Identity:
    """Tells of one event type what it is told to, and notes what is activated."""

    def __init__(self) -> None:
        self.active: dict[str, Any] | None = ACTIVE
        self.proposed: dict[str, Any] | None = SEEN
        self.shows: bytes | None = None
        self.sent: list[Any] = []

    def view(self) -> dict[str, Any]:
        proposed = self.proposed and {
            "dataschema": dataschema(self.proposed),
            "since": "2026-11-29T12:00:00Z",
        }
        of = self.active or self.proposed or ACTIVE
        return {
            "type": NAME,
            "status": "active" if self.active else "proposed",
            "meaning": "A bed is occupied.",
            "topic": "salus.clinical.events",
            "owner": "did:web:hospital.example",
            "sealed": [],
            "retention": "record",
            "dataschema": dataschema(of),
            "member": "did:web:hospital.example",
            "since": self.active and "2026-11-28T12:00:00Z",
            "proposed": proposed,
        }

    async def send(
        self,
        _service: str,
        _url: str,
        method: str,
        path: str,
        *,
        query: Any = (),
        content: Any = None,
        **_: Any,
    ) -> httpx.Response:
        if method == "POST":
            self.sent.append((path, json.loads(content)))
            return httpx.Response(200, json=self.view())
        if path.endswith("/schema"):
            of = self.proposed if query else self.active
            return httpx.Response(200, content=self.shows or schema_file(of))
        return httpx.Response(200, json={"types": [self.view()]} if path == "/event-types" else self.view())


@pytest.fixture
def identity(monkeypatch: pytest.MonkeyPatch) -> Identity:
    made = Identity()
    monkeypatch.setattr(network_access, "send", made.send)
    return made


@pytest.fixture
def where(tmp_path: Path) -> list[str]:
    NetworkFolder(tmp_path).create(Plan(origin="test"))
    return ["--directory", str(tmp_path), "--identity", "http://identity"]


class Terminal(io.StringIO):
    """A terminal on which somebody types."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    return lambda text: monkeypatch.setattr("sys.stdin", Terminal(text))


@pytest.mark.parametrize("answer", ["y\n", "n\n", ""])
def test_the_very_schema_is_shown_and_asked_for_before_it_is_activated(
    answer: str,
    identity: Identity,
    where: list[str],
    typed: Callable[[str], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    typed(answer)
    code = run(["catalogue", "activate", NAME, *where])
    said = capsys.readouterr().err

    assert [line for line in schema_file(SEEN).decode().split("\n") if line not in said] == []
    assert dataschema(SEEN) in said
    assert '+    "floor"' in said
    activated = (f"/event-types/{NAME}/activate", {"dataschema": dataschema(SEEN)})
    assert (code, identity.sent) == ((Exit.OK, [activated]) if answer == "y\n" else (Exit.NO, []))


def test_what_it_breaks_is_said(
    identity: Identity, where: list[str], typed: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    identity.proposed = schema_of(required=("patient", "ward", "beds"))
    typed("n\n")

    assert run(["catalogue", "activate", NAME, *where]) == Exit.NO
    assert "$.beds: it was optional and is required" in capsys.readouterr().err


def test_a_first_schema_changes_nothing(
    identity: Identity, where: list[str], typed: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    identity.active = None
    typed("y\n")

    assert run(["catalogue", "activate", NAME, *where]) == Exit.OK
    assert "no schema of this type was active before" in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["--yes"], ["--dataschema", dataschema(SEEN)]])
def test_nobody_who_sees_nothing_activates_what_he_does_not_name(
    words: list[str],
    identity: Identity,
    where: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))

    assert run(["catalogue", "activate", NAME, *words, *where]) == Exit.USAGE
    assert ("--dataschema" in capsys.readouterr().err, identity.sent) == (True, [])


def test_what_was_replaced_since_it_was_looked_at_is_not_activated(
    identity: Identity, where: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["catalogue", "activate", NAME, "--yes", "--dataschema", dataschema(SEEN), *where]
    assert run(words) == Exit.OK
    identity.proposed = OTHER
    assert run(words) == Exit.NO
    identity.proposed = None
    assert run(words) == Exit.NO

    assert [body for _, body in identity.sent] == [{"dataschema": dataschema(SEEN)}]
    said = " ".join(capsys.readouterr().err.split())
    assert "something else is proposed now" in said
    assert "nothing is proposed" in said


def test_identity_shows_no_other_schema_than_it_names(identity: Identity, where: list[str]) -> None:
    identity.shows = schema_file(OTHER)

    for words in (["activate", "--yes", "--dataschema", dataschema(SEEN)], ["show", "--proposed"]):
        assert run(["catalogue", words[0], NAME, *words[1:], *where]) == Exit.NO
    assert identity.sent == []


def test_the_second_operators_file_has_the_schema(
    identity: Identity, where: list[str], tmp_path: Path
) -> None:
    request = tmp_path / "request"
    words = ["--yes", "--dataschema", dataschema(SEEN), "--to-approve", str(request)]

    assert run(["catalogue", "activate", NAME, *words, *where]) == Exit.OK
    act = act_of(read_request(request, network="test", now=datetime.now(UTC)).request, at=datetime.now(UTC))
    assert (act.schema, identity.sent) == (schema_file(SEEN), [])


@pytest.mark.usefixtures("identity")
def test_approve_says_what_it_changes_where_identity_can_be_asked(
    where: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    request = tmp_path / "request"
    words = ["--yes", "--dataschema", dataschema(SEEN), "--to-approve", str(request)]
    assert run(["catalogue", "activate", NAME, *words, *where]) == Exit.OK

    async def same(*_: object) -> None:
        return None

    monkeypatch.setattr("salus.cli.approvals._require_same", same)
    capsys.readouterr()
    # It signs nothing, for nobody is named who approves.
    assert run(["approve", str(request), *where]) == Exit.USAGE
    said = capsys.readouterr().err
    assert '"floor": {' in said
    assert '+    "floor"' in said


@pytest.mark.parametrize("proposed", [True, False])
def test_show_names_the_dataschema_beside_the_very_bytes(
    proposed: bool,  # noqa: FBT001  # a case
    identity: Identity,
    where: list[str],
    capsysbinary: pytest.CaptureFixture[bytes],
) -> None:
    identity.proposed = schema_of(description=EVIL)
    schema = identity.proposed if proposed else ACTIVE
    words = ["--proposed"] if proposed else []

    assert run(["catalogue", "show", NAME, *words, *where]) == Exit.OK
    said = capsysbinary.readouterr()
    assert said.out == schema_file(schema)
    assert dataschema(schema).encode() in said.err


def test_a_terminal_is_not_steered_by_the_schema(
    identity: Identity, where: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # redA6 6: `typer.echo(bytes)` wrote what a title held.
    identity.proposed, terminal = schema_of(description=EVIL), Terminal()
    monkeypatch.setattr("sys.stdout", terminal)

    assert run(["catalogue", "show", NAME, "--proposed", *where]) == Exit.OK
    written = terminal.getvalue()
    assert not set(EVIL) - set("2J") & set(written)
    assert "\\u009b2J\\u202e\\u200b\\u007f\\u2028" in written
    assert written.count("\n") == schema_file(identity.proposed).count(b"\n")


# A newcomer's cases: the answers of commands that are given twice, or too early.
def test_what_is_active_already_is_said_to_be(
    identity: Identity, where: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    identity.proposed = None
    schema = tmp_path / "bed.json"
    schema.write_bytes(schema_file(ACTIVE))
    again = ["activate", NAME, "--yes", "--dataschema", dataschema(ACTIVE)]

    assert run(["catalogue", *again, *where]) == Exit.NO
    assert run(["catalogue", "propose", str(schema), *where]) == Exit.OK

    said = capsys.readouterr()
    assert "it is active already, by" in " ".join(said.err.split())
    assert said.out == f"{NAME} is active already by this schema\n"


def test_a_schema_that_waits_for_activation_is_said_to_be_proposed(
    identity: Identity, where: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    identity.active = None
    schema = tmp_path / "bed.json"
    schema.write_bytes(schema_file(SEEN))

    assert run(["catalogue", "propose", str(schema), *where]) == Exit.OK
    assert run(["catalogue", "show", NAME, *where]) == Exit.NO

    said = capsys.readouterr()
    assert "is proposed; operators look at it" in said.out
    assert f"is proposed and was never active: see `salus catalogue show {NAME} --proposed`" in " ".join(
        said.err.split()
    )
