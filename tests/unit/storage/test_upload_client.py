"""The client's resumable upload against storage's own routes, over a line that breaks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator
from dataclasses import dataclass

import httpx
import pytest

from salus.client.uploads import (
    NewObject,
    ResumableUpload,
    UploadAwayError,
    UploadLengthError,
    UploadRefusedError,
)

from .conftest import HOSPITAL, PATIENT, Bench, limits_of
from .test_api import client_of

BODY = bytes(range(250)) * 10


@dataclass
class Breaking:
    """The bytes of an object; the first reads of them stop after so many."""

    breaks: list[int]

    @property
    def size(self) -> int:
        return len(BODY)

    async def pieces(self, start: int) -> AsyncIterator[bytes]:
        end = start + self.breaks.pop(0) if self.breaks else len(BODY)
        for at in range(start, min(end, len(BODY)), 300):
            yield BODY[at : min(at + 300, end)]
        if end < len(BODY):
            await asyncio.sleep(3600)


class Shorter(Breaking):
    """As many bytes as are durable: an answer to the last of them is no receipt."""

    @property
    def size(self) -> int:
        return 600


class Line(httpx.AsyncBaseTransport):
    """Loses the answer to the first PATCH that was taken."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self.inner = inner
        self.lost = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answer = await self.inner.handle_async_request(request)
        if request.method == "PATCH" and answer.status_code == 204 and not self.lost:
            self.lost += 1
            raise httpx.ReadError("lost", request=request)
        return answer


class Hospital(httpx.Auth):
    """Says who calls, as `test_api.py` understands it."""

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.url = request.url.copy_set_param("did", HOSPITAL.did)
        yield request


async def at_once(_: float) -> None:
    """Wait for nothing."""


async def test_what_came_before_a_break_is_not_sent_again_and_a_lost_answer_is_no_doubt() -> None:
    bench = Bench()
    await bench.registered()
    told: list[int] = []
    async with client_of(bench, limits_of(body_idle_s_max=0.2)) as inner:
        line = Line(inner._transport)
        async with httpx.AsyncClient(transport=line, base_url="http://storage") as http:
            at = ResumableUpload(http, "", Hospital(), tell=told.append, sleep=at_once)
            upload = await at.begin(NewObject(PATIENT, "o-1", "image/png", "gzip"), len(BODY))
            answer = await upload.send(Breaking([1300, 700]))
            other = await at.begin(NewObject(PATIENT, "o-2"), len(BODY))
            with pytest.raises(UploadAwayError) as away:
                await other.send(Breaking([600] + [0] * 20))
            with pytest.raises(UploadLengthError, match="has 2500 bytes, and the source 600"):
                await other.send(Shorter([]))
            await other.terminate()
            with pytest.raises(UploadRefusedError) as gone:
                await other.send(Breaking([]))
    stored = await bench.topic.object(PATIENT, "o-1")

    assert line.lost == 1
    assert answer.headers["salus-receipt"]
    assert (stored.media_type, stored.content_encoding) == ("image/png", "gzip")
    assert stored.plaintext_bytes == len(BODY)
    assert told[: told.index(1600)].count(1300) == 2, "sent, and durable"
    assert 2000 in told
    assert told[told.index(2500) :][0] == 2500
    assert away.value.offset == 600
    assert gone.value.answer.status_code == 404
