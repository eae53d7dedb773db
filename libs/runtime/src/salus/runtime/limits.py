"""How often an account may do something: it has a token bucket, and so has its organisation.

An account is an authenticated party. Its organisation is the member that it acts for, or itself: a member
registers as many accounts as it likes, so what they do together is counted, too. The buckets are those of one
process: a service with three replicas lets an account do three times as much.
"""

from __future__ import annotations

import asyncio
import heapq
import math
import time
from collections import Counter as Numbers
from collections.abc import AsyncIterator, Callable, Container
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from prometheus_client import Counter

from salus.events.parties import Party
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


# No DID and no member is called so.
LET_IN_BY_ONE = "patients"


def share_of(account: Account) -> str:
    """Return whose share an account uses of what all have room in together: its organisation's.

    Two operators let in who has a share of his own. Of who acts for no member and is a patient at most, one
    operator can register any number, so all of these have one share together.
    """
    if isinstance(account, Party) and account.member is None and account.kind in {"person", "device"}:
        return account.did if account.roles - {"patient"} else LET_IN_BY_ONE
    return organisation_of(account)


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
    """Some, held until it is known how many of them happen."""

    def __init__(self) -> None:
        self.used = 0

    def use(self) -> None:
        """Say that one happens, before it is stated: it counts."""
        self.used += 1


class _Held:
    """What is held of one name, and who waits until some of it is settled; `users` are both of them."""

    def __init__(self) -> None:
        self.number = 0
        self.users = 0
        # In the order in which they came.
        self.waiting: dict[asyncio.Future[None], None] = {}

    def wake(self, number: int = 1) -> None:
        """Let so many that wait look again."""
        while self.waiting and number:
            turn = next(iter(self.waiting))
            del self.waiting[turn]
            if not turn.done():
                turn.set_result(None)
                number -= 1


class _Debts:
    """When the bucket of each name is full again, of at most so many names; who is not in it has a full one.

    An organisation has at most half of what the others leave, so that its names never keep out others'. A
    name of which something is held has its place, for it may have to be remembered.
    """

    def __init__(self, names_max: int) -> None:
        self._names_max = names_max
        self._full_at: dict[str, float] = {}
        self._organisation_of: dict[str, str] = {}
        self._names_of: Numbers[str] = Numbers()
        # A name stands in it once if it is in `_full_at`, maybe too early.
        self._queue: list[tuple[float, str]] = []

    def full_at(self, name: str, now: float) -> float:
        """Return when its bucket is full."""
        return max(self._full_at.get(name, now), now)

    def set(self, name: str, organisation: str, full_at: float) -> None:
        """Remember it."""
        self.keep(name, organisation)
        if name not in self._full_at:
            heapq.heappush(self._queue, (full_at, name))
        self._full_at[name] = full_at

    def keep(self, name: str, organisation: str) -> None:
        """Take a place for the name."""
        if name not in self._organisation_of:
            self._organisation_of[name] = organisation
            self._names_of[organisation] += 1

    def release(self, name: str) -> None:
        """Give back its place, if its bucket is full."""
        if name not in self._full_at and name in self._organisation_of:
            organisation = self._organisation_of.pop(name)
            self._names_of[organisation] -= 1
            if not self._names_of[organisation]:
                del self._names_of[organisation]

    def has_room(self, name: str, organisation: str, now: float, *, held: Container[str]) -> bool:
        """Tell whether the name has a place or can have one; forget those whose buckets are full, if not."""
        if name in self._organisation_of or self._is_free(organisation):
            return True
        while self._queue and self._queue[0][0] <= now:
            _, other = heapq.heappop(self._queue)
            if self._full_at[other] > now:
                heapq.heappush(self._queue, (self._full_at[other], other))
                continue
            del self._full_at[other]
            if other not in held:
                self.release(other)
        return self._is_free(organisation)

    def _is_free(self, organisation: str) -> bool:
        own = self._names_of[organisation]
        return own < (self._names_max - len(self._organisation_of) + own) / 2


