"""The data of an event that is published from the command line says one thing only."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Self

import pytest

from salus.cli import publishing
from salus.cli.exits import CommandError, Exit
from salus.cli.outputs import require_place
from salus.cli.publishing import _data_of
from salus.cli.stdout import checked
from salus.client import Publisher
from salus.devkit.network import NetworkFolder, Plan
from salus.events.contexts.clinical import DocumentRegistered
from salus.events.event_types import type_of
from salus.messaging import Position

TYPE = "salus.clinical.document-registered.v1"
KIND = type_of(DocumentRegistered)
PATIENT = "urn:uuid:6f1c3a52-7a0e-4d5f-9c2b-1f2e3d4c5b6a"
DATA = f'{{"patient":"{PATIENT}","object":"scan-1","media_type":"image/png"}}'


@pytest.mark.parametrize("spoil", ['{"object":"scan-2",', '{"x":NaN,', "\ufeff{", '{"x":"\\ud800",'])
@pytest.mark.parametrize("from_file", [False, True])
def test_data_is_json_that_is_read_in_one_way_only(tmp_path: Path, spoil: str, *, from_file: bool) -> None:
    # Of case F1: `salus publish --data` took the last of two names.
    text, spoiled = DATA, DATA.replace("{", spoil, 1)
    if from_file:
        for name in ("text", "spoiled"):
            (tmp_path / name).write_text(locals()[name], "utf-8")
        text, spoiled = f"@{tmp_path}/text", f"@{tmp_path}/spoiled"

    data = _data_of(KIND, text)

    assert isinstance(data, DocumentRegistered)
    assert data.object == "scan-1"
    with pytest.raises(CommandError, match=f"not the data of a {TYPE}"):
        _data_of(KIND, spoiled)


def test_nothing_is_sent_when_there_is_no_folder_for_the_receipt(tmp_path: Path) -> None:
    require_place(None, undone="nothing was sent")
    require_place(tmp_path / "scan-1.salus", undone="nothing was sent")

    for place in (tmp_path / "missing" / "scan-1.salus", tmp_path):
        with pytest.raises(CommandError, match="nothing was sent"):
            require_place(place, undone="nothing was sent")


class Sent(Publisher):
    """Sends nothing, and answers as if the event was taken."""

    async def publish(self, *_: object, **__: object) -> Self:  # type: ignore[override]
        return self

    id, value = "the-id", b"event"

    async def position(self) -> Position:
        return Position("salus.clinical.events", 0, 7)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None: ...


class Away(Sent):
    """Takes the event, and has no answer until the command is interrupted."""

    async def position(self) -> Position:
        raise CommandError(Exit.INTERRUPTED, "interrupted")


@pytest.mark.parametrize("given", [None, "mine"])
def test_an_interrupted_event_can_be_repeated_as_the_same(
    given: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # "Ctrl-C said `interrupted`, and the event that I sent again was on the ledger twice".
    folder = NetworkFolder(tmp_path)
    folder.create(Plan())
    ids: list[object] = []

    async def publish(self: Away, *_: object, **facts: object) -> Away:
        ids.append(facts["id"])
        return self

    monkeypatch.setattr(Away, "publish", publish)
    monkeypatch.setattr(publishing, "Publisher", Away)
    platform = SimpleNamespace(network=folder, kafka_bootstrap="")
    monkeypatch.setattr(publishing, "running_platform", lambda: platform)
    monkeypatch.setattr(publishing, "signer_of", lambda *_: folder.signer("identity"))
    with pytest.raises(CommandError) as ended:
        publishing.publish(TYPE, subject=PATIENT, data=DATA, as_name="identity", event_id=given)

    assert ended.value.code is Exit.INTERRUPTED
    assert str(ended.value) == f"interrupted; the event may arrive; repeat it with --id {ids[0]}"
    assert given is None or ids == [given]


# case F12
def test_an_event_whose_file_cannot_be_written_is_named_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = NetworkFolder(tmp_path)
    folder.create(Plan())
    platform = SimpleNamespace(network=folder, kafka_bootstrap="")
    monkeypatch.setattr(publishing, "Publisher", Sent)
    monkeypatch.setattr(publishing, "running_platform", lambda: platform)
    monkeypatch.setattr(publishing, "signer_of", lambda *_: folder.signer("identity"))
    full = Path("/dev/full")

    with pytest.raises(CommandError, match=r"the-id is at .*--id the-id; /dev/full cannot be") as ended:
        publishing.publish(TYPE, subject=PATIENT, data=DATA, as_name="identity", event=full)

    assert ended.value.code is Exit.NOT_WRITTEN
    assert "event the-id is at salus.clinical.events 0 7" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "code"), [("{", Exit.USAGE), ('{"patient":"x"}', Exit.NO), ('{"shape":1}', Exit.NO)]
)
def test_data_that_is_not_as_its_schema_says_is_a_no(text: str, code: Exit) -> None:
    # docs/exit-codes.md says so, and 2 was answered.
    with pytest.raises(CommandError, match="not sent") as refused:
        _data_of(KIND, text)

    assert refused.value.code == code


@pytest.mark.parametrize("as_json", [False, True])
def test_an_event_is_sent_whether_its_place_can_be_printed_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, as_json: bool
) -> None:
    # Red team: `salus publish … >/dev/full` ended with 1, "it was not sent", and a traceback.
    folder = NetworkFolder(tmp_path)
    folder.create(Plan())
    platform = SimpleNamespace(network=folder, kafka_bootstrap="")
    monkeypatch.setattr(publishing, "Publisher", Sent)
    monkeypatch.setattr(publishing, "running_platform", lambda: platform)
    monkeypatch.setattr(publishing, "signer_of", lambda *_: folder.signer("identity"))
    with Path("/dev/full").open("wb") as full:
        monkeypatch.setattr(sys, "stdout", checked(full.fileno()))

        with pytest.raises(CommandError, match=r"the-id is at .* 7; .*; stdout cannot be written") as ended:
            publishing.publish(TYPE, subject=PATIENT, data=DATA, as_name="identity", as_json=as_json)

    assert ended.value.code is Exit.NOT_WRITTEN
