"""One call for many callers: each gets the answer of a call that began after it asked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from salus.messaging.errors import BrokerAwayError

_T = TypeVar("_T")


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class SharedCall(Generic[_T]):
    """Calls something for whoever asks; those who ask while a call is under way share the next one.

    Callers may rely on: what an answer says was so after they asked. A failure is an answer, too: where the
    broker is away, nobody waits for the deadlines of all who asked before. Who gives up ends no call, for it
    may be that of others; nor is a call cancelled by what it waits for, which is a failure.
    """

    def __init__(self, call: Callable[[], Awaitable[_T]]) -> None:
        self._call = call
        # The answer of the call that has not begun yet.
        self._next: asyncio.Future[_T] | None = None
        self._calling: asyncio.Task[None] | None = None

    async def __call__(self) -> _T:
        """Return an answer from after now; raises what the call raised."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
            # Whoever waits looks at it; nobody may be left who does.
            self._next.add_done_callback(lambda answer: answer.cancelled() or answer.exception())
        mine = self._next
        if self._calling is None:
            self._calling = asyncio.create_task(self._call_for_all(), name="shared-call")
        return await asyncio.shield(mine)

    async def _call_for_all(self) -> None:
        try:
            while self._next is not None:
                answer, self._next = self._next, None
                try:
                    answer.set_result(await self._call())
                except asyncio.CancelledError:
                    if _is_cancelled():
                        answer.cancel()
                        raise
                    # Something that the call waited for was: who asked is not to end as if they were.
                    answer.set_exception(BrokerAwayError("what was waited for has ended"))
                except Exception as error:  # noqa: BLE001  # whatever it is, it is the answer
                    answer.set_exception(error)
        finally:
            self._calling = None
            if self._next is not None:
                # Only a cancelled call leaves somebody waiting.
                self._next.cancel()
                self._next = None
