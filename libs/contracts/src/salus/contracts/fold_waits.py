"""Waiting for a fold to get somewhere: nobody is woken for less, and nobody waits for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

Fact = Callable[[], bool]
"""Tells whether something is so; asked often."""


class FoldWaits:
    """Who waits for a fold, and for which fact."""

    def __init__(self) -> None:
        self._waiting: dict[asyncio.Future[bool], Fact] = {}

    async def until(self, fact: Fact, *, seconds: float) -> bool:
        """Return True once something is a fact, or False after so many seconds."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        # What was so when the waiter was woken need not be any more: the fold may have begun again.
        while not fact():
            waiting: asyncio.Future[bool] = loop.create_future()
            self._waiting[waiting] = fact
            deadline = loop.call_at(end, _wake, waiting, False)  # the future's result
            try:
                if not await waiting:
                    return False
            finally:
                deadline.cancel()
                self._waiting.pop(waiting, None)
        return True

    def tell(self) -> None:
        """Wake those whose facts are so now: the fold has moved."""
        for waiting in [waiting for waiting, fact in self._waiting.items() if fact()]:
            del self._waiting[waiting]
            _wake(waiting, True)  # as above


def _wake(waiting: asyncio.Future[bool], is_so: bool) -> None:  # noqa: FBT001  # `call_at` passes no names
    if not waiting.done():
        waiting.set_result(is_so)
