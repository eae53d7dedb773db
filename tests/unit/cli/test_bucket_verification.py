"""`salus storage verify` shows what storage finds, and goes on where it was left."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.unit.cli.test_storing import SIGNER, platform_in

from salus.cli import bucket_verification
from salus.cli.bucket_verification import Verification, verified_on, verify
from salus.cli.exits import CommandError, Exit
from salus.client.bounded_http import bounded_client

FOUND = {
    "finding": {"kind": "damaged", "location": "a/1"},
    "sentence": "a of p, at a/1: segment 3 is altered",
}
STRAY = {"finding": {"kind": "stray", "location": "x"}, "sentence": "x: none of ours, it is left alone"}


def progress(objects: int, after: str) -> dict[str, Any]:
    return {"progress": {"objects": objects, "stored_bytes": objects * 10, "after": after}}


Serve = Callable[[dict[str, list[dict[str, Any]] | httpx.Response]], list[str]]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Serve:
    """Return what lets storage answer so to each `after`; it returns what was asked for."""
    asked: list[str] = []

    def told(answers: dict[str, list[dict[str, Any]] | httpx.Response]) -> list[str]:
        def handle(request: httpx.Request) -> httpx.Response:
            asked.append(request.url.params["after"])
            answer = answers[asked[-1]]
            if isinstance(answer, httpx.Response):
                return answer
            return httpx.Response(200, text="".join(f"data: {json.dumps(each)}\n\n" for each in answer))

        def client(bytes_max: int | None, **options: Any) -> httpx.AsyncClient:
            return bounded_client(bytes_max, **options, transport=httpx.MockTransport(handle))

        monkeypatch.setattr(bucket_verification, "bounded_client", client)
        return asked

    monkeypatch.setattr(bucket_verification, "require_service", lambda *_: "http://storage")
    monkeypatch.setattr(bucket_verification, "running_platform", lambda: platform_in(tmp_path))
    monkeypatch.setattr(bucket_verification, "signer_of", lambda *_: SIGNER)
    return told


def test_a_bucket_that_is_as_the_ledger_says_is_one_sentence(
    serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = serve({"": [progress(0, ""), STRAY, progress(7, "z"), {"result": "intact", "findings": 1}]})
    verify()

    assert (
        "7 objects, 70 bytes, are as the ledger says; 1 of others lie beside them" in capsys.readouterr().out
    )
    assert asked == [""]


def test_what_differs_is_named_and_ends_with_1(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    serve({"": [FOUND, progress(7, "z"), {"result": "differs", "findings": 1}]})
    with pytest.raises(CommandError, match="1 differ from the ledger, of 7 objects") as ended:
        verify()

    assert ended.value.code is Exit.NO
    assert "segment 3 is altered" in capsys.readouterr().out


def test_a_stream_that_pauses_is_gone_on_with(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    asked = serve(
        {
            "": [FOUND, progress(3, "c"), {"paused": True, "after": "c"}],
            "c": [progress(4, "g"), {"result": "intact", "findings": 0}],
        }
    )
    with pytest.raises(CommandError, match="1 differ from the ledger, of 7 objects"):
        verify(as_json=True)

    assert asked == ["", "c"]
    told = json.loads(capsys.readouterr().out)
    assert (told["result"], told["objects"], told["stored_bytes"]) == ("differs", 7, 70)
    assert told["findings"] == [{**FOUND["finding"], "sentence": FOUND["sentence"]}]  # type: ignore[dict-item]  # it is a dict


def test_a_verification_that_was_ended_goes_on_where_it_was(serve: Serve, tmp_path: Path) -> None:
    kept = tmp_path / "verification"
    serve({"": [FOUND, progress(3, "c"), {"error": "unavailable", "detail": "away", "after": "c"}]})
    with pytest.raises(CommandError, match="storage: away") as ended:
        verify(resume=kept)
    asked = serve({"c": [progress(4, "g"), {"result": "intact", "findings": 0}]})
    with pytest.raises(CommandError, match="1 differ from the ledger, of 7 objects"):
        verify(resume=kept)

    assert ended.value.code is Exit.NOT_RUNNING
    assert asked[-1] == "c"
    assert not kept.exists()


def test_a_file_that_is_no_verification_is_refused(serve: Serve, tmp_path: Path) -> None:
    asked = serve({})
    kept = tmp_path / "verification"
    kept.write_text("[]")
    with pytest.raises(CommandError, match="is no verification") as ended:
        verify(resume=kept)

    assert (ended.value.code, asked) == (Exit.USAGE, [])


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ([], "storage ended before the verification did"),
        (httpx.Response(403, json={"code": "not-allowed", "detail": "only an operator"}), "not-allowed"),
    ],
)
async def test_a_stream_without_an_end_is_none(
    answer: list[dict[str, Any]] | httpx.Response, sentence: str
) -> None:
    def handle(_: httpx.Request) -> httpx.Response:
        return answer if isinstance(answer, httpx.Response) else httpx.Response(200)

    transport = httpx.MockTransport(handle)
    async with httpx.AsyncClient(transport=transport, base_url="http://storage") as http:
        with pytest.raises(CommandError, match=sentence):
            await verified_on(http, httpx.BasicAuth("", ""), Verification(), lambda *_: None)
