"""Refused reads: each is stated on the ledger, and so many of one account are taken and no more."""

from __future__ import annotations

from dataclasses import dataclass

from salus.events.catalogue import ReadRefused
from salus.runtime.auth import Caller
from salus.runtime.limits import AccountLimit
from salus.storage.ports import Announcer


@dataclass(frozen=True)
class Refusals:
    """States what was refused, and counts it."""

    announcer: Announcer
    limit: AccountLimit

    def require_few(self, caller: Caller) -> None:
        """Raise TooManyRequestsError if too many reads of the account were refused lately."""
        self.limit.require(caller.party.did)

    async def state(self, name: str, *, patient: str, caller: Caller, reason: str) -> None:
        """State that a party was refused an object, or what is sealed in an event."""
        self.limit.count(caller.party.did)
        refused = ReadRefused(
            object=name, patient=patient, reader=caller.party.did, reason=reason, request=caller.request
        )
        await self.announcer.announce(refused, patient=patient)
