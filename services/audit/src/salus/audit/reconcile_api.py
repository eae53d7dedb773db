"""Comparing the trail with the ledger at once, for operators."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Annotated

import msgspec
import structlog
from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse

from salus.audit.api import Authenticate
from salus.audit.comparison import Comparison
from salus.audit.domain.blocks import BlockRefusedError
from salus.audit.domain.search import SEES_ALL
from salus.audit.ports import OutOfReachError
from salus.audit.reconciliation import Step
from salus.runtime.auth import require_named
from salus.runtime.openapi import TEXT, content
from salus.runtime.problems import ProblemError, documented

# Events that may wait for a slow reader; of those beyond, the result tells the number.
EVENTS_MAX = 10_000
PROGRESS_MAX = 64
# After so long without news the last progress is told again: the pass waits for another one, or reads much.
SILENCE_S_MAX = 10.0

_log = structlog.get_logger()


def reconcile_routes(comparison: Comparison, authenticate: Authenticate) -> APIRouter:
    """Return the route."""
    router = APIRouter(tags=["operations"])

    @router.post(
        "/trail/reconcile",
        summary="Compare the whole trail with the ledger now, and repair it if asked to",
        description="Server-sent events, JSON as `data`: `progress` at once, after each block and at least "
        "every 10 s, `difference` for each row that is missing, extra or changed, and in the end `result` "
        "(`equal`, `differs`, `repaired`) or "
        "`error`. `untold` counts differences that were left out because they were not read fast enough.",
        responses={**documented(401, 403, 422, 429), **content("text/event-stream", TEXT)},
        response_class=StreamingResponse,
    )
    async def reconcile(
        request: Request,
        *,
        repair: Annotated[bool, Query(description="Put what differs right, from the ledger.")] = False,
    ) -> StreamingResponse:
        party = await authenticate(request)
        if not party.roles & SEES_ALL:
            raise ProblemError(403, "not-allowed", "only an operator may compare the trail with the ledger")
        if repair:
            require_named(request)
        _log.info("reconciling", by=party.did, repair=repair)
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        events = reconciled(comparison, repair=repair, by=party.did)
        return StreamingResponse(events, media_type="text/event-stream", headers=headers)

    return router


async def reconciled(comparison: Comparison, *, repair: bool, by: str | None = None) -> AsyncGenerator[bytes]:
    """Yield the events of one comparison; who stops listening stops it, and who is slow holds up nobody."""
    # Two more always have room: the result, and None for the end.
    events: asyncio.Queue[bytes | None] = asyncio.Queue(EVENTS_MAX + 2)
    untold = 0
    progress = _progress(Step(0, 0, 0))

    async def told(step: Step) -> None:
        nonlocal untold, progress
        for difference in step.differences:
            if events.qsize() < EVENTS_MAX:
                events.put_nowait(_event({"difference": difference, "sentence": str(difference)}))
            else:
                untold += 1
        if events.qsize() < PROGRESS_MAX:
            progress = _progress(step)
            events.put_nowait(progress)

    async def work() -> None:
        try:
            found = await comparison.compare(told, repair=repair, by=by)
            result = {"result": _result(found, repair=repair), "differences": found}
            events.put_nowait(_event(result | ({"untold": untold} if untold else {})))
        except BlockRefusedError as error:
            events.put_nowait(_event({"error": "ledger-block-refused", "detail": str(error)}))
        except OutOfReachError:
            detail = "archive, database or Kafka is away or slow; ask again"
            events.put_nowait(_event({"error": "unavailable", "detail": detail}))
        finally:
            events.put_nowait(None)

    working = asyncio.create_task(work())
    try:
        yield progress
        while (event := await _next(events, otherwise=lambda: progress)) is not None:
            yield event
        await working
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)


async def _next(events: asyncio.Queue[bytes | None], otherwise: Callable[[], bytes]) -> bytes | None:
    """Return the next event; something else after SILENCE_S_MAX."""
    try:
        return await asyncio.wait_for(events.get(), SILENCE_S_MAX)
    except TimeoutError:
        return otherwise()


def _progress(step: Step) -> bytes:
    progress = {"blocks": step.blocks, "blocks_in_all": step.blocks_in_all, "rows": step.rows}
    return _event({"progress": progress})


def _result(found: int, *, repair: bool) -> str:
    if not found:
        return "equal"
    return "repaired" if repair else "differs"


def _event(content: object) -> bytes:
    return b"data: " + msgspec.json.encode(content) + b"\n\n"
