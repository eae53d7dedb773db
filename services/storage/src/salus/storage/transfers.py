"""How bodies come in and go out over HTTP: as streams that are bounded in number, size, pace and duration."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import cast, get_args
from urllib.parse import urlencode

from fastapi import Request
from fastapi.responses import StreamingResponse
from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope, Send

from salus.events.contexts.storage import ContentCoding
from salus.runtime.problems import ProblemError
from salus.runtime.request_headers import refusal_of
from salus.storage.domain import ObjectState
from salus.storage.handlers.byte_ranges import etag_of
from salus.storage.handlers.outgoing import Outgoing
from salus.storage.handlers.tally import too_large


@dataclass(frozen=True)
class Limits:
    """How much at once, how slowly, and for how long."""

    object_bytes_max: int
    transfers_max: int
    transfers_of_one_max: int
    verifications_max: int
    body_idle_s_max: float
    transfer_s_max: float

    def end(self) -> float:
        """Return when a transfer that is asked for now has to be over, by the loop's clock.

        It counts from the request and not from the first byte, as the time does in which its event counts.
        """
        return asyncio.get_running_loop().time() + self.transfer_s_max


@asynccontextmanager
async def ending(end: float) -> AsyncIterator[None]:
    """Give up what is within at that moment of the loop's clock; raises ProblemError 503 `unavailable`."""
    try:
        async with asyncio.timeout_at(end):
            yield
    except TimeoutError:
        raise ProblemError(503, "unavailable", "it took too long; try again later") from None


# Bodies of objects are streams of any size that `Limits` allows; all others are small.
OBJECTS_PATH = "/objects"
UPLOADS_PATH = "/uploads"
CODINGS: tuple[str, ...] = get_args(ContentCoding)
Place = Callable[[], AbstractAsyncContextManager[None]]


class OutgoingResponse(StreamingResponse):
    """Sends an object, with the media type that the ledger has for it.

    Each piece, some 256 KiB, is taken within `body_idle_s_max`, and all of them until `end`; otherwise the
    read breaks off.
    """

    def __init__(self, outgoing: Outgoing, *, idle_s_max: float, end: float, place: Place) -> None:
        stored, span = outgoing.stored, outgoing.span
        headers = {
            # Given to the framework, a media type would get a charset that nobody committed to.
            "Content-Type": stored.media_type,
            "Content-Length": str(span.length),
            "Content-Disposition": "attachment",
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "no-store",
            "Accept-Ranges": "bytes",
            "ETag": etag_of(stored),
            "Salus-Commitment": stored.commitment,
            "Salus-Receipt": receipt_of(stored),
        }
        if stored.content_encoding:
            headers["Content-Encoding"] = stored.content_encoding
        if span.is_part:
            headers["Content-Range"] = f"bytes {span.start}-{span.end - 1}/{span.size}"
        super().__init__(outgoing.pieces(), status_code=206 if span.is_part else 200, headers=headers)
        self._outgoing = outgoing
        self._idle_s_max = idle_s_max
        self._end = end
        self._place = place

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it; raises BrokenOffError, and the server then ends the connection."""
        async with AsyncExitStack() as places:
            try:
                await places.enter_async_context(self._place())
            except ProblemError as busy:
                await self._outgoing.break_off(busy.code)
            try:
                await self._in_time(scope, receive, send)
            except TimeoutError:
                await self._outgoing.break_off("too-slow")

    async def _in_time(self, scope: Scope, receive: Receive, send: Send) -> None:
        clock, idle_s_max = asyncio.get_running_loop().time, self._idle_s_max
        async with asyncio.timeout_at(min(self._end, clock() + idle_s_max)) as limit:

            async def paced(message: Message) -> None:
                limit.reschedule(min(self._end, clock() + idle_s_max))
                await send(message)

            await super().__call__(scope, receive, paced)


def receipt_of(stored: ObjectState) -> str:
    """Return the query by which anchoring's `/receipts` finds the receipt of the event that an object is."""
    return urlencode({"source": stored.event_source, "id": stored.event_id})


def only_new_of(request: Request) -> bool:
    """Tell whether the request is to store nothing over what is there (RFC 9110, 13.1.2)."""
    return request.method == "PUT" and request.headers.get("if-none-match", "").strip() == "*"


def content_encoding_of(request: Request) -> ContentCoding | None:
    """Return the content coding that an object comes in; raises ProblemError 415 for another one."""
    named = request.headers.get("content-encoding", "identity").strip().lower()
    if named == "identity":
        return None
    if named not in CODINGS:
        detail = f"Content-Encoding: one of {', '.join(CODINGS)}, or none"
        headers = {"Accept-Encoding": ", ".join((*CODINGS, "identity"))}
        raise ProblemError(415, "unsupported-media-type", detail, headers=headers)
    return cast("ContentCoding", named)


async def require_headers(request: Request) -> None:
    """Raise ProblemError 400, 412 or 415 for headers that ask for what storage does not do.

    The runtime leaves the paths of streams to their service, and storage honours `If-None-Match: *` and keeps
    objects in the content coding that they come in.
    """
    honoured = set[str]()
    if only_new_of(request):
        honoured.add("if-none-match")
    if request.method in {"PUT", "POST"} and request.scope["path"].startswith(OBJECTS_PATH):
        content_encoding_of(request)
        honoured.add("content-encoding")
    headers = Headers({name: value for name, value in request.headers.items() if name not in honoured})
    answer = refusal_of(request.method, headers)
    if answer is not None:
        raise ProblemError(answer.status, answer.code, answer.detail, headers=answer.headers)


async def body_of(request: Request, limits: Limits, *, end: float) -> AsyncIterator[bytes]:
    """Yield the request's body; raises ProblemError 413 `too-large` or 408 `too-slow`."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limits.object_bytes_max:
        raise too_large(limits.object_bytes_max)
    clock = asyncio.get_running_loop().time
    pieces = aiter(request.stream())
    while True:
        try:
            async with asyncio.timeout_at(min(end, clock() + limits.body_idle_s_max)):
                piece = await anext(pieces, None)
        except TimeoutError:
            raise ProblemError(408, "too-slow", "the body stopped coming, or took too long") from None
        if piece is None:
            return
        if piece:
            yield piece
