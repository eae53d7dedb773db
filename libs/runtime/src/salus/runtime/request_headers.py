"""Headers that change what a request means: what no service of ours honours is refused."""

from __future__ import annotations

from fastapi import FastAPI, Request
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from salus.runtime.problems import Answer, respond

_READING = frozenset({"GET", "HEAD", "OPTIONS"})


def refusal_of(method: str, headers: Headers) -> Answer | None:
    """Return why a request is refused for its headers; None if they are as any service takes them.

    No resource of ours has a version, so a condition on one cannot be met (RFC 9110, 13.1); a body is whole
    (14.5) and not compressed (15.5.16). A read may pass If-None-Match over, for what it answers is true.
    """
    if headers.get("content-encoding", "identity").strip().lower() != "identity":
        detail = "Content-Encoding: a body is sent as it is"
        return Answer(415, "unsupported-media-type", detail, headers={"Accept-Encoding": "identity"})
    if "content-range" in headers:
        return Answer(400, "not-supported", "Content-Range: a body is sent whole")
    unmet = ("If-Match", "If-Unmodified-Since", *(() if method in _READING else ("If-None-Match",)))
    for name in unmet:
        if name in headers:
            return Answer(412, "precondition-failed", f"{name}: a resource has no versions here")
    return None


class HeaderGuard:
    """Answers instead of the app; paths that begin with one of `streams` look at their headers themselves."""

    def __init__(self, app: ASGIApp, *, streams: tuple[str, ...]) -> None:
        self._app = app
        self._streams = streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        answer = None
        if scope["type"] == "http" and not scope["path"].startswith(self._streams):
            answer = refusal_of(scope["method"], Headers(scope=scope))
        refused = None if answer is None else respond(Request(scope), answer)
        await (refused or self._app)(scope, receive, send)


def guard_headers(app: FastAPI, *, streams: tuple[str, ...]) -> None:
    """Answer 400, 412 or 415 to requests whose headers ask for what no service does."""
    app.add_middleware(HeaderGuard, streams=streams)
