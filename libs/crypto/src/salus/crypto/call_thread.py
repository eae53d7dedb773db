"""A thread for calls into a library that may hang: it holds up neither other threads nor the end."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, TypeVar

from salus.crypto.errors import KmsAwayError

# A call that takes longer hangs: further ones are refused at once until it ends.
CALL_S_MAX = 5.0
CALLS_WAITING_MAX = 256
# So long the end waits for the calls before it and for the last one.
END_S_MAX = 5.0

_T = TypeVar("_T")
_Job = tuple[Future[Any], Callable[[], Any]]


@dataclass
class CallThread:
    """Makes calls one after the other in a daemon thread, which begins with the first call.

    The threads of the event loop would do no better: as many calls as it has threads would take them all from
    whoever resolves a name or checks a body, and the loop waits for them before it ends.
    """

    clock: Callable[[], float] = time.monotonic
    _jobs: SimpleQueue[_Job | None] = field(default_factory=SimpleQueue, init=False, repr=False)
    _thread: threading.Thread | None = field(default=None, init=False, repr=False)
    # When the call began that is being made.
    _begun: float | None = field(default=None, init=False, repr=False)

    async def run(self, call: Callable[[], _T]) -> _T:
        """Return what the call returns; one whose caller has gone is not begun.

        Raises:
            KmsAwayError: a call before it hangs, or too many wait.
        """
        begun = self._begun
        if begun is not None and self.clock() - begun > CALL_S_MAX:
            raise KmsAwayError(f"a call before this one has not ended for more than {CALL_S_MAX:g} s")
        if self._jobs.qsize() >= CALLS_WAITING_MAX:
            raise KmsAwayError(f"{CALLS_WAITING_MAX} calls wait already")
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, daemon=True, name="salus-calls")
            self._thread.start()
        return await self._asked(call)

    async def end(self, last: Callable[[], None]) -> None:
        """Make a last call and end the thread; one that hangs is left behind."""
        if self._thread is None:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(END_S_MAX):
                await self._asked(last)
        self._jobs.put(None)

    async def _asked(self, call: Callable[[], _T]) -> _T:
        future: Future[_T] = Future()
        self._jobs.put((future, call))
        return await asyncio.wrap_future(future)

    def _work(self) -> None:
        # The thread keeps nothing of a call while it waits for the next: it may hold a key.
        while self._make(self._jobs.get()):
            pass

    def _make(self, job: _Job | None) -> bool:
        if job is None:
            return False
        future, call = job
        if not future.set_running_or_notify_cancel():
            return True
        self._begun = self.clock()
        try:
            result = call()
        except BaseException as error:  # noqa: BLE001  # whoever called gets it
            self._begun = None
            future.set_exception(error)
        else:
            self._begun = None
            future.set_result(result)
        return True
