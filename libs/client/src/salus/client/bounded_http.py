"""HTTP clients that whoever answers cannot fill: a maximum for what comes back, and nothing to expand."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import httpx

REFUSAL_BYTES_MAX = 64 * 1024


class AnswerTooLargeError(httpx.TransportError):
    """The answer is larger than what was asked for can be, or says that it has yet to be expanded."""


def bounded_client(bytes_max: int | None, **options: Any) -> httpx.AsyncClient:
    """Return a client whose answers have at most so many bytes, counted as they come.

    None: as many as there are, as of a stream without an end or an object that the caller asked for.

    It asks for no content coding, and takes none: 64 KiB of gzip expand to 64 MiB at once.
    AnswerTooLargeError ends an answer, as a connection that breaks does. `options` are those of
    `httpx.AsyncClient` but headers and event hooks.
    """
    return httpx.AsyncClient(
        headers={"Accept-Encoding": "identity"},
        event_hooks={"response": [partial(_bound, bytes_max)]},
        **options,
    )


def raw_client(**options: Any) -> httpx.AsyncClient:
    """Return a client for whoever reads answers as they come, piece by piece, and expands nothing."""
    return httpx.AsyncClient(headers={"Accept-Encoding": "identity"}, **options)


async def with_problem(answer: httpx.Response) -> httpx.Response:
    """Return an answer that is a stream with its body, as far as a problem document may be long.

    Of a longer one nothing is kept: it is none, and may have no end. One that was read stays as it is.
    """
    if answer.is_closed:
        return answer
    content = b""
    async for piece in answer.aiter_raw():
        content += piece
        if len(content) > REFUSAL_BYTES_MAX:
            content = b""
            break
    return httpx.Response(answer.status_code, headers=answer.headers, content=content, request=answer.request)


async def _bound(bytes_max: int | None, answer: httpx.Response) -> None:
    coding = answer.headers.get("content-encoding", "identity").strip().lower()
    if coding != "identity":
        raise AnswerTooLargeError("the answer has a content coding that nobody asked for")
    if bytes_max is not None and isinstance(answer.stream, httpx.AsyncByteStream):
        answer.stream = _Bounded(answer.stream, bytes_max)


class _Bounded(httpx.AsyncByteStream):
    def __init__(self, stream: httpx.AsyncByteStream, bytes_max: int) -> None:
        self._stream = stream
        self._bytes_max = bytes_max

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = self._bytes_max
        async for chunk in self._stream:
            left -= len(chunk)
            if left < 0:
                raise AnswerTooLargeError(f"the answer has more than {self._bytes_max} bytes")
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()
