"""A command starts without the libraries that only services, or other commands, need: each takes a while."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from salus.cli.application import build, run
from salus.cli.command_table import COMMANDS, CommandEntry
from salus.cli.exits import Exit

ENGINES = {"duckdb", "fastapi", "minio", "pyarrow", "sqlalchemy"}
# What takes most of a command's start: Kafka, HTTP, keys, the catalogue.
HEAVY = ENGINES | {"aiokafka", "asyncio", "cryptography", "httpx", "joserfc", "msgspec"}
START = """
import contextlib, io, sys
from salus.cli.application import run
with contextlib.redirect_stdout(io.StringIO()):
    run(sys.argv[1:])
print(*sorted(name for name in sys.modules if "." not in name))
"""


def imported(*words: str, **environment: str) -> set[str]:
    """Return the top-level modules that a process has imported when its command has ended."""
    said = subprocess.run(
        [sys.executable, "-c", START, *words],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        env={**os.environ, **environment},
    )
    return set(said.stdout.split())


@pytest.mark.parametrize(
    "words", ["up", "status", "publish", "party register", "kafka acls", "catalogue propose"]
)
def test_a_command_imports_no_web_server_store_or_engine(words: str) -> None:
    modules = imported(*words.split(), "--help")

    assert "typer" in modules
    assert modules & ENGINES == set()


@pytest.mark.parametrize("typed", ["", "--version", "--help", "nonsense", "a command, with Tab"])
def test_what_runs_no_command_imports_none(typed: str) -> None:
    words, completing = [typed] if typed else [], {}
    if typed.endswith("Tab"):
        words = []
        completing = {"_SALUS_COMPLETE": "complete_bash", "COMP_WORDS": "salus par", "COMP_CWORD": "1"}
    modules = imported(*words, **completing)

    assert "typer" in modules
    assert modules & HEAVY == set()


def test_the_list_of_commands_says_of_each_what_its_own_help_begins_with() -> None:
    everything = get_command(build(COMMANDS))

    assert isinstance(everything, TyperGroup)
    own = {name: (command.help or "").split("\n\n")[0] for name, command in everything.commands.items()}
    assert {name: entry.summary for name, entry in COMMANDS.items()} == own


def test_ctrl_c_while_a_command_is_imported_is_an_interruption(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_: CommandEntry) -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr(CommandEntry, "load", interrupted)

    assert run(["status"]) == Exit.INTERRUPTED
    assert capsys.readouterr().err == "salus: interrupted\n"
