"""redA6 7: an odd answer of a service ends a command with code 9, and service and field are named."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from tests.own_types import HOSPITAL, dataschema, name_of, schema_of

from salus.cli import network_access
from salus.cli.application import run
from salus.cli.exits import Exit
from salus.cli.service_answers import AnswerError, checked_answer, read_answer
from salus.cli.sharding import Assignment, Standing, read_assignment, read_standing
from salus.devkit.network import NetworkFolder, Plan

CLI = Path(__file__).parents[3] / "libs" / "cli" / "src" / "salus" / "cli"
SCHEMA = schema_of()
NAME = name_of(SCHEMA)
TYPE: dict[str, Any] = {
    "type": NAME,
    "status": "active",
    "meaning": "A bed is occupied.",
    "topic": "salus.clinical.events",
    "owner": HOSPITAL,
    "sealed": [],
    "retention": "record",
    "dataschema": dataschema(SCHEMA),
    "member": HOSPITAL,
    "since": "2026-11-28T12:00:00Z",
    "proposed": None,
}
ODD: list[Any] = [
    {},
    [],
    None,
    5,
    {"types": None},
    {"types": [1]},
    {"types": [{}]},
    {"types": [{**TYPE, "sealed": None}]},
    {"types": [{**TYPE, "topic": 5}]},
    {"types": [{**TYPE, "status": "odd"}]},
    {**TYPE, "proposed": 5},
    {**TYPE, "proposed": {}},
    {"parties": [{}], "next": None},
    {"parties": [{"did": "d", "kind": "k", "keys": [{}]}], "next": None},
    {"parties": [], "next": 5},
]
COMMANDS = [
    ["catalogue", "list"],
    ["catalogue", "show", NAME],
    ["catalogue", "show", NAME, "--proposed"],
    ["catalogue", "activate", NAME, "--yes", "--dataschema", "urn:x"],
    ["party", "list"],
    ["party", "show", HOSPITAL],
    ["shard", "assign", "2"],
]


@pytest.mark.parametrize("odd", ODD, ids=json.dumps)
@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_an_odd_answer_of_identity_is_named_and_has_a_code_of_its_own(
    words: list[str],
    odd: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def send(*_: Any, **__: Any) -> httpx.Response:
        return httpx.Response(200, json=odd)

    NetworkFolder(tmp_path).create(Plan(origin="test"))
    monkeypatch.setattr(network_access, "send", send)
    code = run([*words, "--directory", str(tmp_path), "--identity", "http://identity"])
    said = " ".join(capsys.readouterr().err.split())

    assert (code, "Traceback" in said) == (Exit.BAD_ANSWER, False), said
    assert said.startswith("salus: identity's answer cannot be trusted: "), said


class _Form(msgspec.Struct):
    count: int


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"{}", "count"),
        (b'{"count": "1"}', r"\$\.count"),
        (b'{"count": 1, "count": 2}', "a name is given twice"),
        (b"{", "not JSON|JSON"),
        (b"\xff", "UTF-8"),
        (b"[]", "object"),
    ],
)
def test_service_and_field_are_named(content: bytes, why: str) -> None:
    for read in (read_answer, checked_answer):
        with pytest.raises(AnswerError, match=f"^consent's answer cannot be trusted: .*({why})") as error:
            read("consent", content, _Form)
        assert error.value.code == Exit.BAD_ANSWER


def test_fields_that_are_not_used_may_be_there_and_are_kept() -> None:
    assert read_answer("consent", b'{"count": 1, "more": 2}', _Form) == _Form(1)
    assert checked_answer("consent", b'{"count": 1, "more": 2}', _Form) == {"count": 1, "more": 2}


def test_what_is_said_of_an_answer_steers_no_terminal() -> None:
    assert "\u202e" not in str(AnswerError("identity", "\u202ex"))


@pytest.mark.parametrize("content", [b"[]", b"{}", b'{"epoch": 1, "shards": [{}]}', b'{"epoch": "1"}', b"{"])
def test_an_odd_assignment_or_standing_is_named(content: bytes) -> None:
    for service, read in (("identity", read_assignment), ("sequencer", read_standing)):
        with pytest.raises(AnswerError, match=f"{service}'s answer"):
            read(content)
    for odd in ({}, {"epoch": 1, "shards": [{"id": 0}]}):
        for of in (Assignment.of, Standing.of):
            with pytest.raises(AnswerError):
                of(odd)


def test_no_command_reads_an_answer_in_another_way() -> None:
    """The kind: `.json()`, and `read_json` of what a service was asked."""
    found = []
    for path in sorted(CLI.rglob("*.py")):
        # They measure and tell a story on a platform of their own.
        if path.parent.name in ("bench", "demo"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            called, given = ast.unparse(node.func), " ".join(map(ast.unparse, node.args))
            if called.endswith(".json") and not given:
                found.append(f"{path.name}: {ast.unparse(node)}")
            if called == "read_json" and ("await" in given or ".content" in given):
                found.append(f"{path.name}: {ast.unparse(node)}")

    # A problem is told as far as it can be read.
    assert found == ["callers.py: read_json(answer.content)"]
