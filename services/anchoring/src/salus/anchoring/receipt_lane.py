"""A lane past the web framework for the one request that comes by the thousand: a receipt that is there.

Routing, validation and tracing take several times as long as the receipt itself. Everything that is not
exactly that request, or does not end with a receipt, goes to the app, whose answers are the only others.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from salus.anchoring.api import FOR_NOW, TEXT
from salus.anchoring.metrics import Metrics
from salus.anchoring.runner import Runner
from salus.archive.errors import ArchiveError
from salus.archive.receipts import Anchored, ReceiptMaker, RecordPosition
from salus.objects import ObjectsError
from salus.runtime.response_headers import complete

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

PATH = "/receipts"
# What the app would say of other forms is the app's to say.
_QUERY = re.compile(rb"topic=([A-Za-z0-9._-]{1,249})&partition=([0-9]{1,9})&offset=([0-9]{1,18})")
_HEADERS = complete((name.lower().encode(), value.encode()) for name, value in FOR_NOW.items())
# Whoever sends this wants to see the request in a trace, which the app draws.
_TRACED = b"traceparent"


class ReceiptLane:
    """An ASGI application in front of another."""

    def __init__(self, app: App, runner: Runner, maker: ReceiptMaker, metrics: Metrics) -> None:
        self._app = app
        self._runner = runner
        self._maker = maker
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or let the app answer."""
        receipt = None
        if scope["type"] == "http" and scope["path"] == PATH and scope["method"] == "GET":
            receipt = await self._receipt(scope)
        if receipt is None:
            await self._app(scope, receive, send)
            return
        self._metrics.receipts.labels("made").inc()
        headers = [
            (b"content-length", str(len(receipt)).encode()),
            (b"content-type", TEXT.encode()),
            *_HEADERS,
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": receipt})

    async def _receipt(self, scope: Scope) -> bytes | None:
        match = _QUERY.fullmatch(scope["query_string"])
        if match is None or any(name == _TRACED for name, _ in scope["headers"]):
            return None
        record = RecordPosition(match[1].decode(), int(match[2]), int(match[3]))
        entry, standing = self._runner.find(record), self._runner.published
        if entry is None or standing is None:
            return None
        shard, height = self._runner.anchor.index.block_at(entry)
        try:
            with self._metrics.receipt_seconds.time():
                return await self._maker.receipt(
                    record,
                    Anchored(shard, height, entry),
                    checkpoint=standing.checkpoint,
                    checkpoint_note=standing.head.checkpoint.encode(),
                )
        except (ArchiveError, ObjectsError):
            # The app tries again and says what is wrong.
            return None
