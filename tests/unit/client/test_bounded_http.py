"""Whoever answers fills nobody's memory (case F8)."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator

import httpx
import pytest

from salus.client.bounded_http import AnswerTooLargeError, bounded_client

SIZE = 1 << 20


class Endless(httpx.AsyncByteStream):
    """Sends as long as somebody reads."""

    sent = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            self.sent += 65_536
            yield bytes(65_536)


def answering(answer: httpx.Response) -> httpx.AsyncClient:
    return bounded_client(SIZE, transport=httpx.MockTransport(lambda _: answer))


async def test_an_answer_without_end_is_not_read_to_it() -> None:
    stream = Endless()
    async with answering(httpx.Response(200, stream=stream)) as client:
        with pytest.raises(AnswerTooLargeError, match="more than 1048576 bytes"):
            await client.get("https://log.example/checkpoint")

    assert stream.sent <= SIZE + 65_536


async def test_an_answer_that_has_to_be_expanded_is_not_taken() -> None:
    bomb = gzip.compress(bytes(64 << 20))
    headers = {"Content-Encoding": "gzip"}
    async with answering(httpx.Response(200, headers=headers, stream=httpx.ByteStream(bomb))) as client:
        with pytest.raises(AnswerTooLargeError, match="content coding"):
            await client.get("https://log.example/checkpoint")


async def test_nothing_to_expand_is_asked_for() -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, content=bytes(SIZE))

    async with bounded_client(SIZE, transport=httpx.MockTransport(answer)) as client:
        got = await client.get("https://log.example/checkpoint")
        async with client.stream("GET", "https://log.example/checkpoint") as streamed:
            parts = [part async for part in streamed.aiter_bytes()]

    assert len(got.content) == sum(map(len, parts)) == SIZE
    assert [request.headers["accept-encoding"] for request in asked] == ["identity"] * 2
