"""Lanes past the web framework for the few requests that come by the thousand.

Routing, dependencies and validation take a tenth of what a command takes. A lane lies within the guards of
headers and bodies, and answers as its route does. What is not exactly its request, or does not fit the
schema, is the route's, which reads the same body again: so the framework refuses what is refused.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from salus.runtime.bodies import PARSED_AT_ONCE_BYTES_MAX, answer_to

Lane = Callable[[Request, bytes], Awaitable[Response | None]]
"""Answers a POST with its body; None, before anything was done, leaves it to the route."""

_JSON = b"application/json"


@dataclass(frozen=True, slots=True)
class _Route:
    """What logs call the request, which no router has matched."""

    path: str


class RequestLanes:
    """An ASGI application in front of the routes."""

    def __init__(self, app: ASGIApp, *, lanes: Mapping[str, Lane]) -> None:
        """`lanes` are of paths without parameters."""
        self._app = app
        self._lanes = lanes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or let the route answer."""
        lane = self._lanes.get(scope["path"]) if scope["type"] == "http" else None
        if lane is None or not _is_plain(scope):
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            body = await request.body()
        except Exception as error:  # noqa: BLE001  # the route meets it as well
            await self._app(scope, _raising(error), send)
            return
        if len(body) > PARSED_AT_ONCE_BYTES_MAX:
            await self._app(scope, _again(body, receive), send)
            return
        scope["route"] = _Route(scope["path"])
        try:
            response = await lane(request, body)
        except Exception as error:  # noqa: BLE001  # the app says what is answered to which
            response = await answer_to(error, request)
        if response is None:
            del scope["route"]
            await self._app(scope, _again(body, receive), send)
        else:
            await response(scope, receive, send)


def install_lanes(app: FastAPI, lanes: Mapping[str, Lane]) -> None:
    """Put lanes in front of the routes, behind all middleware that there is."""
    app.user_middleware.append(Middleware(RequestLanes, lanes=lanes))


def _is_plain(scope: Scope) -> bool:
    types = [value for name, value in scope["headers"] if name == b"content-type"]
    return scope["method"] == "POST" and not scope["query_string"] and types == [_JSON]


def _raising(error: Exception) -> Receive:
    async def receive() -> Message:
        raise error

    return receive


def _again(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that begins with a body that was received already."""
    waiting: list[dict[str, Any]] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return waiting.pop() if waiting else await receive()

    return receive_again
