"""Storing: a body is encrypted while it streams in, and becomes an object when its event is folded."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass
from datetime import datetime

from salus.crypto.commitment import commit, new_salt, require_commitment
from salus.crypto.errors import CommitmentError
from salus.crypto.sealed_object import new_object
from salus.crypto.sealing import seal
from salus.events.catalogue import ObjectStored, Sealed
from salus.events.requests import Request
from salus.objects import ObjectStore
from salus.runtime.auth import Caller
from salus.runtime.contract import NameTakenError
from salus.runtime.refusal import Refusal
from salus.storage.domain import (
    Attempt,
    Decision,
    ObjectState,
    SubjectState,
    decide_storing,
    location_of,
    require_may_store,
)
from salus.storage.handlers.inspecting import SALT_CONTEXT, salt_of
from salus.storage.handlers.tally import Tally
from salus.storage.ports import Announcer, Decisions, Facts, Vault


@dataclass(frozen=True, slots=True)
class Upload:
    """A body on its way in."""

    object: str
    patient: str
    media_type: str
    body: AsyncIterable[bytes]


@dataclass(frozen=True)
class Storing:
    """Stores objects."""

    facts: Facts
    announcer: Announcer
    objects: ObjectStore
    vault: Vault
    decisions: Decisions
    object_bytes_max: int

    async def store(
        self, upload: Upload, *, caller: Caller, token: str | None, at: datetime
    ) -> tuple[ObjectState, bool]:
        """Encrypt and store a body; return the object and whether it is new.

        The bytes go under a name of their own first; the event makes them an object. A crash in between
        leaves bytes that no event names and nobody can read. Repeating an upload with the same content
        returns the object that is there.

        Raises:
            Refusal: the contract says no; 409 `object-exists` if other content has this id.
            ProblemError: 413 `too-large`.
            StoreAwayError, DeliveryError: not known whether it is stored; repeating it settles that.
        """
        decision = await self.decisions.read(token, at=at) if token is not None else None
        subject, existing = await self._allowed(upload, caller=caller, decision=decision, at=at)
        if existing.object:
            return await self._same(upload, existing), False
        asked = (caller if decision is None else caller.under(decision.id)).request
        event = await self._encrypt(upload, subject, asked)
        try:
            await self.announcer.execute(upload.patient, lambda state: decide_storing(state, event))
        except (Refusal, NameTakenError):
            # Nobody will ever look for these bytes. After any other failure the event may stand.
            await self.objects.delete(location_of(event.object, event.salt))
            raise
        return await self.facts.object(event.patient, event.object), True

    async def _allowed(
        self, upload: Upload, *, caller: Caller, decision: Decision | None, at: datetime
    ) -> tuple[SubjectState, ObjectState]:
        await self.facts.catch_up()
        subject = await self.facts.subject(upload.patient)
        epoch = await self.facts.epoch(upload.patient)
        attempt = Attempt(caller=caller.party, at=at, epoch=epoch)
        require_may_store(subject, object=upload.object, decision=decision, attempt=attempt)
        return subject, await self.facts.object(upload.patient, upload.object)

    async def _encrypt(self, upload: Upload, subject: SubjectState, request: Request) -> ObjectStored:
        public_key = b64decode(subject.public_key)
        salt = new_salt()
        sealed = seal(salt, public_key=public_key, key=subject.key, context=SALT_CONTEXT)
        sealed_salt = Sealed(suite=sealed.suite, key=sealed.key, ciphertext=sealed.ciphertext)
        header, segments = new_object(
            object=upload.object, patient=upload.patient, public_key=public_key, key=subject.key
        )
        plain, raw = Tally(self.object_bytes_max), Tally()
        stream = raw.through(_joined(header.encode(), segments.seal_all(plain.through(upload.body))))
        await self.objects.put_stream(location_of(upload.object, sealed_salt), stream)
        return ObjectStored(
            object=upload.object,
            patient=upload.patient,
            steward=subject.steward,
            media_type=upload.media_type,
            plaintext_bytes=plain.size,
            ciphertext_bytes=raw.size,
            ciphertext_sha256=raw.sha256.hex(),
            commitment=commit(salt=salt, plaintext_sha256=plain.sha256).hex(),
            salt=sealed_salt,
            request=request,
        )

    async def _same(self, upload: Upload, existing: ObjectState) -> ObjectState:
        plain = Tally(self.object_bytes_max)
        async for _ in plain.through(upload.body):
            pass
        if existing.patient != upload.patient or existing.salt is None:
            raise _exists()
        private_key = await self.vault.fetch(patient=existing.patient, key=existing.salt.key)
        try:
            require_commitment(
                bytes.fromhex(existing.commitment),
                salt=salt_of(existing, private_key),
                plaintext_sha256=plain.sha256,
            )
        except CommitmentError:
            raise _exists() from None
        return existing


def _exists() -> Refusal:
    return Refusal("object-exists", "another object has this id")


async def _joined(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for chunk in rest:
        yield chunk
