"""What is for operators alone has one spelling.

A proxy keeps `/metrics` from outsiders by the path as it was sent, and the framework goes by it decoded:
`/%6detrics` would pass the proxy and be answered.
"""

from __future__ import annotations

from fastapi import FastAPI, Request
from starlette.types import ASGIApp, Receive, Scope, Send

from salus.runtime.problems import Answer, respond

OPERATOR_PATHS = frozenset({"/healthz", "/readyz", "/metrics", "/status"})


class OneSpelling:
    """Answers 404 to a path of operators that was sent in another spelling."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] == "http" and scope["path"] in OPERATOR_PATHS:
            sent: bytes = scope.get("raw_path") or scope["path"].encode()
            if sent.partition(b"?")[0] != scope["path"].encode():
                refused = respond(Request(scope), Answer(404, "not-found", "Not Found"))
                await refused(scope, receive, send)
                return
        await self._app(scope, receive, send)


def guard_operator_paths(app: FastAPI) -> None:
    """Let paths of operators be reached by their one spelling only."""
    app.add_middleware(OneSpelling)
