"""Whether the right that a transfer began with still stands: asked again while it goes on, and at its end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from salus.events.parties import Party
from salus.runtime.auth import Caller, party_that_signed
from salus.storage.domain import Attempt
from salus.storage.ports import Facts, Ring


@dataclass(frozen=True)
class Standing:
    """Looks up again what a right rests on."""

    facts: Facts
    ring: Ring
    now: Callable[[], datetime]

    async def party(self, caller: Caller) -> Party:
        """Return what is known of the caller now; a command may have waited for its turn.

        Raises:
            Refusal: the key that the caller signed with does not sign any more, or there is no such party.
        """
        ring = await self.ring.catch_up()
        return party_that_signed(caller.party.did, caller.request, ring, at=self.now())

    async def attempt(self, caller: Caller, *, patient: str, began: datetime) -> Attempt:
        """Return the attempt that began then, with who calls and the patient's epoch as they are now.

        A decision has to be current when a transfer begins. After that it ends with the epoch it was made in.

        Raises:
            Refusal: the key that the caller signed with does not sign any more, or there is no such party.
            MessagingError: nobody can tell.
        """
        party = await self.party(caller)
        await self.facts.catch_up()
        return Attempt(caller=party, at=began, epoch=await self.facts.epoch(patient))
