"""What a request body has to be before a route sees it: not too large, and JSON that is read in one way."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from salus.ledger.json_reader import JsonError, read_json
from salus.runtime.problems import Answer, respond

BODY_BYTES_MAX = 1024 * 1024


class BodyTooLargeError(HTTPException):
    """The body has more bytes than are taken; an HTTPException, for FastAPI makes a 400 of any other."""

    def __init__(self) -> None:
        super().__init__(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)


class BodyNotJsonError(HTTPException):
    """The body says that it is JSON and is not, by our strict reader; an HTTPException as the other."""

    def __init__(self, error: JsonError) -> None:
        super().__init__(HTTPStatus.UNPROCESSABLE_ENTITY, error.why)
        self.place = error.place


class BodyGuard:
    """Stops reading a body after BODY_BYTES_MAX, and looks at JSON strictly before a laxer parser does.

    The bodies of paths that begin with one of `streams` are left to their routes.
    """

    def __init__(self, app: ASGIApp, *, streams: tuple[str, ...]) -> None:
        self._app = app
        self._streams = streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with a `receive` that counts."""
        if scope["type"] != "http" or scope["path"].startswith(self._streams):
            await self._app(scope, receive, send)
            return
        # On purpose wider than any framework's idea of a JSON media type, malformed ones included.
        is_json = "json" in Headers(scope=scope).get("content-type", "").lower()
        body = bytearray()

        async def looked_at() -> Message:
            message = await receive()
            body.extend(message.get("body", b""))
            if len(body) > BODY_BYTES_MAX:
                raise BodyTooLargeError
            if is_json and body and message["type"] == "http.request" and not message.get("more_body", False):
                _require_json(bytes(body))
            return message

        await self._app(scope, looked_at, send)


def _require_json(body: bytes) -> None:
    try:
        read_json(body)
    except JsonError as error:
        raise BodyNotJsonError(error) from None


async def _too_large(request: Request, _: Exception) -> JSONResponse:
    detail = f"a request's body has at most {BODY_BYTES_MAX} bytes"
    return respond(request, Answer(413, "too-large", detail))


async def _not_json(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, BodyNotJsonError)  # noqa: S101  # registered for this class only
    errors = [{"at": error.place.replace("$", "body", 1), "what": error.detail}]
    detail = f"the body is not JSON that is read in one way only: {error.detail}"
    return respond(request, Answer(422, "malformed-json", detail, {"errors": errors}))


def guard_bodies(app: FastAPI, *, streams: tuple[str, ...]) -> None:
    """Answer 413 `too-large` to larger bodies, declared or not, and 422 `malformed-json` to bad JSON."""
    app.add_exception_handler(BodyTooLargeError, _too_large)
    app.add_exception_handler(BodyNotJsonError, _not_json)
    app.add_middleware(BodyGuard, streams=streams)
