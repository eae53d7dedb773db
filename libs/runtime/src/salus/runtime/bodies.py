"""A limit on request bodies: they are read into memory before anyone has asked who is calling."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from salus.runtime.problems import problem_response

BODY_BYTES_MAX = 1024 * 1024


class BodyTooLargeError(HTTPException):
    """The body has more bytes than are taken; an HTTPException, for FastAPI makes a 400 of any other."""

    def __init__(self) -> None:
        super().__init__(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)


class BodyLimit:
    """Stops reading a body after BODY_BYTES_MAX; paths that begin with one of `streams` have other limits."""

    def __init__(self, app: ASGIApp, *, streams: tuple[str, ...]) -> None:
        self._app = app
        self._streams = streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with a `receive` that counts."""
        if scope["type"] != "http" or scope["path"].startswith(self._streams):
            await self._app(scope, receive, send)
            return
        room = BODY_BYTES_MAX

        async def counted() -> Message:
            nonlocal room
            message = await receive()
            room -= len(message.get("body", b""))
            if room < 0:
                raise BodyTooLargeError
            return message

        await self._app(scope, counted, send)


async def _too_large(_: Request, __: Exception) -> JSONResponse:
    return problem_response(413, "too-large", f"a request's body has at most {BODY_BYTES_MAX} bytes")


def limit_bodies(app: FastAPI, *, streams: tuple[str, ...]) -> None:
    """Answer 413 `too-large` to larger bodies, whether or not they declare their size."""
    app.add_exception_handler(BodyTooLargeError, _too_large)
    app.add_middleware(BodyLimit, streams=streams)
