from __future__ import annotations

import json
import os
import re
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import get_args, get_type_hints

import httpx
import pytest
from typer.main import get_command

from salus.audit.domain import entry
from salus.cli import auditing, consents, key_rotation, ledger
from salus.cli.application import build, run
from salus.cli.callers import refusal
from salus.cli.command_table import COMMANDS
from salus.cli.consents import question
from salus.cli.exits import Exit
from salus.devkit.network import Plan
from salus.devkit.platform import Platform
from salus.events.contexts.consent import Action, EmergencyReason
from salus.events.contexts.storage import SubjectErased
from salus.events.fields import Purpose

PATIENT = "urn:uuid:00000000-0000-4000-8000-000000000001"


@pytest.fixture(autouse=True)
def nothing_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("SALUS_STATE", str(tmp_path / "state"))


def commands(group, path=()):
    for name, command in getattr(group, "commands", {}).items():
        yield (*path, name), command
        yield from commands(command, (*path, name))


def test_every_command_and_option_explains_itself():
    silent = []
    for path, command in commands(get_command(build(COMMANDS))):
        if not (command.help or "").strip():
            silent.append(" ".join(path))
        silent += [
            f"{' '.join(path)} {option.name}"
            for option in command.params
            if option.param_type_name == "option" and not option.help
        ]

    assert silent == []


def test_whoever_gives_a_key_may_say_which_of_a_party_it_is():
    # "The key that I added cannot read a record: `unknown-key`".
    options = {
        path: {option.name for option in command.params}
        for path, command in commands(get_command(build(COMMANDS)))
    }

    assert [path for path, names in options.items() if "key" in names and "key_id" not in names] == []


def test_it_says_which_release_it_is(capsys):
    assert run(["--version"]) == Exit.OK

    assert capsys.readouterr().out == f"salus {version('salus-cli')}\n"


def test_one_command_alone_is_called_as_among_all(capsys):
    assert run(["status", "--help"]) == Exit.OK

    assert "salus status" in capsys.readouterr().out


def test_help_names_every_command_and_the_exit_codes(capsys):
    assert run(["--help"]) == Exit.OK

    shown = capsys.readouterr().out
    assert all(re.search(rf"\b{name}\b", shown) for name in COMMANDS)
    said = " ".join(re.sub("[│╭╮╰╯─]", " ", shown).split())
    assert [code for code in Exit if not re.search(rf"\b{code.value} [A-Za-z]", said)] == []


def test_the_table_of_exit_codes_is_that_of_the_source():
    root = Path(__file__).parents[3]
    source = (root / "libs/cli/src/salus/cli/exits.py").read_text()
    meanings = dict(re.findall(r'    ([A-Z_]+) = \d+\n    """(.*?)"""', source))
    table = (root / "docs/exit-codes.md").read_text()

    assert meanings.keys() == set(Exit.__members__)
    for code in Exit:
        assert f"| {code.value} | `{code.name}` | {meanings[code.name]} |" in table


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["verify"], ["status", "--nonsense"], ["ledger", "show", "x"]]
)
def test_what_is_not_understood_is_usage(arguments):
    assert run(arguments) == Exit.USAGE


@pytest.mark.parametrize(
    "arguments",
    [
        ["status"],
        ["logs"],
        ["ledger", "show"],
        ["ledger", "fsck"],
        ["audit", "search"],
        ["party", "list"],
        ["publish", "t", "--subject", "s", "--data", "{}"],
    ],
)
def test_without_a_platform_commands_say_that_nothing_runs(arguments, capsys):
    assert run(arguments) == Exit.NOT_RUNNING

    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_status_answers_scripts_also_when_nothing_runs(capsys, tmp_path):
    assert run(["status", "--json"]) == Exit.NOT_RUNNING

    assert json.loads(capsys.readouterr().out) == {"running": False, "state": str(tmp_path / "state")}


def test_down_is_content_when_nothing_runs():
    assert run(["down"]) == Exit.OK


@pytest.mark.parametrize(
    ("status", "body", "code", "sentence"),
    [
        (
            403,
            {"code": "not-permitted", "detail": "neither she nor hers"},
            Exit.NO,
            "(not-permitted): neither she",
        ),
        (
            503,
            {"code": "kafka-away", "title": "Kafka is away"},
            Exit.NOT_RUNNING,
            "(kafka-away): Kafka is away",
        ),
        (500, "oops", Exit.NOT_RUNNING, "(500): Internal Server Error"),
        (
            422,
            {
                "code": "invalid-request",
                "detail": "unfit",
                "errors": [{"at": "body/kind", "what": "no kind"}],
            },
            Exit.NO,
            "(invalid-request): unfit (body/kind: no kind)",
        ),
        (422, {"code": "odd", "detail": "unfit", "errors": ["x"]}, Exit.NO, "(odd): unfit"),
    ],
)
def test_a_service_s_problem_becomes_one_sentence(status, body, code, sentence):
    error = refusal("consent", httpx.Response(status, json=body))

    assert error.code == code
    assert f"consent refused {sentence}" in str(error)


def test_a_file_that_cannot_be_used_is_one_sentence_and_usage(tmp_path, monkeypatch, capsys):
    def command() -> None:
        (tmp_path / "missing" / "receipt").write_bytes(b"")

    monkeypatch.setattr("salus.cli.application.build", lambda _names, **_: lambda **_arguments: command())

    assert run(["status"]) == Exit.USAGE
    assert "missing/receipt: No such file or directory" in capsys.readouterr().err.replace("\n", "")


