"""Storing: a body is encrypted while it streams in, and becomes an object when its event is folded."""

from __future__ import annotations

import time
from base64 import b64decode
from collections.abc import AsyncIterable, AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime

import msgspec

from salus.contracts.contract import NameTakenError
from salus.contracts.decision import Decision
from salus.crypto.commitment import commit, new_salt, require_commitment
from salus.crypto.errors import CommitmentError
from salus.crypto.sealed_object import new_object
from salus.crypto.sealing import SUITE, seal
from salus.crypto.streaming_aead import SEGMENT_BYTES
from salus.events.contexts.storage import ContentCoding, ObjectStored
from salus.events.fields import Sealed
from salus.objects import ObjectStore
from salus.runtime.auth import Caller
from salus.runtime.problems import ProblemError
from salus.runtime.refusal import Refusal
from salus.storage.domain import (
    ObjectState,
    SubjectState,
    decide_storing,
    location_of,
    may_compare,
    require_may_store,
)
from salus.storage.handlers.damage import SALT_CONTEXT, require_there, salt_of
from salus.storage.handlers.sealed_upload import SealedUpload
from salus.storage.handlers.standing import Standing, StandingView
from salus.storage.handlers.tally import Tally, too_large
from salus.storage.ports import Announcer, Decisions, Facts, Vault, changed_nothing


@dataclass(frozen=True, slots=True)
class Upload:
    """A body on its way in; if it is `only_new`, no object may have its id."""

    object: str
    patient: str
    media_type: str
    body: AsyncIterable[bytes]
    only_new: bool = False
    content_encoding: ContentCoding | None = None


@dataclass(frozen=True, slots=True)
class _Begun:
    """Who uploads what, by which right, since when."""

    upload: Upload
    caller: Caller
    decision: Decision | None
    at: datetime


