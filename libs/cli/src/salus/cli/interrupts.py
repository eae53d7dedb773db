"""Running a command's coroutine so that Ctrl-C and SIGTERM let it clean up."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

from salus.cli.exits import CommandError, Exit

_T = TypeVar("_T")


def run_until_signal(work: Coroutine[Any, Any, _T]) -> _T:
    """Run to the end; SIGTERM cancels as Ctrl-C does, so `finally` blocks run and nothing is left behind."""

    async def guarded() -> _T:
        task = asyncio.ensure_future(work)
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(signum, task.cancel)
        try:
            return await task
        except asyncio.CancelledError:
            raise CommandError(Exit.INTERRUPTED, "interrupted") from None

    return asyncio.run(guarded())
