"""One call for many callers: each gets the answer of a call that began after it asked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Generic, TypeVar

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
        # Those whom the call serves that has not begun yet, each by a future of their own: who gives up
        # cancels nobody else's.
        self._waiting: list[asyncio.Future[_T]] = []
        self._calling: asyncio.Task[None] | None = None

    async def __call__(self) -> _T:
        """Return an answer from after now; raises what the call raised."""
        mine: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
        self._waiting.append(mine)
        if self._calling is None:
            self._calling = asyncio.create_task(self._call_for_all(), name="shared-call")
        return await mine

    async def _call_for_all(self) -> None:
        asked: list[asyncio.Future[_T]] = []
        try:
            while self._waiting:
                asked, self._waiting = self._waiting, []
                try:
                    answer = await self._call()
                except asyncio.CancelledError:
                    if _is_cancelled():
                        raise
                    # Something that the call waited for was: who asked is not to end as if they were.
                    _fail(asked, BrokerAwayError("what was waited for has ended"))
                except Exception as error:  # noqa: BLE001  # whatever it is, it is the answer
                    _fail(asked, error)
                else:
                    for mine in asked:
                        if not mine.done():
                            mine.set_result(answer)
        finally:
            self._calling = None
            # Only a cancelled call leaves somebody waiting.
            for mine in (*asked, *self._waiting):
                mine.cancel()
            self._waiting = []


def _fail(asked: Iterable[asyncio.Future[Any]], error: Exception) -> None:
    for mine in asked:
        if not mine.done():
            mine.set_exception(error)
