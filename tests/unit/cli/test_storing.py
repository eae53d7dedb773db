"""`salus object` says in one sentence that storage did not answer, and what is known then."""

from __future__ import annotations

import io
import json
import stat
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from salus.cli import storing
from salus.cli.exits import CommandError, Exit
from salus.client.bounded_http import bounded_client, raw_client
from salus.devkit.network import NetworkFolder
from salus.events.did import LocalSigner

PATIENT = "urn:uuid:6f1c3a52-7a0e-4d5f-9c2b-1f2e3d4c5b6a"
SIGNER = LocalSigner.from_seed(bytes([1]) * 32)


async def allowed(*_: Any, **__: Any) -> httpx.Response:
    return httpx.Response(200, json={"allowed": True, "reasons": [], "token": "t"})


def platform_in(folder: Path) -> Any:
    (folder / "network.json").write_text('{"origin": "test"}')
    return SimpleNamespace(network=NetworkFolder(folder))


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> Callable[[type[httpx.TransportError]], None]:
    """Return what makes storage fail in that way; consent allows whatever it is asked."""

    def fail(kind: type[httpx.TransportError]) -> None:
        def handle(request: httpx.Request) -> httpx.Response:
            raise kind("no", request=request)

        def client(bytes_max: int | None, **options: Any) -> httpx.AsyncClient:
            return bounded_client(bytes_max, **options, transport=httpx.MockTransport(handle))

        monkeypatch.setattr(storing, "bounded_client", client)
        monkeypatch.setattr(storing, "raw_client", partial(client, None))

    monkeypatch.setattr(storing, "call", allowed)
    monkeypatch.setattr(storing, "require_service", lambda *_: "http://storage")
    return fail


@pytest.fixture
def commands(tmp_path: Path) -> dict[str, Callable[[], Coroutine[Any, Any, Any]]]:
    file = tmp_path / "scan"
    file.write_bytes(b"scan")
    platform = platform_in(tmp_path)
    asked = {"object": "scan-1", "patient": PATIENT}
    return {
        "put": partial(storing._put, platform, SIGNER, file, asked, kind="image/png", decided=True),
        "get": partial(storing._get, platform, SIGNER, asked, None, io.BytesIO().write),
        "open": partial(storing._open, platform, SIGNER, b"{}", asked, {"patient": PATIENT}),
    }


@pytest.mark.parametrize("kind", [httpx.ConnectError, httpx.ReadTimeout])
@pytest.mark.parametrize("name", ["put", "get", "open"])
async def test_a_storage_that_is_away_is_one_sentence(
    name: str,
    kind: type[httpx.TransportError],
    away: Callable[[type[httpx.TransportError]], None],
    commands: dict[str, Callable[[], Coroutine[Any, Any, Any]]],
) -> None:
    # "A page of traceback, and exit code 1, when storage was stopped".
    away(kind)
    with pytest.raises(CommandError, match=f"^storage does not answer: {kind.__name__}") as ended:
        await commands[name]()

    assert ended.value.code is Exit.NOT_RUNNING
    doubtful = name == "put" and kind is httpx.ReadTimeout
    assert ("not known whether the file was stored" in str(ended.value)) is doubtful


