"""A command says that something is done only if its service says so, and not whoever answers in its place."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from salus.cli import callers, consents, storing
from salus.cli.auditing import watch
from salus.cli.bucket_verification import Verification, verified_on
from salus.cli.event_stream import StreamError, events_of
from salus.cli.exits import CommandError, Exit
from salus.cli.reconciliation import compared
from salus.client.bounded_http import REFUSAL_BYTES_MAX

PATIENT, PARTY = "urn:uuid:6f1c3a52-7a0e-4d5f-9c2b-1f2e3d4c5b6a", "did:web:h.example"
LOGIN_PAGE: dict[str, Any] = {
    "headers": {"Location": "https://login.example", "Content-Type": "text/html"},
    "text": "<html>Log in",
}
# Nothing is asked of them.
PLATFORM: Any = SimpleNamespace(network=None)
SIGNER: Any = None
REDIRECT = httpx.Response(302, **LOGIN_PAGE)
ANSWERS = {
    "a redirect": REDIRECT,
    "a kept answer": httpx.Response(304),
    "a login page": httpx.Response(200, **LOGIN_PAGE),
    "something": httpx.Response(200, json={}),
    "of another": httpx.Response(201, json={"patient": PATIENT, "did": "did:web:other.example"}),
}


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Callable[[httpx.Response], None]:
    """Return what makes somebody answer like this in the place of every service."""

    def tells(answer: httpx.Response) -> None:
        def client(_: Any, **options: Any) -> httpx.AsyncClient:
            return httpx.AsyncClient(
                transport=httpx.MockTransport(lambda _: answer), base_url=options["base_url"]
            )

        monkeypatch.setattr(callers, "bounded_client", client)
        monkeypatch.setattr(storing, "bounded_client", client)

    for module in (consents, storing):
        monkeypatch.setattr(module, "running_platform", lambda: PLATFORM)
        monkeypatch.setattr(module, "signer_of", lambda *_: SIGNER)
    monkeypatch.setattr(callers, "require_service", lambda *_: "http://service")
    monkeypatch.setattr(storing, "require_service", lambda *_: "http://service")
    monkeypatch.setattr(storing, "signing", lambda *_, **__: None)
    return tells


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize(
    "command",
    [
        partial(consents.link, PATIENT, PARTY),
        partial(consents.unlink, PATIENT, PARTY),
        partial(consents.review, "x.1", "justified"),
        partial(consents.case, "x.1", "approved", "needed"),
    ],
    ids=["link", "unlink", "review", "case"],
)
def test_what_is_not_the_services_answer_is_never_shown_as_done(
    command: Callable[[], None],
    answer: str,
    answers: Callable[[httpx.Response], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    # Case "`salus consent unlink` said that a party is not the patient any more after a proxy's redirect".
    answers(ANSWERS[answer])

    with pytest.raises(CommandError) as error:
        command()

    assert error.value.code == Exit.BAD_ANSWER
    assert capsys.readouterr().out == ""


async def test_a_redirect_is_not_what_was_sealed_in_an_event(
    answers: Callable[[httpx.Response], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def decision(*_: Any) -> str:
        return "token"

    monkeypatch.setattr(storing, "_decision", decision)
    answers(REDIRECT)

    with pytest.raises(CommandError) as error:
        await storing._open(PLATFORM, SIGNER, b"{}", {}, {})

    assert error.value.code == Exit.BAD_ANSWER


async def test_who_answers_byte_by_byte_is_not_waited_for_without_an_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Drops(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            while True:
                yield b" "
                await asyncio.sleep(0.01)

    def client(_: Any, **options: Any) -> httpx.AsyncClient:
        transport = httpx.MockTransport(lambda _: httpx.Response(200, stream=Drops()))
        return httpx.AsyncClient(transport=transport, base_url=options["base_url"])

    monkeypatch.setattr(callers, "bounded_client", client)
    monkeypatch.setattr(callers, "ANSWER_S_MAX", 0.2)

    async with asyncio.timeout(60):
        with pytest.raises(CommandError) as error:
            await callers.send("consent", "http://service", "GET", "/x")

    assert error.value.code == Exit.NOT_RUNNING


async def test_a_redirect_stores_nothing(answers: Callable[[httpx.Response], None], tmp_path: Path) -> None:
    answers(REDIRECT)
    file = tmp_path / "file"
    file.write_bytes(b"x")
    asked = {"object": "o", "patient": PATIENT}

    with pytest.raises(CommandError) as error:
        await storing._put(PLATFORM, SIGNER, file, asked, kind="a/b", decided=False)

    assert error.value.code == Exit.BAD_ANSWER


class Endless(httpx.AsyncByteStream):
    """A refusal without an end."""

    sent = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while self.sent < 64 * REFUSAL_BYTES_MAX:
            self.sent += REFUSAL_BYTES_MAX
            yield b" " * REFUSAL_BYTES_MAX


STREAMS: dict[str, Callable[[httpx.AsyncClient], Any]] = {
    "tail": lambda http: watch(http, httpx.Auth(), [], as_json=False),
    "reconcile": lambda http: compared(http, lambda *_: None, repair=False),
    "verify": lambda http: verified_on(http, httpx.Auth(), Verification(), lambda *_: None),
}


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize(
    ("status", "code"), [(302, Exit.BAD_ANSWER), (403, Exit.NO), (500, Exit.NOT_RUNNING)]
)
async def test_a_stream_that_does_not_begin_is_told_and_not_read_to_its_end(
    stream: str, status: int, code: Exit
) -> None:
    endless = Endless()
    transport = httpx.MockTransport(lambda _: httpx.Response(status, stream=endless))

    async with httpx.AsyncClient(transport=transport, base_url="http://service") as http:
        with pytest.raises(CommandError) as error:
            await STREAMS[stream](http)

    assert error.value.code == code
    assert endless.sent <= 2 * REFUSAL_BYTES_MAX


async def test_lines_of_data_without_a_character_have_a_maximum_too() -> None:
    async def lines() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b"data:\n" * 100_000

    with pytest.raises(StreamError):
        [event async for event in events_of(lines())]


def test_no_command_takes_what_is_no_error_for_success() -> None:
    """The kind: `is_error` is false of a redirect."""
    folder = Path(callers.__file__).parent
    asking = {path.name for path in folder.glob("*.py") if ".is_error" in path.read_text(encoding="utf-8")}

    assert asking == {"callers.py"}
