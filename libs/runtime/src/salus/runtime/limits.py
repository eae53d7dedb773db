"""How often an account may do what leaves something on the ledger for ever: a token bucket per account.

An account is the DID of an authenticated caller. The buckets are those of one process: a service with three
replicas lets an account do three times as much.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
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


class AccountLimit:
    """One limit for all accounts, each counted by itself.

    `what` names what is counted, in the plural, in the metric and in the answer. Callers may rely on: what
    is refused is not counted, so whoever waits as long as told may go on.
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

    def take(self, account: str) -> None:
        """Count one, before it is done; raises TooManyRequestsError if the account has none left."""
        self.require(account)
        self.count(account)

    def require(self, account: str) -> None:
        """Raise TooManyRequestsError if the account has none left; counts nothing."""
        now = self._clock()
        wait_s = self._full_at.get(account, now) - now - (self._rate.burst - 1) * self._rate.interval_s
        if wait_s > 0 or not self._has_room(account, now):
            LIMITED.labels(self._what).inc()
            wait_s = max(wait_s, self._rate.interval_s)
            raise TooManyRequestsError(self._what, self._rate, retry_after_s=math.ceil(wait_s))

    def count(self, account: str) -> None:
        """Count one that has happened, as a denial is known only afterwards; never raises."""
        now = self._clock()
        if self._has_room(account, now):
            self._full_at[account] = max(self._full_at.get(account, now), now) + self._rate.interval_s

    def _has_room(self, account: str, now: float) -> bool:
        """Tell whether the account is remembered or can be; forget those whose buckets are full, if not."""
        if account in self._full_at or len(self._full_at) < self._accounts_max:
            return True
        self._full_at = {name: full_at for name, full_at in self._full_at.items() if full_at > now}
        return len(self._full_at) < self._accounts_max
