"""How many requests are worked on at once, how many of one account, and how many of one organisation."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from salus.runtime.limits import Account, organisation_of
from salus.runtime.problems import ProblemError

# How long a request waits for a place, and is told to wait if it got none.
PLACE_WAIT_S_MAX = 60
_Turn = asyncio.Future[None]


def organisation_places(most: int, of_one_max: int) -> int:
    """Return how many of so many places one organisation has: three of four, and no fewer than an account."""
    return max(of_one_max, round(3 * most / 4))


class Places:
    """So many requests at once, and fewer of one account and of one organisation: none holds up others.

    An organisation has three of four places at most, however many accounts it has. Of those who wait, it is
    the turn of the organisation that has the fewest places, and of its account that has the fewest.
    """

    def __init__(self, *, most: int, of_one_max: int, wait_s_max: float = PLACE_WAIT_S_MAX) -> None:
        self._free = most
        self._of_account_max = of_one_max
        self._of_organisation_max = organisation_places(most, of_one_max)
        self._wait_s_max = wait_s_max
        self._of_account: Counter[str] = Counter()
        self._of_organisation: Counter[str] = Counter()
        # By organisation and account, in the order in which they came.
        self._waiting: dict[str, dict[str, dict[_Turn, None]]] = {}

    @asynccontextmanager
    async def taken(self, account: Account, *, end: float = math.inf) -> AsyncIterator[None]:
        """Hold a place of the account; who finds none waits, until `end` at most.

        Raises:
            ProblemError: 503 `busy`, there was no place in time.
        """
        await self._take(account, end=end)
        try:
            yield
        finally:
            self._give_back(account)

    async def _take(self, account: Account, *, end: float) -> None:
        organisation = organisation_of(account)
        loop = asyncio.get_running_loop()
        turn: _Turn = loop.create_future()
        self._waiting.setdefault(organisation, {}).setdefault(account.did, {})[turn] = None
        self._hand_out()
        if turn.done():
            return
        try:
            async with asyncio.timeout_at(min(end, loop.time() + self._wait_s_max)):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                # Its turn came at the moment when it gave up.
                self._give_back(account)
            else:
                self._forget(organisation, account.did, turn)
            if not isinstance(error, TimeoutError):
                raise
            headers = {"Retry-After": str(math.ceil(self._wait_s_max))}
            raise ProblemError(503, "busy", "too much is done at once", headers=headers) from None

    def _give_back(self, account: Account) -> None:
        self._free += 1
        for counted, name in (
            (self._of_account, account.did),
            (self._of_organisation, organisation_of(account)),
        ):
            counted[name] -= 1
            if not counted[name]:
                del counted[name]
        self._hand_out()

    def _hand_out(self) -> None:
        """Give free places to those whose turn it is."""
        while self._free and (chosen := self._next()) is not None:
            organisation, did = chosen
            turn = next(iter(self._waiting[organisation][did]))
            self._forget(organisation, did, turn)
            if not turn.done():
                self._free -= 1
                self._of_account[did] += 1
                self._of_organisation[organisation] += 1
                turn.set_result(None)

    def _next(self) -> tuple[str, str] | None:
        """Return the organisation and the account whose turn it is, if any that waits may have a place."""
        for organisation in sorted(self._waiting, key=self._of_organisation.__getitem__):
            if self._of_organisation[organisation] >= self._of_organisation_max:
                return None
            did = min(self._waiting[organisation], key=self._of_account.__getitem__)
            if self._of_account[did] < self._of_account_max:
                return organisation, did
        return None

    def _forget(self, organisation: str, did: str, turn: _Turn) -> None:
        accounts = self._waiting.get(organisation, {})
        turns = accounts.get(did, {})
        turns.pop(turn, None)
        if not turns:
            accounts.pop(did, None)
        if not accounts:
            self._waiting.pop(organisation, None)
