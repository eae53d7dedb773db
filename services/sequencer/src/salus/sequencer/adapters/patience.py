"""Waits for a part that is away: says so, tries again, and goes on when it is back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

import structlog

from salus.messaging import PermanentError
from salus.objects import RefusedError
from salus.runtime.supervisor import failed

_T = TypeVar("_T")
_log = structlog.get_logger()

# One attempt may take this long; a part that is slower counts as away.
ATTEMPT_DEADLINE_S = 60.0
PAUSE_FIRST_S = 0.1
PAUSE_MAX_S = 5.0
# An operator must act; it is tried on all the same, for that may happen at any time.
PERMANENT = (PermanentError, RefusedError)


@dataclass
class Patience:
    """Repeats attempts until they succeed; every attempt given to it must be harmless to repeat.

    `away` says which parts do not answer now and why.
    """

    away: dict[str, str] = field(default_factory=dict)
    deadline_s: float = ATTEMPT_DEADLINE_S
    pause_first_s: float = PAUSE_FIRST_S

    async def outlast(
        self, part: str, attempt: Callable[[], Awaitable[_T]], *, errors: tuple[type[Exception], ...]
    ) -> _T:
        """Return what the attempt returns, however long the part is away; other errors pass."""
        pause_s = self.pause_first_s
        passing: tuple[type[Exception], ...] = (*errors, TimeoutError)
        while True:
            try:
                async with asyncio.timeout(self.deadline_s):
                    answer = await attempt()
            except passing as error:
                reason = f"{type(error).__name__}: {error}"
                if self.away.get(part) != reason and isinstance(error, PERMANENT):
                    _log.error("a part needs somebody, waiting does not help", part=part, reason=reason)
                elif self.away.get(part) != reason:
                    _log.warning("waiting for a part that is away", part=part, reason=reason)
                self.away[part] = reason
                failed(reason)
                await asyncio.sleep(pause_s)
                pause_s = min(PAUSE_MAX_S, 2 * pause_s)
            else:
                if self.away.pop(part, None) is not None:
                    _log.info("the part is back", part=part)
                return answer
