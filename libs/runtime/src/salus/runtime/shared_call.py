"""One call for many callers: each gets the answer of a call that began after it asked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

_T = TypeVar("_T")


class SharedCall(Generic[_T]):
    """Calls something for whoever asks; those who ask while a call is under way share the next one.

    Callers may rely on: what an answer says was so after they asked. A failure is an answer, too: where the
    broker is away, nobody waits for the deadlines of all who asked before.
    """

    def __init__(self, call: Callable[[], Awaitable[_T]]) -> None:
        self._call = call
        self._lock = asyncio.Lock()
        self._asked = 0
        self._answered = 0
        self._answer: asyncio.Future[_T] | None = None

    async def __call__(self) -> _T:
        """Return an answer from after now; raises what the call raised."""
        self._asked += 1
        mine = self._asked
        async with self._lock:
            if self._answer is None or self._answered < mine:
                covered = self._asked
                self._answer = await _settled(self._call)
                self._answered = covered
            return self._answer.result()


async def _settled(call: Callable[[], Awaitable[_T]]) -> asyncio.Future[_T]:
    """Return the answer or failure of a call; raises CancelledError if the caller gives up."""
    answer: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
    try:
        answer.set_result(await call())
    except Exception as error:  # noqa: BLE001  # whatever it is, it is the answer
        answer.set_exception(error)
        # It is looked at by whoever shares it, and by its caller in any case.
        answer.exception()
    return answer