@dataclass(frozen=True)
class Storing:
    """Stores objects."""

    facts: Facts
    announcer: Announcer
    objects: ObjectStore
    vault: Vault
    decisions: Decisions
    object_bytes_max: int
    standing: Standing
    recheck_s: float
    clock: Callable[[], float] = time.monotonic
    segment_bytes: int = SEGMENT_BYTES

    async def store(
        self, upload: Upload, *, caller: Caller, token: str | None, at: datetime
    ) -> tuple[ObjectState, bool]:
        """Encrypt and store a body; return the object and whether it is new.

        The bytes go under a name of their own first; the event makes them an object. A crash in between
        leaves bytes that no event names and nobody can read. Repeating an upload with the same content
        returns the object that is there, also of uploads at once. The right to store is asked for again
        while the body comes in, and once more before the event.

        Raises:
            Refusal: the contract says no; 409 `object-exists` if other content has this id; 422
                `digest-mismatch` if it is not the body that the caller signed.
            ProblemError: 413 `too-large`.
            StoreAwayError, DeliveryError: not known whether it is stored; repeating it settles that.
        """
        decision = await self.decisions.read(token, at=at) if token is not None else None
        begun = _Begun(upload, caller, decision, at)
        view = await self._require_right(begun)
        subject, existing = view.subject, view.object
        if existing.object:
            _require_may_compare(existing, begun)
            plain = Tally()
            async for _ in plain.through(self._body(begun)):
                pass
            _require_signed(begun, plain.sha256)
            return await self._same(begun, existing, plain.sha256), False
        event, plaintext_sha256 = await self._encrypt(begun, subject)

        async def decide(_: SubjectState) -> ObjectStored:
            # If it is later than the state that was handed in, the event is stale, and this is asked again.
            view = await self.standing.view(caller, patient=upload.patient, began=at)
            stated = msgspec.structs.replace(event, state_positions=view.positions)
            return decide_storing(view.subject, stated, decision=decision, attempt=view.attempt)

        try:
            await self.announcer.execute(upload.patient, decide)
        except (Refusal, ProblemError) as error:
            if changed_nothing(error):
                # Nobody will ever look for these bytes. After any other failure the event may stand.
                await self.objects.delete(location_of(event.object, event.salt))
            if not isinstance(error, NameTakenError):
                raise
        else:
            return (await self.facts.view(event.patient, event.object)).object, True
        existing = (await self.facts.view(upload.patient, upload.object)).object
        _require_may_compare(existing, begun)
        return await self._same(begun, existing, plaintext_sha256), False

    async def _body(self, begun: _Begun) -> AsyncIterator[bytes]:
        """Yield the body, as long as it may be stored; raises ProblemError 413 `too-large`."""
        due = self.clock() + self.recheck_s
        size = 0
        async for piece in begun.upload.body:
            size += len(piece)
            if size > self.object_bytes_max:
                raise too_large(self.object_bytes_max)
            if self.clock() >= due:
                await self._require_right(begun)
                due = self.clock() + self.recheck_s
            yield piece

    async def _require_right(self, begun: _Begun) -> StandingView:
        upload = begun.upload
        view = await self.standing.view(
            begun.caller, patient=upload.patient, name=upload.object, began=begun.at
        )
        require_may_store(view.subject, object=upload.object, decision=begun.decision, attempt=view.attempt)
        return view

    async def _encrypt(self, begun: _Begun, subject: SubjectState) -> tuple[ObjectStored, bytes]:
        """Put the bytes into the store; return the event that names them, and the content's SHA-256."""
        upload, caller, decision = begun.upload, begun.caller, begun.decision
        public_key = b64decode(subject.public_key)
        salt = new_salt()
        sealed = seal(salt, public_key=public_key, key=subject.key, context=SALT_CONTEXT)
        sealed_salt = Sealed(suite=SUITE, key=sealed.key, ciphertext=sealed.ciphertext)
        header, cipher = new_object(
            object=upload.object,
            patient=upload.patient,
            public_key=public_key,
            key=subject.key,
            segment_bytes=self.segment_bytes,
        )
        sealed_upload = SealedUpload(header, cipher)
        parts = self._parts(begun, sealed_upload)
        await self.objects.put_stream(location_of(upload.object, sealed_salt), parts)
        plain, raw = sealed_upload.plain, sealed_upload.raw
        event = ObjectStored(
            object=upload.object,
            patient=upload.patient,
            steward=subject.steward,
            media_type=upload.media_type,
            plaintext_bytes=plain.size,
            ciphertext_bytes=raw.size,
            ciphertext_sha256=raw.sha256.hex(),
            commitment=commit(salt=salt, plaintext_sha256=plain.sha256).hex(),
            salt=sealed_salt,
            content_encoding=upload.content_encoding,
            ciphertext_root=sealed_upload.root,
            request=(caller if decision is None else caller.under(decision.id)).request,
        )
        return event, plain.sha256

    async def _parts(self, begun: _Begun, sealed: SealedUpload) -> AsyncIterator[bytes]:
        """Yield what is stored of a body; it ends with an error if it is not what the caller signed."""
        async for part in sealed.parts(self._body(begun)):
            yield part
        _require_signed(begun, sealed.plain.sha256)
        yield sealed.index()

    async def _same(self, begun: _Begun, existing: ObjectState, plaintext_sha256: bytes) -> ObjectState:
        """Return the object that is there; raises Refusal unless it is the one that was sent.

        It is answered as stored, so the right to store it, the patient's key and its bytes are still there.
        """
        await self._require_right(begun)
        upload = begun.upload
        form = (upload.media_type, upload.content_encoding or "")
        if existing.salt is None or form != (existing.media_type, existing.content_encoding):
            raise object_exists()
        private_key = await self.vault.fetch(patient=existing.patient, key=existing.salt.key)
        try:
            require_commitment(
                bytes.fromhex(existing.commitment),
                salt=salt_of(existing, private_key),
                plaintext_sha256=plaintext_sha256,
            )
        except CommitmentError:
            raise object_exists() from None
        await require_there(self.objects, existing)
        return existing


def _require_may_compare(existing: ObjectState, begun: _Begun) -> None:
    """Raise Refusal before the body is looked at, or for whom the answer would tell what is stored."""
    if begun.upload.only_new:
        raise Refusal("precondition-failed", "If-None-Match: an object has this id", status=412)
    if not may_compare(existing, begun.caller.party):
        raise object_exists()


def object_exists() -> Refusal:
    """Return what is answered where another object has the id."""
    return Refusal(
        "object-exists",
        "an object has this id, of other content or another media type or stored by somebody else",
    )


def _require_signed(begun: _Begun, plaintext_sha256: bytes) -> None:
    digest = begun.caller.digest
    if digest is not None and digest != plaintext_sha256.hex():
        raise Refusal("digest-mismatch", "the body is not the one whose digest the token names", status=422)
