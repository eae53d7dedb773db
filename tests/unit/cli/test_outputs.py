"""What a command hands over goes to a file or to whoever reads, and not by itself to a terminal."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import httpx
import pytest

from salus.cli import consents, ledger, storing
from salus.cli.exits import CommandError, Exit
from salus.cli.outputs import hand_over, require_place
from salus.cli.stdout import checked
from salus.events.did import LocalSigner


def test_a_terminal_gets_no_raw_bytes_of_others_unless_it_is_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)

    with pytest.raises(CommandError, match=r"may steer a terminal.*nothing was read") as refused:
        require_place(None, undone="nothing was read", force=False)
    assert refused.value.code is Exit.USAGE
    require_place(None, undone="nothing was read", force=True)
    require_place(Path("object"), undone="nothing was read", force=False)


def test_a_pipe_gets_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False)

    require_place(None, undone="nothing was read", force=False)


# case F12: a sibling of `publish --event` is `object get -o`, of what is on the ledger as read.
@pytest.mark.parametrize("private", [True, False])
def test_a_file_that_cannot_be_written_has_a_code_of_its_own(tmp_path: Path, *, private: bool) -> None:
    with pytest.raises(CommandError, match=r"scan-1 was read; .* cannot be written: ") as ended:
        hand_over(b"x", tmp_path, done="scan-1 was read", private=private)

    assert ended.value.code is Exit.NOT_WRITTEN


def test_what_was_decrypted_is_its_owner_s_alone(tmp_path: Path) -> None:
    hand_over(b"x", tmp_path / "scan", done="scan-1 was read", private=True)

    assert stat.S_IMODE((tmp_path / "scan").stat().st_mode) == 0o600


def test_a_read_whose_result_stdout_does_not_take_is_a_read(monkeypatch: pytest.MonkeyPatch) -> None:
    # Red team: `salus object get >/dev/full` ended with 1 after a read that is on the ledger.
    with Path("/dev/full").open("wb") as full:
        monkeypatch.setattr(sys, "stdout", checked(full.fileno()))

        with pytest.raises(
            CommandError, match=r"scan-1 was read; stdout cannot be written: No space"
        ) as ended:
            hand_over(b"x", None, done="scan-1 was read", private=True)

    assert ended.value.code is Exit.NOT_WRITTEN


@pytest.mark.parametrize("as_json", [False, True])
def test_what_only_stdout_would_have_said_is_in_the_sentence(
    monkeypatch: pytest.MonkeyPatch, *, as_json: bool
) -> None:
    # A sibling: the id of a new consent, object or pseudonym was lost.
    async def call(*_: object, **__: object) -> httpx.Response:
        return httpx.Response(200, json={"consent": "c-1", "patient": "p-1"})

    for module in (consents, storing):
        monkeypatch.setattr(module, "call", call)
        monkeypatch.setattr(module, "running_platform", lambda: None)
        monkeypatch.setattr(module, "signer_of", lambda *_: LocalSigner.from_seed(bytes(32)))
    for command, said in (
        (partial(consents.grant, "p-1", "did:web:d"), "consent c-1 is granted; stdout"),
        (partial(storing.subject, "p-1"), "p-1 has a key; stdout"),
    ):
        with Path("/dev/full").open("wb") as full:
            monkeypatch.setattr(sys, "stdout", checked(full.fileno()))

            with pytest.raises(CommandError, match=said) as ended:
                command(as_json=as_json)

        assert ended.value.code is Exit.NOT_WRITTEN


@pytest.mark.parametrize(
    ("to", "said"),
    [
        (">/dev/full", "salus: stdout cannot be written: No space left on device\n"),
        (">&-", "salus: stdout cannot be written: Bad file descriptor\n"),
        ("| true", ""),
    ],
)
@pytest.mark.parametrize("command", ["catalogue list", "catalogue list --json", "--help"])
def test_whatever_is_not_printed_is_one_sentence_and_a_code_of_its_own(
    command: str, to: str, said: str
) -> None:
    """Who goes away, as `head` does, needs no sentence. With `| true` the pipe may also take it all."""
    line = f"set -o pipefail; {sys.executable} -m salus.cli {command} {to}"

    ended = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)

    assert ended.stderr == said
    assert ended.returncode in ({Exit.NOT_WRITTEN} if said else {Exit.NOT_WRITTEN, Exit.OK})


def test_ctrl_c_while_the_command_is_imported_is_ctrl_c(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("raise KeyboardInterrupt")

    ended = subprocess.run(
        [sys.executable, "-m", "salus.cli", "--help"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )

    assert (ended.returncode, ended.stdout, ended.stderr) == (Exit.INTERRUPTED, "", "salus: interrupted\n")


@pytest.mark.parametrize(
    "command",
    [
        partial(storing.get, "scan-1", patient="p"),
        partial(storing.open_, Path("event.json")),
        partial(ledger.receipt, "salus.lab.events", 0, 1),
    ],
    ids=["object get", "object open", "ledger receipt"],
)
def test_a_terminal_is_refused_before_anything_is_asked(
    monkeypatch: pytest.MonkeyPatch, command: Callable[[], None]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    for module in (storing, ledger):
        monkeypatch.setattr(module, "running_platform", None)

    with pytest.raises(CommandError, match="may steer a terminal"):
        command()
