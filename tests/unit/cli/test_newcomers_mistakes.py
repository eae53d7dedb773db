"""Mistakes of somebody who uses the command for the first time: each is named, and nothing is done."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.progress import TextColumn

from salus.cli.application import run
from salus.cli.approval_files import approve_request, read_approval, read_request, write_request, written
from salus.cli.consents import denial
from salus.cli.console import progress_bar
from salus.cli.exits import CommandError, Exit
from salus.cli.network_access import PartyFacts
from salus.cli.policies import write_into_folder
from salus.client.auth import RequestLine
from salus.events.contexts.consent import PolicyFile
from salus.events.did import LocalSigner

PATIENT = "urn:uuid:00000000-0000-4000-8000-000000000001"
NOW = datetime(2026, 11, 30, 6, tzinfo=UTC)
FIRST, SECOND = LocalSigner.from_seed(b"1" * 32), LocalSigner.from_seed(b"2" * 32)
LAB = PartyFacts("did:web:lab.example", "member", (), (), None, "The Lab", "active")
LINE = RequestLine("POST", "/parties/did:web:lab.example/suspend", b'{"reason":"inquiry"}')


@pytest.fixture(autouse=True)
def nothing_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SALUS_STATE", str(tmp_path / "state"))


@pytest.mark.parametrize(
    "arguments",
    [
        ["consent", "decide", "scan-1", PATIENT],
        ["consent", "grant", "cleo", PATIENT],
        ["object", "get", PATIENT, "--patient", "scan-1"],
        ["object", "put", __file__, "--patient", "anna"],
        ["object", "erase", "anna"],
    ],
)
def test_two_words_that_were_swapped_are_seen_before_anything_is_asked(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == Exit.USAGE

    assert "is no pseudonym" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["object", "get", "o", "--patient", PATIENT, "--range", "7-3"], "7-3 ends before it begins"),
        (["object", "get", "o", "--patient", PATIENT, "--range", "0-3,5-6"], "nothing was read"),
        (["consent", "replay", "--from", "2026-11-30", "--to", "2026-11-01"], "it is behind --to"),
        (["consent", "replay", "--from", "2026-11-30T06:00Z", "--to", "2026-11-30T06:00Z"], "behind --to"),
        (["consent", "replay", "--from", "8", "--to", "3"], "it is behind --to"),
    ],
)
def test_a_range_that_ends_before_it_begins_is_no_range(
    arguments: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """HTTP takes such a range for none and reads all; a replay of nothing said that all follow."""
    assert run(arguments) == Exit.USAGE

    assert why in capsys.readouterr().err


def test_the_two_files_of_an_approval_are_told_apart(tmp_path: Path) -> None:
    request_file, approval_file = tmp_path / "request", tmp_path / "approval"
    write_request(request_file, LINE, network="test", signer=FIRST, party=None, now=NOW)
    request = read_request(request_file, network="test", now=NOW).request
    approval_file.write_bytes(written(approve_request(request, SECOND, now=NOW, lifetime_s=60)))
    (tmp_path / "other").write_text("no such file\n")

    with pytest.raises(CommandError, match="it is an approval, which `salus party submit` takes"):
        read_request(approval_file, network="test", now=NOW)
    with pytest.raises(CommandError, match="it is the request, which comes first"):
        read_approval(request_file, request, now=NOW)
    with pytest.raises(CommandError, match="it is no file that --to-approve wrote"):
        read_request(tmp_path / "other", network="test", now=NOW)


def test_a_key_that_is_not_there_is_told_before_the_request_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "network.json").write_text('{"origin": "test"}')
    request_file = tmp_path / "request"
    now = datetime.now(UTC)
    write_request(request_file, LINE, network="test", signer=FIRST, party=LAB, now=now)
    arguments = ["approve", str(request_file), "--directory", str(tmp_path), "--key", str(tmp_path / "none")]

    assert run(arguments) == Exit.USAGE

    assert "asks to" not in capsys.readouterr().err


def test_files_that_somebody_edits_are_not_written_over(tmp_path: Path) -> None:
    files = (PolicyFile("base.cedar", "// the set\n"), PolicyFile("salus.cedarschema", "namespace S {}\n"))
    write_into_folder(files, tmp_path)
    write_into_folder(files, tmp_path)
    (tmp_path / "base.cedar").write_text("// mine\n")

    with pytest.raises(CommandError, match=r"base\.cedar is not as in the policy set"):
        write_into_folder(files, tmp_path)

    assert (tmp_path / "base.cedar").read_text() == "// mine\n"


def test_a_policy_of_another_set_does_not_stay_among_the_files(tmp_path: Path) -> None:
    (tmp_path / "night.cedar").write_text("// another\n")

    with pytest.raises(CommandError, match=r"night\.cedar is not as in the policy set"):
        write_into_folder((PolicyFile("base.cedar", "// the set\n"),), tmp_path)

    assert not (tmp_path / "base.cedar").exists()


def test_a_denial_is_told_in_words() -> None:
    told = str(denial(("no-policy-permits",), ("Nothing allows this.",)))

    assert told == "denied: no-policy-permits: Nothing allows this."
    assert str(denial(("shut",), ())) == "denied: shut"


def test_where_no_terminal_is_a_bar_leaves_no_blank_line(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar(TextColumn("reading")) as bar:
        bar.update(bar.add_task("blocks", total=2), completed=1)

    assert capsys.readouterr() == ("", "")