def test_an_emergency_is_asked_for_as_emergency_treatment():
    ask = partial(question, "urn:uuid:1", "scan-1", action="read")

    assert ask(purpose=None, break_glass=None)["purpose"] == "TREAT"
    assert ask(purpose=None, break_glass="other")["purpose"] == "ETREAT"
    assert ask(purpose="TREAT", break_glass="other")["purpose"] == "TREAT"
    assert ask(purpose=None, break_glass="other")["break_glass"] == {"reason": "other"}


@pytest.mark.parametrize(
    ("path", "name", "values"),
    [
        (("consent", "decide"), "break_glass", get_args(EmergencyReason)),
        (("object", "get"), "break_glass", get_args(EmergencyReason)),
        (("object", "erase"), "basis", get_args(get_type_hints(SubjectErased)["basis"])),
    ],
)
def test_help_names_every_value_that_a_service_takes(path, name, values):
    command = dict(commands(get_command(build([path[0]]))))[path]
    option = next(option for option in command.params if option.name == name)

    assert all(value in option.help for value in values)


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (["consent", "grant", "p", "d", "--purpose", "TREET"], "--purpose"),
        (["consent", "grant", "p", "d", "--action", "erase"], "--action"),
        (["consent", "decide", "p", "o", "--purpose", "treat"], "--purpose"),
        (["consent", "decide", "p", "o", "--action", "r"], "--action"),
        (["consent", "decide", "p", "o", "--break-glass", "because"], "--break-glass"),
        (["consent", "review", "d", "fine"], "OUTCOME"),
        (["object", "get", "o", "--patient", PATIENT, "--purpose", "x"], "--purpose"),
        (["object", "erase", "p", "--basis", "because", "--yes"], "--basis"),
        (["audit", "search", "--outcome", "failure"], "--outcome"),
        (["audit", "search", "--action", "read"], "--action"),
        (["audit", "tail", "--outcome", "failure"], "--outcome"),
    ],
)
def test_a_word_that_no_service_takes_is_found_here(arguments, option, capsys):
    """A new user's case: the service was asked, and its refusal was a 1. Nothing runs here: that is 3."""
    assert run(arguments) == Exit.USAGE

    assert option in capsys.readouterr().err


@pytest.mark.parametrize(
    ("named", "known"),
    [
        (auditing.OUTCOMES, entry.Outcome),
        (auditing.ACTIONS, entry.Action),
        (consents.PURPOSES, Purpose),
        (consents.ACTIONS, Action),
    ],
)
def test_the_words_are_those_of_the_service(named, known):
    assert named.values == get_args(known)


# A new user's cases: exit codes of what is not there.
@pytest.mark.parametrize("number", [[], ["--number", "3"]])
@pytest.mark.parametrize("command", ["rotate", "retire"])
def test_a_witness_that_the_network_has_not_is_usage(command, number, tmp_path, monkeypatch, capsys):
    platform = Platform(tmp_path)
    platform.network.create(Plan())
    monkeypatch.setattr(key_rotation, "running_platform", lambda: platform)
    address = SimpleNamespace(open=lambda: SimpleNamespace(ledger=None, log=None))
    monkeypatch.setattr(key_rotation, "whom_and_where", lambda _: (None, address))

    assert run(["key", command, "witness", *number]) == Exit.USAGE

    assert "the network has no witness" in capsys.readouterr().err


def test_keys_of_no_network_are_none_and_nothing_runs(capsys):
    assert run(["key", "list"]) == Exit.NOT_RUNNING

    assert "there is no network in" in capsys.readouterr().err


def test_a_folder_without_a_network_was_given_wrongly(tmp_path):
    assert run(["network", "show", "--directory", str(tmp_path)]) == Exit.USAGE


def test_what_a_link_in_a_network_s_folder_leads_to_is_given_to_nobody(tmp_path):
    folder = tmp_path / "network"
    folder.mkdir()
    # To give what it leads to would fail: there is nothing.
    (folder / "link").symlink_to(tmp_path / "elsewhere")

    owner = f"{os.getuid()}:{os.getgid()}"
    assert run(["network", "create", "--directory", str(folder), "--owner", owner, "--json"]) == Exit.OK


def test_down_makes_no_folder_where_there_is_none(tmp_path, capsys):
    assert run(["down"]) == run(["down", "--erase"]) == Exit.OK

    assert not (tmp_path / "state").exists()
    assert "there is no folder" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["up"], ["down"], ["status"], ["key", "list"]])
def test_a_state_that_is_a_file_is_named(command, tmp_path, capsys):
    (tmp_path / "state").touch()

    assert run(command) == Exit.USAGE

    assert "SALUS_STATE: " in capsys.readouterr().err


def test_a_block_s_ranges_are_a_line_each(capsys):
    ledger._show_facts({"height": 7, "cosigners": [], "ranges": ["a 0 [0, 3)", "a 1 [4, 9)"]})

    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        ["height", "7"],
        ["cosigners", "-"],
        ["ranges", "a", "0", "[0,", "3)"],
        ["a", "1", "[4,", "9)"],
    ]


def test_completion_knows_the_commands(capsys, monkeypatch):
    monkeypatch.setenv("_SALUS_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "salus l")
    monkeypatch.setenv("COMP_CWORD", "1")

    run([])

    assert set(capsys.readouterr().out.split()) == {"logs", "ledger", "login", "logout"}
