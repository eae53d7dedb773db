"""Reading: decided by consent, checked against the ledger, told as an event, and only then sent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime

from salus.contracts.decision import Decision
from salus.crypto.errors import CryptoError
from salus.events.contexts.storage import ObjectRead, ReadBrokenOff
from salus.objects import NotFoundError, ObjectStore
from salus.runtime.auth import Caller
from salus.runtime.problems import ProblemError
from salus.runtime.refusal import Refusal
from salus.storage.domain import (
    ObjectState,
    require_may_read,
    require_not_erased,
)
from salus.storage.handlers.inspecting import Checked, Fault, Report, corrupt, inspect, stream_checked
from salus.storage.handlers.outgoing import Outgoing
from salus.storage.handlers.refusals import Refusals
from salus.storage.handlers.standing import Standing, StandingView
from salus.storage.ports import Announcer, Decisions, Facts, Vault


@dataclass(frozen=True)
class Reading:
    """Reads and inspects objects."""

    facts: Facts
    announcer: Announcer
    objects: ObjectStore
    vault: Vault
    decisions: Decisions
    standing: Standing
    recheck_s: float
    refusals: Refusals

    async def open(
        self, name: str, *, patient: str, caller: Caller, token: str | None, at: datetime
    ) -> Outgoing:
        """Return an object's content on its way out.

        Two passes: the first authenticates every segment and compares content and ciphertext with the
        ledger; then the read is published; the second sends, and is bound to header and data key of the
        first. It breaks off rather than send a byte that differs, or one to whom it is not due any more. A
        crash after the event leaves a read that is recorded and was not answered, never one that was
        answered and not recorded.

        Raises:
            Refusal: the contract says no; it is published as `read-refused`.
            ProblemError: 502 `object-corrupt`, with the faults; published as `read-refused` too.
        """
        view = await self.standing.view(caller, patient=patient, name=name, began=at)
        stored, positions = _found(view.object), view.positions
        async with self.refusals.stated(
            stored.object, patient=stored.patient, caller=caller, positions=positions
        ):
            decision = await self._decided(view, token=token)
            private_key = await self._key_of(stored)
            checked = await self._require_intact(stored, private_key)
            content = await self._begun(stored, checked)
        read = ObjectRead(
            object=stored.object,
            patient=stored.patient,
            reader=caller.party.did,
            decision=decision.id,
            purpose=decision.purpose,
            break_glass=decision.break_glass,
            state_positions=positions,
            request=caller.under(decision.id).request,
        )
        await self.announcer.announce(read, patient=stored.patient)
        return self._outgoing(stored, content, read, decision=decision, caller=caller, at=at)

    def _outgoing(  # noqa: PLR0913  # what is sent, and the facts that its right rests on
        self,
        stored: ObjectState,
        content: AsyncIterator[bytes],
        read: ObjectRead,
        *,
        decision: Decision,
        caller: Caller,
        at: datetime,
    ) -> Outgoing:
        positions = read.state_positions

        async def require_right() -> None:
            nonlocal positions
            view = await self.standing.view(caller, patient=stored.patient, began=at)
            positions = view.positions
            require_may_read(stored, view.subject, decision=decision, attempt=view.attempt)

        async def tell(reason: str, sent_bytes: int) -> None:
            broken_off = ReadBrokenOff(
                object=read.object,
                patient=read.patient,
                reader=read.reader,
                decision=read.decision,
                reason=reason,
                sent_bytes=sent_bytes,
                state_positions=positions,
                request=read.request,
            )
            await self.announcer.announce(broken_off, patient=read.patient)

        return Outgoing(stored, content, require_right, tell, self.recheck_s)

    async def verify(self, patient: str, name: str) -> Report:
        """Compare an object with the ledger and report what is wrong; nobody sees its content."""
        await self.facts.catch_up()
        view = await self.facts.view(patient, name)
        stored, subject = _found(view.object), view.subject
        private_key = None if subject.erased else await self._key_of(stored)
        return (await inspect(self.objects, stored, private_key=private_key))[0]

    async def _decided(self, view: StandingView, *, token: str | None) -> Decision:
        require_not_erased(view.subject)
        if token is None:
            raise Refusal("no-decision", "send Salus-Decision with a decision token of consent", status=403)
        decision = await self.decisions.read(token, at=view.attempt.at)
        require_may_read(view.object, view.subject, decision=decision, attempt=view.attempt)
        return decision

    async def _key_of(self, stored: ObjectState) -> bytes:
        key = stored.salt.key if stored.salt else ""
        try:
            return await self.vault.fetch(patient=stored.patient, key=key)
        except NotFoundError:
            # An erasure may have been published and finished since we looked.
            await self.facts.catch_up()
            require_not_erased((await self.facts.view(stored.patient)).subject)
            raise ProblemError(500, "key-missing", "the patient's key is not in the vault") from None

    async def _require_intact(self, stored: ObjectState, private_key: bytes) -> Checked:
        report, checked = await inspect(self.objects, stored, private_key=private_key)
        if checked is None:
            raise corrupt(*report.faults)
        return checked

    async def _begun(self, stored: ObjectState, checked: Checked) -> AsyncIterator[bytes]:
        """Return the second pass, with its header compared and its first piece authenticated."""
        content = stream_checked(self.objects, stored, checked)
        try:
            first = await anext(content, b"")
        except (CryptoError, NotFoundError):
            raise corrupt(Fault("object", "altered")) from None
        return _joined(first, content)


def _found(stored: ObjectState) -> ObjectState:
    if not stored.object:
        raise Refusal("unknown-object", "the patient has no object with this id", status=404)
    return stored


async def _joined(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in rest:
        yield piece