@pytest.mark.parametrize("decided", [True, False])
async def test_who_acts_for_no_steward_stores_under_a_decision(
    *, decided: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # A member with a consent to write could not store: `object put` asked for no decision.
    file, sent = tmp_path / "scan", []
    file.write_bytes(b"scan")
    problem = {"code": "not-the-steward", "detail": "only the steward stores here"}

    def handle(request: httpx.Request) -> httpx.Response:
        sent.append((request.method, request.url.raw_path.decode(), request.headers.get("salus-decision")))
        return httpx.Response(201, json={"object": "s/1"}) if decided else httpx.Response(403, json=problem)

    def client(bytes_max: int | None, **options: Any) -> httpx.AsyncClient:
        return bounded_client(bytes_max, **options, transport=httpx.MockTransport(handle))

    monkeypatch.setattr(storing, "call", allowed)
    monkeypatch.setattr(storing, "require_service", lambda *_: "http://storage")
    monkeypatch.setattr(storing, "bounded_client", client)
    platform = platform_in(tmp_path)
    put = storing._put(
        platform, SIGNER, file, {"object": "s/1", "patient": PATIENT}, kind="image/png", decided=decided
    )
    if decided:
        assert await put == {"object": "s/1"}
    else:
        with pytest.raises(CommandError, match=r"not-the-steward.* next: with --purpose a decision"):
            await put

    path = f"/objects/s%2F1?patient={PATIENT.replace(':', '%3A')}"
    assert sent == [("PUT", path, "t" if decided else None)]


@pytest.fixture
def erased(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was erased; someone sits at the terminal."""
    done: list[str] = []

    async def call(_: object, _service: str, method: str, path: str, **__: object) -> httpx.Response:
        done.append(f"{method} {path}")
        return httpx.Response(200, json={"objects": 3})

    monkeypatch.setattr(storing, "call", call)
    monkeypatch.setattr(storing, "running_platform", lambda: None)
    monkeypatch.setattr(storing, "signer_of", lambda *_: SIGNER)
    return done


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


# A new user's case: `salus object erase` asked nothing, and it is for ever.
@pytest.mark.parametrize("answer", ["", "\n", "n\n", "yess\n"])
def test_a_key_is_not_destroyed_without_a_yes(
    answer: str, erased: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(answer))

    with pytest.raises(CommandError, match="nothing was erased") as ended:
        storing.erase(PATIENT, "patient-request")

    assert (ended.value.code, erased) == (Exit.NO, [])
    assert f"sealed for {PATIENT} will be unreadable for ever" in capsys.readouterr().err


def test_a_key_is_destroyed_once_somebody_said_yes(
    erased: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal("y\n"))

    storing.erase(PATIENT, "patient-request", as_json=True)

    assert erased == [f"DELETE /subjects/{PATIENT}/key"]
    assert json.loads(capsys.readouterr().out) == {"objects": 3}


def test_a_script_says_yes_beforehand_or_is_refused(
    erased: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))

    with pytest.raises(CommandError, match="say --yes; nothing was erased") as ended:
        storing.erase(PATIENT, "patient-request")
    assert (ended.value.code, erased) == (Exit.USAGE, [])

    storing.erase(PATIENT, "patient-request", yes=True)
    assert erased == [f"DELETE /subjects/{PATIENT}/key"]


CONTENT = bytes(range(256)) * 100


@pytest.fixture
def serving(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[httpx.Request]:
    """Storage with an object in gzip's coding, of which it breaks off the last byte if asked for `-1`."""
    asked: list[httpx.Request] = []

    async def broken() -> AsyncIterator[bytes]:
        yield CONTENT[:7]
        raise httpx.RemoteProtocolError("closed")

    def handle(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        given = request.headers.get("range")
        if given == "bytes=-9":
            part = {"Content-Range": f"bytes 25591-25599/{len(CONTENT)}", "Content-Length": "9"}
            return httpx.Response(206, headers=part, content=broken())
        if given == "bytes=99999-":
            problem = b'{"code": "range-not-satisfiable", "detail": "no byte"}'
            return httpx.Response(416, stream=httpx.ByteStream(problem))
        if given:
            part = {"Content-Range": f"bytes 2-4/{len(CONTENT)}", "Content-Length": "3"}
            return httpx.Response(206, headers=part, stream=httpx.ByteStream(CONTENT[2:5]))
        coded = {"Content-Encoding": "gzip", "Content-Length": str(len(CONTENT))}
        return httpx.Response(200, headers=coded, stream=httpx.ByteStream(CONTENT))

    def client(**options: Any) -> httpx.AsyncClient:
        return raw_client(**options, transport=httpx.MockTransport(handle))

    monkeypatch.setattr(storing, "raw_client", client)
    monkeypatch.setattr(storing, "call", allowed)
    monkeypatch.setattr(storing, "require_service", lambda *_: "http://storage")
    monkeypatch.setattr(storing, "running_platform", lambda: platform_in(tmp_path))
    monkeypatch.setattr(storing, "signer_of", lambda *_: SIGNER)
    return asked


def test_an_object_is_written_as_it_was_stored(serving: list[httpx.Request], tmp_path: Path) -> None:
    """Case S2: nobody undoes the content coding that it came in."""
    place = tmp_path / "scan"
    storing.get("scan-1", PATIENT, output=place, purpose="TREAT")

    assert place.read_bytes() == CONTENT
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    assert "range" not in serving[0].headers


def test_a_range_of_an_object_is_written(serving: list[httpx.Request], tmp_path: Path) -> None:
    place = tmp_path / "part"
    storing.get("scan-1", PATIENT, part="2-4", output=place, purpose="TREAT")

    assert place.read_bytes() == CONTENT[2:5]
    assert serving[0].headers["range"] == "bytes=2-4"


@pytest.mark.parametrize(
    ("part", "code", "sentence"),
    [
        ("-9", Exit.NO, "the read was broken off: the content ended after 7 of 9 bytes"),
        ("99999-", Exit.NO, "range-not-satisfiable"),
        ("0-1,4-5", Exit.USAGE, "nothing was read"),
    ],
)
def test_a_read_that_does_not_come_whole_leaves_no_file(
    serving: list[httpx.Request], tmp_path: Path, part: str, code: Exit, sentence: str
) -> None:
    with pytest.raises(CommandError, match=sentence) as ended:
        storing.get("scan-1", PATIENT, part=part, output=tmp_path / "part", purpose="TREAT")

    assert ended.value.code is code
    assert [path.name for path in tmp_path.iterdir() if "part" in path.name] == []
    assert len(serving) == (code is Exit.NO)
