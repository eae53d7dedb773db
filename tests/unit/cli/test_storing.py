"""`salus object` says in one sentence that storage did not answer, and what is known then."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from salus.cli import storing
from salus.cli.exits import CommandError, Exit
from salus.client.bounded_http import bounded_client
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
        "get": partial(storing._get, platform, SIGNER, asked),
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
