"""salus catalogue: what it lists and shows is the catalogue, and what it says of a schema is so."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from tests.own_types import HOSPITAL, SEALED, schema_of
from tests.unit.events.test_catalogue import trials

from salus.cli import catalogue
from salus.cli.application import run
from salus.cli.exits import Exit
from salus.events.catalogue import Catalogue
from salus.events.contexts import CATALOGUE, CONTEXTS
from salus.events.contexts.lab import ResultReleased
from salus.events.event_types import type_of
from salus.events.schemas import released_schemas

ENTRY = type_of(ResultReleased)


def test_the_list_has_every_type_with_owner_and_sealed_fields(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["catalogue", "list", "--json"]) == Exit.OK
    listed = json.loads(capsys.readouterr().out)

    assert [each["type"] for each in listed] == [entry.name for entry in CATALOGUE.types()]
    (result,) = [each for each in listed if each["type"] == ENTRY.name]
    assert (result["topic"], result["owner"], result["key"]) == ("salus.lab.events", "member", "patient")
    assert result["sealed"] == ["content"]

    assert run(["catalogue", "list", "--context", "lab"]) == Exit.OK
    table = capsys.readouterr().out
    assert ENTRY.name in table
    assert "salus.clinical" not in table
    assert run(["catalogue", "list", "--context", "labs"]) == Exit.USAGE


def test_a_type_of_a_package_is_shown_as_that_packages(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    context = trials()
    context.package = "salus-trials"
    monkeypatch.setattr(catalogue, "CATALOGUE", Catalogue([*CONTEXTS, context]))

    assert run(["catalogue", "list", "--json"]) == Exit.OK
    packages = {each["type"]: each["package"] for each in json.loads(capsys.readouterr().out)}
    assert packages["salus.trials.enrolled.v1"] == "salus-trials"
    assert set(packages.values()) == {"salus-trials", "salus-events"}
    monkeypatch.setenv("COLUMNS", "200")
    assert run(["catalogue", "list", "--context", "trials"]) == Exit.OK
    assert "salus-trials" in (table := capsys.readouterr().out)
    assert "release" not in table


def test_what_is_shown_is_the_file_that_dataschema_names(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    assert run(["catalogue", "show", ENTRY.name]) == Exit.OK
    assert hashlib.sha256(capsysbinary.readouterr().out).hexdigest() == ENTRY.dataschema.rpartition(":")[2]

    assert run(["catalogue", "show", "salus.lab.result-release.v1"]) == Exit.USAGE
    assert ENTRY.name.encode() in capsysbinary.readouterr().err


def written(folder: Path, name: str, **changes: Any) -> str:
    """A file with the schema of a result, and with other bounds of its report."""
    schema = json.loads(ENTRY.schema)
    schema["$defs"]["ResultReleased"]["properties"]["report"].update(changes)
    (folder / name).write_text(json.dumps(schema))
    return str(folder / name)


def test_a_schema_is_compared_with_another(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    today, shorter = written(tmp_path, "a.json"), written(tmp_path, "b.json", maxLength=9)

    assert run(["catalogue", "check", today, "--against", today]) == Exit.OK
    assert run(["catalogue", "check", shorter, "--against", today]) == Exit.NO
    *_, fault, end = capsys.readouterr().out.splitlines()
    assert "$.report: maxLength: 256 became 9 (breaks writers)" in fault
    assert end == "it cannot take the place of a.json"
    assert run(["catalogue", "check", shorter, "--against", today, "--json"]) == Exit.NO
    (found,) = json.loads(capsys.readouterr().out)["breaks"]
    assert (found["field"], found["sides"]) == ("$.report", ["writers"])


def test_a_schema_beyond_the_subset_or_the_limits_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["catalogue", "check", written(tmp_path, "a.json", maxLength=None)]) == Exit.NO
    *_, fault, end = capsys.readouterr().out.splitlines()
    assert "$.report: maxLength" in fault
    assert end == "it cannot be an event type, and was compared with nothing"
    for content, code in (
        ("{", Exit.USAGE),
        ('{"a": 1, "a": 2}', Exit.USAGE),
        ("[]", Exit.NO),
        (" " * 65537, Exit.NO),
    ):
        (tmp_path / "b.json").write_text(content)
        assert run(["catalogue", "check", str(tmp_path / "b.json")]) == code
    beyond = written(tmp_path, "c.json", maxLength=None)
    assert run(["catalogue", "check", written(tmp_path, "d.json"), "--against", beyond]) == Exit.USAGE


def test_without_a_released_version_it_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["catalogue", "check", written(tmp_path, "a.json")]) == Exit.OK
    said = capsys.readouterr().out

    assert all(name in said for name, _ in released_schemas(ENTRY.name)) or "no version" in said


def test_a_members_own_type_is_checked_as_hers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SALUS_STATE", str(tmp_path / "nothing"))
    file, member = tmp_path / "own.json", ("--member", HOSPITAL)
    # The definition of what is sealed need not be copied.
    schema = schema_of(fields={"content": SEALED})
    file.write_text(json.dumps({key: value for key, value in schema.items() if key != "$defs"}))

    assert run(["catalogue", "check", str(file), *member]) == Exit.OK
    assert run(["catalogue", "check", str(file), "--member", "did:web:other.example"]) == Exit.NO
    assert "$.x-salus.type: it is example.other.<fact>.v<n>" in capsys.readouterr().out
    before = tmp_path / "before.json"
    before.write_text(json.dumps(schema_of(required=("patient", "ward", "beds"))))
    assert run(["catalogue", "check", str(file), *member, "--against", str(before)]) == Exit.NO
    assert "$.beds: it was required and is optional (breaks readers)" in capsys.readouterr().out
    assert run(["catalogue", "show", "example.hospital.bed-occupied.v1"]) == Exit.USAGE
