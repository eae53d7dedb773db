"""Work that goes on beside the requests: it ends with its owner, and its failure ends the process."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import structlog

_log = structlog.get_logger()


@asynccontextmanager
async def background(work: Coroutine[Any, Any, None], *, name: str) -> AsyncIterator[asyncio.Task[None]]:
    """Run `work` until the context is left.

    A failure that the work does not handle itself stops the service as SIGTERM does: half a service that
    looks alive would be worse than none, and whoever runs it starts it again.
    """
    task = asyncio.create_task(work, name=name)
    task.add_done_callback(_stop_on_failure)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _stop_on_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.critical("background work failed, stopping", work=task.get_name(), exc_info=error)
        os.kill(os.getpid(), signal.SIGTERM)
