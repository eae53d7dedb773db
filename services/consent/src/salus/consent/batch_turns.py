"""Lets few batches of questions be decided at once, so that a single question waits for few of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from salus.runtime.problems import ProblemError

# A question in a batch takes some 0.4 ms of a core, so who asks singly waits for some 40 ms of them.
QUESTIONS_AT_ONCE = 100
# At 3,000 decisions a second what waits is answered within two seconds.
BATCHES_WAITING_MAX = 256
# While Kafka is away those who hold turns wait for it, and nobody behind them is to wait for all of that.
TURN_WAIT_S_MAX = 5.0


class BatchTurns:
    """Batches are decided in the order in which they came, so many at once; more wait, up to a number.

    Nothing is looked up for a batch that waits: it is decided by what is known when its turn has come. Single
    questions, and commands as a revocation, do not wait here.
    """

    def __init__(
        self,
        *,
        questions_max: int,
        waiting_max: int = BATCHES_WAITING_MAX,
        wait_s_max: float = TURN_WAIT_S_MAX,
    ) -> None:
        """`questions_max` are those of one batch."""
        self.at_once = max(1, QUESTIONS_AT_ONCE // questions_max)
        self._turns = asyncio.Semaphore(self.at_once)
        self._waiting = 0
        self._waiting_max = waiting_max
        self._wait_s_max = wait_s_max

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Hold a turn, once it has come.

        Raises ProblemError 503 `busy` if too many wait for theirs, or it does not come in time.
        """
        if self._waiting >= self._waiting_max:
            raise _busy()
        self._waiting += 1
        try:
            async with asyncio.timeout(self._wait_s_max):
                await self._turns.acquire()
        except TimeoutError:
            raise _busy() from None
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._turns.release()


def _busy() -> ProblemError:
    detail = "too many batches of questions wait to be decided; ask again"
    return ProblemError(503, "busy", detail, headers={"Retry-After": "1"})
