"""`salus object put --resume`: a second run goes on where the first one ended."""

from __future__ import annotations

import os
import stat
from collections.abc import Generator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import msgspec
import pytest
from tests.unit.storage.conftest import HOSPITAL, PATIENT, Bench, limits_of
from tests.unit.storage.test_api import client_of

from salus.cli import resumable_put
from salus.cli.exits import CommandError, Exit
from salus.cli.resumable_put import Begun, FileSource, put_resumably, read_begun
from salus.client import uploads
from salus.client.bounded_http import bounded_client
from salus.client.uploads import NewObject

NEW = NewObject(PATIENT, "o-1", "image/png")
URL = f"/uploads/1?patient={PATIENT}&object=o-1"


class Hospital(httpx.Auth):
    """Says who calls, as the tests of storage's API understand it."""

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.url = request.url.copy_set_param("did", HOSPITAL.did)
        yield request


class Line(httpx.AsyncBaseTransport):
    """Is cut once the first bytes came."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self.inner = inner
        self.is_cut = False
        self.offsets: list[str] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self.is_cut:
            raise httpx.ConnectError("cut", request=request)
        if request.method != "PATCH":
            return await self.inner.handle_async_request(request)
        self.offsets.append(request.headers["upload-offset"])
        if self.offsets == ["0"]:
            self.is_cut = True
            request.headers["content-length"] = "1500"
            request.stream = httpx.ByteStream((await request.aread())[:1500])
        return await self.inner.handle_async_request(request)


async def test_a_second_run_goes_on_where_the_first_one_ended(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bench = Bench()
    await bench.registered()
    file, resume = tmp_path / "scan", tmp_path / "state"
    file.write_bytes(bytes(range(250)) * 10)
    source = FileSource.of(file)
    platform: Any = SimpleNamespace(network=None)
    monkeypatch.setattr(uploads, "RETRIES_MAX", 0)
    monkeypatch.setattr(uploads, "RETRY_S_MAX", 0)
    monkeypatch.setattr(resumable_put, "require_service", lambda *_: "http://storage")
    monkeypatch.setattr(resumable_put, "signing", lambda *_, **__: Hospital())
    async with client_of(bench, limits_of()) as inner:
        line = Line(inner._transport)
        monkeypatch.setattr(resumable_put, "bounded_client", partial(bounded_client, transport=line))
        put = partial(put_resumably, platform, platform, source, NEW, resume=resume, decide=None)
        with pytest.raises(CommandError, match="go on later with --resume") as ended:
            await put(begun=None)
        begun = read_begun(resume, source, patient=PATIENT)
        mode = stat.S_IMODE(resume.stat().st_mode)
        line.is_cut = False
        stored = await put(begun=begun)
    left = resume.exists()
    resume.write_bytes(b"{}")
    with pytest.raises(CommandError, match="is no upload"):
        read_begun(resume, source, patient=PATIENT)

    assert ended.value.code is Exit.NOT_RUNNING
    assert mode == 0o600
    assert line.offsets == ["0", "1500"]
    assert stored["object"] == "o-1"
    assert stored["receipt"]
    assert (await bench.topic.object(PATIENT, "o-1")).plaintext_bytes == source.size
    assert not left


@pytest.mark.parametrize(("length", "code"), [(2500, "upload-corrupt"), (2500, "too-many-parts"), (2600, "")])
async def test_of_an_upload_that_cannot_go_on_it_is_said_how_to_begin_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, length: int, code: str
) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "HEAD":
            return httpx.Response(200, headers={"Upload-Offset": "0", "Upload-Length": str(length)})
        return httpx.Response(502 if code == "upload-corrupt" else 413, json={"code": code})

    file, resume = tmp_path / "scan", tmp_path / "state"
    file.write_bytes(bytes(2500))
    source = FileSource.of(file)
    platform: Any = SimpleNamespace(network=None)
    monkeypatch.setattr(resumable_put, "require_service", lambda *_: "http://storage")
    monkeypatch.setattr(resumable_put, "signing", lambda *_, **__: Hospital())
    line = httpx.MockTransport(answer)
    monkeypatch.setattr(resumable_put, "bounded_client", partial(bounded_client, transport=line))
    put: Any = partial(put_resumably, platform, platform)

    with pytest.raises(CommandError, match=f"remove {resume} to begin again"):
        await put(source, NEW, Begun.of(URL, NEW, source), resume, decide=None)


def test_an_upload_of_a_file_that_changed_or_is_another_is_not_gone_on_with(tmp_path: Path) -> None:
    """Files of one archive have one size and one time: half of each was stored as one object."""
    file, twin, resume = tmp_path / "scan", tmp_path / "scan-2", tmp_path / "state"
    for each in (file, twin):
        each.write_bytes(each.name.ljust(9).encode())
        os.utime(each, ns=(1, 1))
    source = FileSource.of(file)
    resume.write_bytes(msgspec.json.encode(Begun.of(URL, NEW, source)))

    assert read_begun(resume, source, patient=PATIENT) == Begun.of(URL, NEW, source)
    for other, patient in (
        (replace(source, size=2), PATIENT),
        (replace(source, changed_ns=2), PATIENT),
        (FileSource.of(twin), PATIENT),
        (source, "another"),
    ):
        with pytest.raises(CommandError, match="of another file or patient, or the file changed since"):
            read_begun(resume, other, patient=patient)


@pytest.mark.parametrize(
    "url",
    [
        f"http://elsewhere.example{URL}",
        f"//elsewhere.example{URL}",
        "",
        URL.replace("o-1", "o-2"),
        URL.replace(PATIENT, "another"),
    ],
)
def test_a_file_that_names_another_address_sends_nothing_there(tmp_path: Path, url: str) -> None:
    """Whoever could write to the file had the whole content, of a patient, sent to an address of his."""
    file, resume = tmp_path / "scan", tmp_path / "state"
    file.write_bytes(b"x")
    source = FileSource.of(file)
    resume.write_bytes(msgspec.json.encode(Begun.of(url, NEW, source)))

    with pytest.raises(CommandError, match="is no upload"):
        read_begun(resume, source, patient=PATIENT)


@pytest.mark.parametrize("after", [b"y" * 30, b"y" * 40, b"y" * 25])
async def test_of_a_file_that_changes_the_last_bytes_are_not_sent(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, after: bytes
) -> None:
    """They were sent, so that it was stored, half old and half new, and the command said that it was not."""
    monkeypatch.setattr(resumable_put, "CHUNK_BYTES", 10)
    file = tmp_path / "scan"
    file.write_bytes(b"x" * 30)
    source, sent = FileSource.of(file), b""

    with suppress(CommandError):
        async for piece in source.pieces(0):
            sent += piece
            file.write_bytes(after)
            os.utime(file, ns=(0, source.changed_ns + 1))

    assert 0 < len(sent) < source.size
