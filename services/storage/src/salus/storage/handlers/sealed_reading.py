"""Reading what is sealed in an event: under a decision, told as an event, and only then answered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from salus.contracts.decision import Decision
from salus.crypto.errors import UnsealError
from salus.crypto.sealing import unseal
from salus.events.catalogue import Catalogue
from salus.events.contexts.consent import GlassBroken
from salus.events.contexts.storage import ReadBrokenOff, SealedOpened
from salus.events.envelope import Event, decode_event
from salus.events.errors import RejectedError
from salus.events.fields import Sealed
from salus.events.sealed_fields import sealed_in
from salus.events.sealing_context import context_of, records_of
from salus.ledger.merkle import leaf_hash
from salus.objects import NotFoundError
from salus.runtime.auth import Caller
from salus.runtime.refusal import Refusal
from salus.storage.domain import require_may_open
from salus.storage.handlers.refusals import Refusals
from salus.storage.handlers.standing import Standing, StandingView
from salus.storage.ports import Announcer, Decisions, Vault


@dataclass(frozen=True, slots=True)
class SealedField:
    """A sealed field as a request names it: whose, of which event, and which of its fields."""

    patient: str
    source: str
    id: str
    field: str


@dataclass(frozen=True)
class SealedReading:
    """Opens sealed fields of events that the caller has."""

    standing: Standing
    announcer: Announcer
    vault: Vault
    decisions: Decisions
    refusals: Refusals
    catalogue: Callable[[], Catalogue]

    async def open(
        self, value: bytes, *, named: SealedField, caller: Caller, token: str | None, at: datetime
    ) -> bytes:
        """Return what is sealed in a field of this event, given as it is on its topic.

        The event that states it names the leaf hash of the bytes, so whoever has the ledger sees whether they
        are on it. A crash after that event leaves an opening that is recorded and was not answered.

        Raises:
            Refusal: it is no event, or not the one named (422); or the contract says no, which is published
                as `read-refused`, or as `read-broken-off` if the right ended while the event was published.
        """
        event, sealed = _named(value, named, self.catalogue())
        view = await self.standing.view(caller, patient=named.patient, began=at)
        positions = view.positions
        async with self.refusals.stated(named.id, patient=named.patient, caller=caller, positions=positions):
            decision = await self._decided(event, view, token=token)
            opened = await self._opened(event, sealed, patient=named.patient)
        told = SealedOpened(
            patient=named.patient,
            source=named.source,
            event=named.id,
            field=named.field,
            digest=leaf_hash(value).hex(),
            reader=caller.party.did,
            decision=decision.id,
            purpose=decision.purpose,
            break_glass=decision.break_glass,
            state_positions=positions,
            request=caller.under(decision.id).request,
        )
        await self.announcer.announce(told, patient=named.patient)
        await self._require_right(event, decision, told, caller=caller, began=at)
        return opened

    async def _require_right(
        self, event: Event, decision: Decision, told: SealedOpened, *, caller: Caller, began: datetime
    ) -> None:
        """Raise Refusal, after that was recorded, if the right has ended; a slow broker takes seconds."""
        positions = told.state_positions
        try:
            view = await self.standing.view(caller, patient=told.patient, began=began)
            positions = view.positions
            require_may_open(view.subject, records=records_of(event), decision=decision, attempt=view.attempt)
        except Refusal as refusal:
            broken_off = ReadBrokenOff(
                object=told.event,
                patient=told.patient,
                reader=told.reader,
                decision=told.decision,
                reason=refusal.code,
                sent_bytes=0,
                state_positions=positions,
                request=told.request,
            )
            await self.announcer.announce(broken_off, patient=told.patient)
            raise

    async def _decided(self, event: Event, view: StandingView, *, token: str | None) -> Decision:
        if token is None:
            raise Refusal("no-decision", "send Salus-Decision with a decision token of consent", status=403)
        decision = await self.decisions.read(token, at=view.attempt.at)
        require_may_open(view.subject, records=records_of(event), decision=decision, attempt=view.attempt)
        return decision

    async def _opened(self, event: Event, sealed: Sealed, *, patient: str) -> bytes:
        try:
            private_key = await self.vault.fetch(patient=patient, key=sealed.key)
            return unseal(sealed, private_key=private_key, context=context_of(event))
        except NotFoundError:
            raise Refusal("unknown-key", "no such key of the patient is kept", status=404) from None
        except UnsealError:
            raise Refusal(
                "does-not-open", "it was not sealed to this key, for this event", status=422
            ) from None


def _named(value: bytes, named: SealedField, catalogue: Catalogue) -> tuple[Event, Sealed]:
    """Return the event and its sealed field; raises Refusal unless it is the event that the request names."""
    try:
        event = decode_event(value, catalogue)
    except RejectedError as error:
        raise Refusal("invalid-event", f"the body is no event of the network: {error}", status=422) from None
    envelope = event.envelope
    if (envelope.subject, envelope.source, envelope.id) != (named.patient, named.source, named.id):
        raise Refusal("another-event", "the body is not the event that the query names", status=422)
    # What storage seals is for itself: with an object's salt anybody could test guesses of its content.
    readable = event.type.is_of_members or isinstance(event.data, GlassBroken)
    sealed = sealed_in(event.data).get(named.field) if readable else None
    if sealed is None:
        raise Refusal("nothing-sealed", "nothing that may be read is sealed in this field", status=422)
    return event, sealed
