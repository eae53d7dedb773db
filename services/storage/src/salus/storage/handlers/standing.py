"""What a right to a patient's record is judged by, all at one place of the topics; it is asked for again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from salus.contracts.decision import Attempt
from salus.events.keyring import KeyRing
from salus.events.state_positions import TopicPositions, state_positions
from salus.runtime.auth import Caller, party_that_signed
from salus.runtime.identity_view import IDENTITY_TOPIC
from salus.storage.domain import ObjectState, SubjectState
from salus.storage.ports import Facts, Ring


@dataclass(frozen=True, slots=True)
class StandingView:
    """Who tries, and what is known of the patient and the object, at the positions that a statement names.

    `ring` is the key ring as it is there, until something is awaited.
    """

    attempt: Attempt
    subject: SubjectState
    object: ObjectState
    ring: KeyRing
    positions: tuple[TopicPositions, ...]


@dataclass(frozen=True)
class Standing:
    """Looks up what a right rests on, now."""

    facts: Facts
    ring: Ring
    now: Callable[[], datetime]

    async def view(
        self, caller: Caller, *, patient: str, name: str = "", began: datetime | None = None
    ) -> StandingView:
        """Return what the right of an attempt that began then is judged by now: who calls, and what is known.

        A decision has to be current when a transfer begins. After that it ends with the epoch it was made in.
        A command may have waited for its turn.

        Raises:
            Refusal: the key that the caller signed with does not sign any more, or there is no such party.
            MessagingError: nobody can tell.
        """
        await self.facts.catch_up()
        known = await self.facts.view(patient, name)
        ring = await self.ring.catch_up()
        # Position and parties of one moment: nothing is awaited between them.
        now = self.now()
        party = party_that_signed(caller.party.did, caller.request, ring, at=now)
        positions = state_positions({**known.positions, (IDENTITY_TOPIC, 0): ring.position})
        attempt = Attempt(caller=party, at=began or now, epoch=known.epoch)
        return StandingView(attempt, known.subject, known.object, ring, positions)