class Buckets:
    """One limit for all names, each counted by itself; a name is of an organisation, or is one.

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
        self._clock = clock
        self._debts = _Debts(names_max)
        self._held: dict[str, _Held] = {}

    def take(self, name: str, number: int = 1, *, of: str | None = None) -> None:
        """Count so many, before they are done; raises TooManyRequestsError if there are not as many left."""
        self.require(name, number, of=of)
        self.count(name, number, of=of)

    def require(self, name: str, number: int = 1, *, of: str | None = None) -> None:
        """Raise TooManyRequestsError unless there are as many left."""
        held = self._held[name].number if name in self._held else 0
        self._require(name, of or name, self._clock(), held + number)

    def count(self, name: str, number: int = 1, *, of: str | None = None) -> None:
        """Count what happens, or has happened."""
        full_at = self._debts.full_at(name, self._clock()) + number * self._rate.interval_s
        self._debts.set(name, of or name, full_at)

    @asynccontextmanager
    async def reserved(
        self, name: str, number: int = 1, *, of: str | None = None
    ) -> AsyncIterator[Reservation]:
        """Hold so many while it is found out which happen, as denials do; what is used counts.

        Who finds that what is left is held, but not used, waits: until some is settled, or as long as it
        takes to be allowed as many.

        Raises:
            TooManyRequestsError: of what there was too much is used.
        """
        held = await self._hold(name, of or name, number)
        reservation = Reservation()
        try:
            yield reservation
        finally:
            held.number -= number
            if reservation.used:
                self.count(name, reservation.used, of=of)
            self._leave(name, held, number)

    async def _hold(self, name: str, organisation: str, number: int) -> _Held:
        held = self._held.setdefault(name, _Held())
        held.users += 1
        try:
            while (wait_s := self._wait_of(name, organisation, held, number)) > 0:
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
        held.number += number
        self._debts.keep(name, organisation)
        return held

    def _wait_of(self, name: str, organisation: str, held: _Held, number: int) -> float:
        now = self._clock()
        self._require(name, organisation, now, number)
        return self._wait_s(name, now, held.number + number)

    def _leave(self, name: str, held: _Held, number: int = 1) -> None:
        held.users -= 1
        held.wake(number)
        if not held.users:
            del self._held[name]
            self._debts.release(name)

    def _require(self, name: str, organisation: str, now: float, number: int) -> None:
        wait_s = self._wait_s(name, now, number)
        if wait_s > 0 or not self._debts.has_room(name, organisation, now, held=self._held):
            LIMITED.labels(self._what).inc()
            wait_s = max(wait_s, self._rate.interval_s)
            raise TooManyRequestsError(self._what, self._whose, self._rate, retry_after_s=math.ceil(wait_s))

    def _wait_s(self, name: str, now: float, number: int) -> float:
        """Return how long it takes until so many are left, those that are held included."""
        free_s = (self._rate.burst - number) * self._rate.interval_s
        return self._debts.full_at(name, now) - now - free_s


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
        self._accounts.require(account.did, number, of=organisation_of(account))
        self._organisations.require(organisation_of(account), number)

    def count(self, account: Account, number: int = 1) -> None:
        """Count what happens, or has happened."""
        self._accounts.count(account.did, number, of=organisation_of(account))
        self._organisations.count(organisation_of(account), number)

    @asynccontextmanager
    async def reserved(self, account: Account, number: int = 1) -> AsyncIterator[Reservation]:
        """Hold so many while it is found out which happen, as `Buckets` does."""
        async with (
            self._accounts.reserved(account.did, number, of=organisation_of(account)) as own,
            self._organisations.reserved(organisation_of(account), number) as shared,
        ):
            try:
                yield own
            finally:
                shared.used = own.used


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

    def take(self, account: Account, size: int, number: int = 1) -> None:
        """Count requests of so many bytes together, before they are read; raises TooManyRequestsError."""
        self._size.require(account, size)
        self._number.take(account, number)
        self._size.count(account, size)
