"""How old what is known may be when something is decided by it, and how old it is."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import TypeVar

from salus.messaging import MessagingError, PermanentError
from salus.runtime.problems import ProblemError

_T = TypeVar("_T")


class StaleStateError(ProblemError):
    """What is known is older than a decision may rest on: nobody can say what was taken back since."""

    def __init__(self, *, age_s: float, age_s_max: float) -> None:
        detail = f"what is known of consents and keys is {age_s:.1f} s old, and {age_s_max:g} s are allowed"
        super().__init__(
            503, "state-stale", detail, headers={"Retry-After": "1"}, age_ms=math.ceil(1000 * age_s)
        )


class Freshness:
    """Bounds the wait for the ends of the topics: with whatever is older than the limit nothing is decided.

    What is looked up within it is as of a moment after it was asked for, or it is refused. The age counts
    from when the last look that succeeded began.
    """

    def __init__(self, *, age_s_max: float, clock: Callable[[], float]) -> None:
        self._age_s_max = age_s_max
        self._clock = clock
        self._complete_at = clock()

    async def within(self, look: Callable[[], Awaitable[_T]]) -> _T:
        """Return what is looked up, if it is known in time.

        Raises:
            StaleStateError: it is not, or Kafka is away and was for longer than the limit.
            MessagingError: Kafka is away, not for so long.
        """
        began = self._clock()
        try:
            async with asyncio.timeout(self._age_s_max):
                found = await look()
        except TimeoutError:
            raise self._stale() from None
        except PermanentError:
            raise
        except MessagingError:
            if self._age_s() > self._age_s_max:
                raise self._stale() from None
            raise
        self._complete_at = max(self._complete_at, began)
        return found

    def _age_s(self) -> float:
        return self._clock() - self._complete_at

    def _stale(self) -> StaleStateError:
        return StaleStateError(age_s=self._age_s(), age_s_max=self._age_s_max)
