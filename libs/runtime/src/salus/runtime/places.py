"""How many requests are worked on at once, and how many of one account."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from weakref import WeakValueDictionary

from salus.runtime.problems import ProblemError

# How long a request waits for a place, and is told to wait if it got none.
PLACE_WAIT_S_MAX = 60


class Places:
    """So many requests at once, and of one account fewer, so that no account alone holds up the others."""

    def __init__(self, *, most: int, of_one_max: int, wait_s_max: float = PLACE_WAIT_S_MAX) -> None:
        self._all = asyncio.Semaphore(most)
        self._of_one_max = of_one_max
        self._wait_s_max = wait_s_max
        self._of_one: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    @asynccontextmanager
    async def taken(self, account: str, *, end: float = math.inf) -> AsyncIterator[None]:
        """Hold a place of the account; who finds none waits, until `end` at most.

        Raises:
            ProblemError: 503 `busy`, there was no place in time.
        """
        own = self._of_one.setdefault(account, asyncio.Semaphore(self._of_one_max))
        wait_until = min(end, asyncio.get_running_loop().time() + self._wait_s_max)
        async with AsyncExitStack() as places:
            try:
                async with asyncio.timeout_at(wait_until):
                    await places.enter_async_context(own)
                    await places.enter_async_context(self._all)
            except TimeoutError:
                detail, headers = (
                    "too much is done at once",
                    {"Retry-After": str(math.ceil(self._wait_s_max))},
                )
                raise ProblemError(503, "busy", detail, headers=headers) from None
            yield
