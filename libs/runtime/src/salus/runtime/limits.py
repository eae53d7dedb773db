"""How often an account may do something: it has a token bucket, and so has its organisation.

An account is an authenticated party. Its organisation is the member that it acts for, or itself: a member
registers as many accounts as it likes, so what they do together is counted, too. The buckets are those of one
process: a service with three replicas lets an account do three times as much.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from prometheus_client import Counter

from salus.runtime.problems import ProblemError

# Each takes some 200 bytes. Accounts are registered parties, so their number is limited by registrations.
ACCOUNTS_MAX = 100_000
# What the accounts of one organisation may do together: as much as so many accounts.
ORGANISATION_ACCOUNTS = 20
LIMITED = Counter(
    "salus_requests_limited", "Requests refused as too many of one account or organisation.", ["limit"]
)


class Account(Protocol):
    """Whose requests are counted."""

    @property
    def did(self) -> str:
        """The party."""

    @property
    def member(self) -> str | None:
        """The member that it acts for."""


def organisation_of(account: Account) -> str:
    """Return the member that an account acts for, or the account itself."""
    return account.member or account.did


@dataclass(frozen=True)
class Rate:
    """So many at once, and so many a minute in the long run."""

    burst: int
    per_minute: float

    @property
    def interval_s(self) -> float:
        """How long one takes to be allowed again."""
        return 60 / self.per_minute

    def times(self, number: int) -> Rate:
        """Return the rate of so many together."""
        return Rate(self.burst * number, self.per_minute * number)

    def __str__(self) -> str:
        often = self.per_minute
        in_the_long_run = f"{often:.0f} a minute" if often >= 1 else f"{60 * often:.0f} an hour"
        return f"{self.burst} at once and {in_the_long_run}"


class TooManyRequestsError(ProblemError):
    """This was done too often; it may be done again after `retry_after_s` seconds."""

    def __init__(self, what: str, whose: str, rate: Rate, *, retry_after_s: int) -> None:
        detail = f"too many {what} by this {whose}: {rate} are allowed"
        super().__init__(429, "too-many-requests", detail, headers={"Retry-After": str(retry_after_s)})
        self.retry_after_s = retry_after_s


class Reservation:
    """One, held until it is known whether it happens."""

    def __init__(self) -> None:
        self.happened = False

    def use(self) -> None:
        """Say that it happens, before it is stated: it counts."""
        self.happened = True


class _Held:
    """What is held of one name, and who waits until some of it is settled; `users` are both of them."""

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


class Buckets:
    """One limit for all names, each counted by itself.

    `what` names what is counted, in the plural, in the metric and in the answer, and `whose` what a name is.
    Callers may rely on: what is refused is not counted, so whoever waits as long as told may go on; and
    however many come at once, no more than the rate allows happen.
    """

    def __init__(
        self,
        what: str,
        rate: Rate,
        *,
        whose: str,
        names_max: int = ACCOUNTS_MAX,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._what = what
        self._whose = whose
        self._rate = rate
        self._names_max = names_max
        self._clock = clock
        # By name: when its bucket is full again. Who is not in it has a full bucket.
        self._full_at: dict[str, float] = {}
        self._held: dict[str, _Held] = {}

    def take(self, name: str, number: int = 1) -> None:
        """Count so many, before they are done; raises TooManyRequestsError if there are not as many left."""
        self.require(name, number)
        self.count(name, number)

    def require(self, name: str, number: int = 1) -> None:
        """Raise TooManyRequestsError unless there are as many left."""
        held = self._held[name].number if name in self._held else 0
        self._require(name, self._clock(), held + number)

    def count(self, name: str, number: int = 1) -> None:
        """Count what happens, or has happened."""
        now = self._clock()
        self._full_at[name] = max(self._full_at.get(name, now), now) + number * self._rate.interval_s

    @asynccontextmanager
    async def reserved(self, name: str) -> AsyncIterator[Reservation]:
        """Hold one while it is found out whether it happens, as a denial does; it counts only if it is used.

        Who finds that all that are left are held, but not used, waits: until one is settled, or as long as
        it takes to be allowed one more.

        Raises:
            TooManyRequestsError: all that there was is used.
        """
        held = await self._hold(name)
        reservation = Reservation()
        try:
            yield reservation
        finally:
            held.number -= 1
            if reservation.happened:
                self.count(name)
            self._leave(name, held)

    async def _hold(self, name: str) -> _Held:
        held = self._held.setdefault(name, _Held())
        held.users += 1
        try:
            while (wait_s := self._wait_of(name, held)) > 0:
                turn = asyncio.get_running_loop().create_future()
                held.waiting[turn] = None
                try:
                    await asyncio.wait([turn], timeout=wait_s)
                finally:
                    held.waiting.pop(turn, None)
                    turn.cancel()
        except BaseException:
            # Also if it was this one's turn: then it is the next one's.
            self._leave(name, held)
            raise
        held.number += 1
        return held

    def _wait_of(self, name: str, held: _Held) -> float:
        now = self._clock()
        self._require(name, now, 1)
        return self._wait_s(name, now, held.number + 1)

    def _leave(self, name: str, held: _Held) -> None:
        held.users -= 1
        held.wake()
        if not held.users:
            del self._held[name]

    def _require(self, name: str, now: float, number: int) -> None:
        wait_s = self._wait_s(name, now, number)
        if wait_s > 0 or not self._has_room(name, now):
            LIMITED.labels(self._what).inc()
            wait_s = max(wait_s, self._rate.interval_s)
            raise TooManyRequestsError(self._what, self._whose, self._rate, retry_after_s=math.ceil(wait_s))

    def _wait_s(self, name: str, now: float, number: int) -> float:
        """Return how long it takes until so many are left, those that are held included."""
        free_s = (self._rate.burst - number) * self._rate.interval_s
        return max(self._full_at.get(name, now), now) - now - free_s

    def _has_room(self, name: str, now: float) -> bool:
        """Tell whether the name is remembered or can be; forget those whose buckets are full, if not."""
        # Of whom something is held may have to be remembered, too.
        most = self._names_max - len(self._held) + (name in self._held)
        if name in self._full_at or len(self._full_at) < most:
            return True
        self._full_at = {other: full_at for other, full_at in self._full_at.items() if full_at > now}
        return len(self._full_at) < most


class AccountLimit:
    """One limit for each account by itself, and ORGANISATION_ACCOUNTS times as much for each organisation.

    What holds of `Buckets` holds of it.
    """

    def __init__(
        self,
        what: str,
        rate: Rate,
        *,
        accounts_max: int = ACCOUNTS_MAX,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._accounts = Buckets(what, rate, whose="account", names_max=accounts_max, clock=clock)
        self._organisations = Buckets(
            what, rate.times(ORGANISATION_ACCOUNTS), whose="organisation", names_max=accounts_max, clock=clock
        )

    def take(self, account: Account, number: int = 1) -> None:
        """Count so many, before they are done; raises TooManyRequestsError if there are not as many left."""
        self.require(account, number)
        self.count(account, number)

    def require(self, account: Account, number: int = 1) -> None:
        """Raise TooManyRequestsError unless there are as many left."""
        self._accounts.require(account.did, number)
        self._organisations.require(organisation_of(account), number)

    def count(self, account: Account, number: int = 1) -> None:
        """Count what happens, or has happened."""
        self._accounts.count(account.did, number)
        self._organisations.count(organisation_of(account), number)

    @asynccontextmanager
    async def reserved(self, account: Account) -> AsyncIterator[Reservation]:
        """Hold one while it is found out whether it happens, as `Buckets` does."""
        async with (
            self._accounts.reserved(account.did) as own,
            self._organisations.reserved(organisation_of(account)) as shared,
        ):
            try:
                yield own
            finally:
                if own.happened:
                    shared.use()


@dataclass(frozen=True)
class RequestRates:
    """How many requests an account sends that make events or have bodies, and how many bytes with them.

    The bytes are those of body, token and approval: what an event carries of a command for ever.
    """

    number: Rate = Rate(burst=600, per_minute=600)
    size: Rate = Rate(burst=16 * 2**20, per_minute=4 * 2**20)


class RequestLimit:
    """One limit for all requests that cost work or leave something, whatever becomes of them."""

    def __init__(self, rates: RequestRates, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._number = AccountLimit("requests", rates.number, clock=clock)
        self._size = AccountLimit("bytes of requests", rates.size, clock=clock)

    def take(self, account: Account, size: int) -> None:
        """Count a request of so many bytes, before it is read; raises TooManyRequestsError."""
        self._size.require(account, size)
        self._number.take(account)
        self._size.count(account, size)
