"""One call for many callers: each gets the answer of a call that began after it asked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

_T = TypeVar("_T")


class SharedCall(Generic[_T]):
    """Calls something for whoever asks; those who ask while a call is under way share the next one.

    Callers may rely on: what an answer says was so after they asked. A call that fails fails for the one that
    made it, and the next in turn makes another.
    """

    def __init__(self, call: Callable[[], Awaitable[_T]]) -> None:
        self._call = call
        self._lock = asyncio.Lock()
        self._asked = 0
        self._answered = 0
        self._answers: list[_T] = []

    async def __call__(self) -> _T:
        """Return an answer from after now; raises what the call raises."""
        self._asked += 1
        mine = self._asked
        async with self._lock:
            if self._answered < mine:
                covered = self._asked
                self._answers = [await self._call()]
                self._answered = covered
            return self._answers[0]
