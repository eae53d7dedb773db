"""Reading: decided by consent, checked against the ledger, told as an event, and only then sent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime

from salus.crypto.commitment import require_commitment
from salus.events.catalogue import ObjectRead, ReadRefused
from salus.objects import NotFoundError, ObjectStore
from salus.runtime.auth import Caller
from salus.runtime.problems import ProblemError
from salus.runtime.refusal import Refusal
from salus.storage.domain import (
    Attempt,
    Decision,
    ObjectState,
    SubjectState,
    location_of,
    require_may_read,
    require_not_erased,
)
from salus.storage.handlers.inspecting import Fault, Report, inspect, open_header, salt_of
from salus.storage.handlers.tally import Tally
from salus.storage.ports import Announcer, Decisions, Facts, Vault


@dataclass(frozen=True)
class Reading:
    """Reads and inspects objects."""

    facts: Facts
    announcer: Announcer
    objects: ObjectStore
    vault: Vault
    decisions: Decisions

    async def open(
        self, name: str, *, patient: str, caller: Caller, token: str | None, at: datetime
    ) -> tuple[ObjectState, AsyncIterator[bytes]]:
        """Return an object and the stream of its content.

        Two passes: the first authenticates every segment and compares content and ciphertext with the
        ledger; then the read is published; the second sends, authenticating every segment again, and breaks
        off rather than send a byte that differs. A crash after the event leaves a read that is recorded and
        was not answered, never one that was answered and not recorded.

        Raises:
            Refusal: the contract says no; it is published as `read-refused`.
            ProblemError: 502 `object-corrupt`, with the faults; published as `read-refused` too.
        """
        await self.facts.catch_up()
        stored = await self._found(patient, name)
        try:
            decision = await self._decided(stored, caller=caller, token=token, at=at)
            private_key = await self._key_of(stored)
            await self._require_intact(stored, private_key)
        except (Refusal, ProblemError) as refusal:
            await self._refused(stored, caller=caller, reason=refusal.code)
            raise
        read = ObjectRead(
            object=stored.object,
            patient=stored.patient,
            reader=caller.party.did,
            decision=decision.id,
            purpose=decision.purpose,
            break_glass=decision.break_glass,
            request=caller.under(decision.id).request,
        )
        await self.announcer.announce(read, patient=stored.patient)
        return stored, self._content(stored, private_key)

    async def verify(self, patient: str, name: str) -> Report:
        """Compare an object with the ledger and report what is wrong; nobody sees its content."""
        await self.facts.catch_up()
        stored = await self._found(patient, name)
        subject = await self.facts.subject(stored.patient)
        private_key = None if subject.destroyed else await self._key_of(stored)
        return await inspect(self.objects, stored, private_key=private_key)

    async def _found(self, patient: str, name: str) -> ObjectState:
        stored = await self.facts.object(patient, name)
        if not stored.object:
            raise Refusal("unknown-object", "the patient has no object with this id", status=404)
        return stored

    async def _decided(
        self, stored: ObjectState, *, caller: Caller, token: str | None, at: datetime
    ) -> Decision:
        subject: SubjectState = await self.facts.subject(stored.patient)
        require_not_erased(subject)
        if token is None:
            raise Refusal("no-decision", "send Salus-Decision with a decision token of consent", status=403)
        decision = await self.decisions.read(token, at=at)
        attempt = Attempt(caller=caller.party, at=at, epoch=await self.facts.epoch(stored.patient))
        require_may_read(stored, subject, decision=decision, attempt=attempt)
        return decision

    async def _key_of(self, stored: ObjectState) -> bytes:
        key = stored.salt.key if stored.salt else ""
        try:
            return await self.vault.fetch(patient=stored.patient, key=key)
        except NotFoundError:
            # An erasure may have been published and finished since we looked.
            await self.facts.catch_up()
            require_not_erased(await self.facts.subject(stored.patient))
            raise ProblemError(500, "key-missing", "the patient's key is not in the vault") from None

    async def _require_intact(self, stored: ObjectState, private_key: bytes) -> None:
        report = await inspect(self.objects, stored, private_key=private_key)
        if report.faults:
            raise ProblemError(
                502,
                "object-corrupt",
                f"the stored object is not what the ledger says: {_sentence(report.faults[0])}",
                faults=[as_json(fault) for fault in report.faults],
            )

    async def _refused(self, stored: ObjectState, *, caller: Caller, reason: str) -> None:
        refused = ReadRefused(
            object=stored.object,
            patient=stored.patient,
            reader=caller.party.did,
            reason=reason,
            request=caller.request,
        )
        await self.announcer.announce(refused, patient=stored.patient)

    async def _content(self, stored: ObjectState, private_key: bytes) -> AsyncIterator[bytes]:
        assert stored.salt is not None  # noqa: S101  # an object that was found has one
        chunks = self.objects.stream(location_of(stored.object, stored.salt))
        segments, rest = await open_header(chunks, stored, private_key)
        content = Tally()
        async for piece in content.through(segments.open_all(rest)):
            yield piece
        require_commitment(
            bytes.fromhex(stored.commitment),
            salt=salt_of(stored, private_key),
            plaintext_sha256=content.sha256,
        )


def as_json(fault: Fault) -> dict[str, str | int]:
    """Return a fault as the API tells it."""
    told: dict[str, str | int] = {"part": fault.part, "fault": fault.fault}
    return told if fault.segment is None else {**told, "segment": fault.segment}


def _sentence(fault: Fault) -> str:
    part = fault.part if fault.segment is None else f"{fault.part} {fault.segment}"
    return f"{part} is {fault.fault}"
