"""Reading: decided by consent, checked against the ledger, told as an event, and only then sent."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime

from salus.contracts.decision import Decision
from salus.crypto.errors import CryptoError, SegmentError
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
from salus.storage.handlers.byte_ranges import ByteRange, RangeAsked, whole
from salus.storage.handlers.content import Content, open_content
from salus.storage.handlers.damage import Fault, Report, corrupt
from salus.storage.handlers.inspection import inspect
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

    async def open(  # noqa: PLR0913  # what is asked for, by whom, by which right
        self,
        name: str,
        *,
        patient: str,
        caller: Caller,
        token: str | None,
        at: datetime,
        asked: RangeAsked = whole,
    ) -> Outgoing:
        """Return an object's content, or the part of it that is asked for, on its way out.

        What is stored is proven part by part by what the ledger commits to: head and first segment before
        the read is published, each other segment before it is sent. It breaks off rather than send a byte
        that differs, or one to whom it is not due any more. A crash after the event leaves a read that is
        recorded and was not answered, never one that was answered and not recorded.

        Raises:
            Refusal: the contract says no; it is published as `read-refused`.
            ProblemError: 416, or 502 `object-corrupt` with the faults; published as `read-refused` too.
        """
        view = await self.standing.view(caller, patient=patient, name=name, began=at)
        stored, positions = _found(view.object), view.positions
        async with self.refusals.stated(
            stored.object, patient=stored.patient, caller=caller, positions=positions
        ):
            decision = await self._decided(view, token=token)
            span = asked(stored)
            private_key = await self._key_of(stored)
            content = await self._begun(
                await open_content(self.objects, stored, private_key=private_key), span
            )
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
        return self._outgoing(stored, span, content, read, decision=decision, caller=caller, at=at)

    def _outgoing(  # noqa: PLR0913  # what is sent, and the facts that its right rests on
        self,
        stored: ObjectState,
        span: ByteRange,
        content: AsyncGenerator[bytes],
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

        return Outgoing(stored, span, content, require_right, tell, self.recheck_s)

    async def verify(self, patient: str, name: str) -> Report:
        """Compare an object with the ledger and report what is wrong; nobody sees its content."""
        await self.facts.catch_up()
        view = await self.facts.view(patient, name)
        stored, subject = _found(view.object), view.subject
        private_key = None if subject.erased else await self._key_of(stored)
        return await inspect(self.objects, stored, private_key=private_key)

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

    async def _begun(self, content: Content, span: ByteRange) -> AsyncGenerator[bytes]:
        """Return the pieces to send, the first of them proven."""
        pieces = content.pieces(span.start, span.end)
        try:
            first = await anext(pieces, b"")
        except SegmentError as error:
            raise corrupt(Fault("segment", error.fault, segment=error.segment)) from None
        except CryptoError:
            raise corrupt(Fault("object", "altered")) from None
        except NotFoundError:
            raise corrupt(Fault("object", "missing")) from None
        return _joined(first, pieces)


def _found(stored: ObjectState) -> ObjectState:
    if not stored.object:
        raise Refusal("unknown-object", "the patient has no object with this id", status=404)
    return stored


async def _joined(first: bytes, rest: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    async with aclosing(rest):
        yield first
        async for piece in rest:
            yield piece
