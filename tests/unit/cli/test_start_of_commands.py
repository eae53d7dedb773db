"""A command starts without the libraries that only services, or other commands, need: each takes a while."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("duckdb", "fastapi", "minio", "pyarrow", "sqlalchemy")
START = """
import contextlib, io, sys
from salus.cli.application import run
with contextlib.redirect_stdout(io.StringIO()):
    run(sys.argv[1:])
print(*sorted(name for name in sys.modules if "." not in name))
"""


@pytest.mark.parametrize(
    "words", ["up", "status", "publish", "party register", "kafka acls", "catalogue propose"]
)
def test_a_command_imports_no_web_server_store_or_engine(words: str) -> None:
    command = [sys.executable, "-c", START, *words.split(), "--help"]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    imported = set(said.stdout.split())

    assert "typer" in imported
    assert imported.isdisjoint(HEAVY)
