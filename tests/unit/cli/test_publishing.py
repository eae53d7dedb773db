"""The data of an event that is published from the command line says one thing only."""

from __future__ import annotations

from pathlib import Path

import pytest

from salus.cli.exits import CommandError
from salus.cli.publishing import _data_of
from salus.events.catalogue import DocumentRegistered

TYPE = "salus.clinical.document-registered.v1"
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

    data = _data_of(TYPE, text)

    assert isinstance(data, DocumentRegistered)
    assert data.object == "scan-1"
    with pytest.raises(CommandError, match=f"not the data of a {TYPE}"):
        _data_of(TYPE, spoiled)
