"""Refused reads: each is stated on the ledger, and so many of one account are taken and no more."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from salus.events.contexts.storage import ReadRefused
from salus.events.state_positions import TopicPositions
from salus.runtime.auth import Caller
from salus.runtime.limits import AccountLimit
from salus.runtime.problems import ProblemError
from salus.runtime.refusal import Refusal
from salus.storage.ports import Announcer


@dataclass(frozen=True)
class Refusals:
    """States what was refused, and counts it."""

    announcer: Announcer
    limit: AccountLimit

    @asynccontextmanager
    async def stated(
        self, name: str, *, patient: str, caller: Caller, positions: tuple[TopicPositions, ...]
    ) -> AsyncIterator[None]:
        """State that a party is refused an object, or what is sealed in an event, if what is within says so.

        It goes by what was known at these positions.

        Raises:
            TooManyRequestsError: too many reads of the account were refused lately; nothing is begun.
        """
        did = caller.party.did
        async with self.limit.reserved(caller.party) as reservation:
            try:
                yield
            except (Refusal, ProblemError) as refusal:
                reservation.use()
                refused = ReadRefused(
                    object=name,
                    patient=patient,
                    reader=did,
                    reason=refusal.code,
                    state_positions=positions,
                    request=caller.request,
                )
                await self.announcer.announce(refused, patient=patient)
                raise
