"""`salus receipts` says of a receipt what it proves of the event that was asked for (case F4)."""

from __future__ import annotations

import io
import json
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from tests.unit.client.test_receipts import AT, NAME, POLICY, receipt_of

from salus.cli.exits import CommandError, Exit
from salus.cli.receipts import _fetch, _ids, _raise_for

EVENT = json.dumps({"source": NAME.source, "id": NAME.id}).encode()


@pytest.fixture
def events(tmp_path: Path) -> Path:
    (tmp_path / "events").mkdir()
    (tmp_path / "events" / "event-1.json").write_bytes(EVENT)
    return tmp_path / "events"


async def fetched(
    to: Path, monkeypatch: pytest.MonkeyPatch, receipt: bytes | None, events: Path | None = None
) -> Counter[str]:
    """Ask an anchoring service that answers for the one event with this receipt."""
    line = {"receipt": receipt.decode()} if receipt else {"code": "unknown-event", "detail": "none"}
    body = json.dumps(line).encode() + b"\n"
    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=body))
    whole = httpx.AsyncClient
    monkeypatch.setattr(httpx, "AsyncClient", lambda **asked: whole(**asked | {"transport": transport}))
    return await _fetch("http://anchoring", POLICY, [NAME], to, events, as_json=False)


async def test_a_receipt_of_the_event_asked_for_has_a_tick(
    tmp_path: Path, events: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = await fetched(tmp_path, monkeypatch, receipt_of(EVENT), events)

    assert counts == {"accepted": 1}
    assert "✓" in capsys.readouterr().out
    assert (tmp_path / "event-1.salus").read_bytes() == receipt_of(EVENT)
    _raise_for(counts)


async def test_a_receipt_of_another_event_is_not_written_and_ends_with_1(
    tmp_path: Path, events: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = await fetched(tmp_path, monkeypatch, receipt_of(b'{"id":"another"}'), events)

    told = capsys.readouterr().out
    assert "✗ event-1: the receipt is of another record" in told
    assert "✓" not in told
    assert not (tmp_path / "event-1.salus").exists()
    with pytest.raises(CommandError) as ended:
        _raise_for(counts)
    assert ended.value.code is Exit.NO


async def test_what_was_not_compared_with_the_event_has_no_tick(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = await fetched(tmp_path, monkeypatch, receipt_of(b'{"id":"another"}'))

    told = capsys.readouterr().out
    assert "not compared with the event" in told
    assert "✓" not in told
    _raise_for(counts)


@pytest.mark.parametrize("compared", [True, False])
async def test_a_refused_record_has_a_cross_and_ends_with_5(
    tmp_path: Path,
    events: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *,
    compared: bool,
) -> None:
    receipt = receipt_of(EVENT, AT, status="rejected:bad-signature")
    counts = await fetched(tmp_path, monkeypatch, receipt, events if compared else None)

    told = capsys.readouterr().out
    assert "REFUSED: bad-signature" in told
    assert "✓" not in told
    with pytest.raises(CommandError) as ended:
        _raise_for(counts)
    assert ended.value.code is Exit.REFUSED


async def test_a_file_that_is_another_event_is_not_compared_with(
    tmp_path: Path, events: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (events / "event-1.json").write_bytes(EVENT.replace(b"event-1", b"event-2"))

    with pytest.raises(CommandError, match="is not the event event-1") as ended:
        await fetched(tmp_path, monkeypatch, receipt_of(EVENT), events)
    assert ended.value.code is Exit.USAGE


def test_a_receipt_that_is_missing_counts_before_one_that_proves_a_refusal() -> None:
    with pytest.raises(CommandError) as ended:
        _raise_for(Counter(missing=1, refused=3, accepted=2))

    assert ended.value.code is Exit.NO


def test_an_id_that_is_not_utf_8_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    # Red team: `printf '\\xff\\n' | salus receipts -` was a traceback.
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"a\n\xff\n")))

    for ids in (["-"], ["a", "\udcff"]):
        with pytest.raises(CommandError, match="id 2 is not UTF-8") as ended:
            _ids(ids)

        assert ended.value.code is Exit.USAGE
