"""How often an account may do what leaves something on the ledger for ever: a token bucket per account.

An account is the DID of an authenticated caller. The buckets are those of one process: a service with three
replicas lets an account do three times as much.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from prometheus_client import Counter

from salus.runtime.problems import ProblemError

# Each takes some 200 bytes. Accounts are registered parties, so their number is limited by registrations.
ACCOUNTS_MAX = 100_000
LIMITED = Counter("salus_requests_limited", "Requests refused as too many of one account.", ["limit"])


@dataclass(frozen=True)
class Rate:
    """So many at once, and so many a minute in the long run."""

    burst: int
    per_minute: int

    @property
    def interval_s(self) -> float:
        """How long one takes to be allowed again."""
        return 60 / self.per_minute


class TooManyRequestsError(ProblemError):
    """An account did this too often; it may do it again after `retry_after_s` seconds."""

    def __init__(self, what: str, rate: Rate, *, retry_after_s: int) -> None:
        allowed = f"{rate.burst} at once and {rate.per_minute} a minute are allowed"
        detail = f"too many {what} by this account: {allowed}"
        super().__init__(429, "too-many-requests", detail, headers={"Retry-After": str(retry_after_s)})
        self.retry_after_s = retry_after_s


class Reservation:
    """One of an account's, held until it is known whether it happens."""

    def __init__(self) -> None:
        self.happened = False

    def use(self) -> None:
        """Say that it happens, before it is stated: it counts."""
        self.happened = True


class _Held:
    """What is held of one account, and who waits until some of it is settled; `users` are both of them."""

    def __init__(self) -> None:
        self.number = 0
        self.users = 0
        # In the order in which they came.
        self.waiting: dict[asyncio.Future[None], None] = {}

    def wake(self) -> None:
        """Let one that waits look again."""
        while self.waiting:
            turn = next(iter(self.waiting))
            del self.waiting[turn]
            if not turn.done():
                turn.set_result(None)
                return


class AccountLimit:
    """One limit for all accounts, each counted by itself.

    `what` names what is counted, in the plural, in the metric and in the answer. Callers may rely on: what
    is refused is not counted, so whoever waits as long as told may go on; and however many requests come at
    once, no more than the rate allows happen.
    """

    def __init__(
        self,
        what: str,
        rate: Rate,
        *,
        accounts_max: int = ACCOUNTS_MAX,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._what = what
        self._rate = rate
        self._accounts_max = accounts_max
        self._clock = clock
        # By account: when its bucket is full again. Who is not in it has a full bucket.
        self._full_at: dict[str, float] = {}
        self._held: dict[str, _Held] = {}

    def take(self, account: str) -> None:
        """Count one, before it is done; raises TooManyRequestsError if the account has none left."""
        now = self._clock()
        self._require(account, now, self._held[account].number if account in self._held else 0)
        self._count(account, now)

    @asynccontextmanager
    async def reserved(self, account: str) -> AsyncIterator[Reservation]:
        """Hold one while it is found out whether it happens, as a denial does; it counts only if it is used.

        Who finds that all that are left are held, but not used, waits: until one is settled, or as long as
        it takes to be allowed one more.

        Raises:
            TooManyRequestsError: the account has used all that it had.
        """
        held = await self._hold(account)
        reservation = Reservation()
        try:
            yield reservation
        finally:
            held.number -= 1
            if reservation.happened:
                self._count(account, self._clock())
            self._leave(account, held)

    async def _hold(self, account: str) -> _Held:
        held = self._held.setdefault(account, _Held())
        held.users += 1
        try:
            while (wait_s := self._wait_of(account, held)) > 0:
                turn = asyncio.get_running_loop().create_future()
                held.waiting[turn] = None
                try:
                    await asyncio.wait([turn], timeout=wait_s)
                finally:
                    held.waiting.pop(turn, None)
                    turn.cancel()
        except BaseException:
            # Also if it was this one's turn: then it is the next one's.
            self._leave(account, held)
            raise
        held.number += 1
        return held

    def _wait_of(self, account: str, held: _Held) -> float:
        now = self._clock()
        self._require(account, now, 0)
        return self._wait_s(account, now, held.number)

    def _leave(self, account: str, held: _Held) -> None:
        held.users -= 1
        held.wake()
        if not held.users:
            del self._held[account]

    def _require(self, account: str, now: float, held: int) -> None:
        wait_s = self._wait_s(account, now, held)
        if wait_s > 0 or not self._has_room(account, now):
            LIMITED.labels(self._what).inc()
            wait_s = max(wait_s, self._rate.interval_s)
            raise TooManyRequestsError(self._what, self._rate, retry_after_s=math.ceil(wait_s))

    def _wait_s(self, account: str, now: float, held: int) -> float:
        """Return how long it takes until the account has one more besides those that are held."""
        free_s = (self._rate.burst - 1 - held) * self._rate.interval_s
        return max(self._full_at.get(account, now), now) - now - free_s

    def _count(self, account: str, now: float) -> None:
        self._full_at[account] = max(self._full_at.get(account, now), now) + self._rate.interval_s

    def _has_room(self, account: str, now: float) -> bool:
        """Tell whether the account is remembered or can be; forget those whose buckets are full, if not."""
        # Of whom something is held may have to be remembered, too.
        most = self._accounts_max - len(self._held) + (account in self._held)
        if account in self._full_at or len(self._full_at) < most:
            return True
        self._full_at = {name: full_at for name, full_at in self._full_at.items() if full_at > now}
        return len(self._full_at) < most
