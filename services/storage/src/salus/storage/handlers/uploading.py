"""Uploads that resume: their bytes come by any number of requests, and become an object with the last one.

What came lies in the bucket as parts, sealed under a key that dies with the upload. The last bytes are never
stored as a part: they become the object together with what is stored, as the body of an ordinary upload does
(`storing.py`). So the offset is the length only once the object's event took effect.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from weakref import WeakValueDictionary

from salus.contracts.decision import Decision
from salus.crypto.errors import CryptoError
from salus.crypto.upload_parts import UploadKey, new_secret
from salus.events.contexts.storage import ContentCoding
from salus.objects import ObjectStore
from salus.runtime.auth import Caller
from salus.runtime.problems import ProblemError
from salus.storage.domain import ObjectState, may_compare, require_may_store
from salus.storage.handlers.damage import location
from salus.storage.handlers.part_writing import PartWriter, Patch
from salus.storage.handlers.standing import StandingView
from salus.storage.handlers.storing import Storing, Upload, object_exists
from salus.storage.handlers.upload_parts import (
    PART_BYTES,
    PARTS_MAX,
    UploadParts,
    beyond_length,
    offset_mismatch,
    unknown_upload,
)
from salus.storage.handlers.upload_records import (
    Completed,
    Place,
    Record,
    UploadId,
    UploadRecords,
    upload_corrupt,
)


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """How long an upload may take, and what one party may have open at once."""

    lifetime_s: int
    open_of_one_max: int
    open_bytes_of_one_max: int


@dataclass(frozen=True, slots=True)
class NewUpload:
    """An upload that somebody wants to begin."""

    patient: str
    object: str
    length: int
    media_type: str
    content_encoding: ContentCoding | None
    metadata: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an upload is; `stored` once it became an object."""

    id: UploadId
    offset: int
    metadata: str
    stored: ObjectState | None = None


@dataclass(frozen=True, slots=True)
class _Under:
    """By which right somebody goes on with an upload."""

    caller: Caller
    token: str | None
    decision: Decision | None
    at: datetime


@dataclass(frozen=True, slots=True)
class _Opened:
    """An upload that may go on."""

    place: Place
    record: Record
    parts: UploadParts
    key: UploadKey


@dataclass(frozen=True)
class Uploading:
    """Begins, goes on with, and terminates uploads.

    An upload is its creator's alone: nobody else finds it. Each request that brings bytes is judged as an
    upload of the whole object is, with a decision that is current then; the right is asked for again while
    they come.
    """

    storing: Storing
    records: UploadRecords
    objects: ObjectStore
    limits: UploadLimits
    clock: Callable[[], float] = time.monotonic
    part_bytes: int = PART_BYTES
    _turns: WeakValueDictionary[str, asyncio.Lock] = field(default_factory=WeakValueDictionary, init=False)

    @property
    def length_max(self) -> int:
        """How long an upload may be: what the operator allows, one party may have open, and parts can be."""
        parts_bytes = PARTS_MAX * self.part_bytes
        return min(self.storing.object_bytes_max, self.limits.open_bytes_of_one_max, parts_bytes)

    async def create(self, asked: NewUpload, *, caller: Caller, token: str | None, at: datetime) -> Progress:
        """Begin an upload. A crash after it was kept leaves one that nobody knows, and that expires.

        Raises:
            Refusal: the contract says no; 409 `object-exists`.
            ProblemError: 413 `too-large`; 429 `too-many-uploads`, the party has too many open.
        """
        if asked.length > self.length_max:
            detail = f"Upload-Length: an upload has at most {self.length_max} bytes"
            raise ProblemError(413, "too-large", detail)
        under = await self._under(caller, token, at)
        view = await self._require_right(under, patient=asked.patient, name=asked.object)
        if view.object.object and not may_compare(view.object, caller.party):
            raise object_exists()
        expires = int(at.timestamp()) + self.limits.lifetime_s
        place = Place.of(caller.party.did, UploadId.new(expires=expires, length=asked.length))
        secret = new_secret()
        record = Record(
            patient=asked.patient,
            object=asked.object,
            media_type=asked.media_type,
            content_encoding=asked.content_encoding,
            metadata=asked.metadata,
            secret=secret,
        )
        key = await self._key(place, record, view)
        await self.records.keep(place, record.bound(key))
        # Each counts what is there with its own, so two at once are not both the last that has room.
        await self._require_room(place, at)
        return Progress(place.id, 0, asked.metadata)

    async def progress(self, id_: str, *, caller_did: str, patient: str, name: str, at: datetime) -> Progress:
        """Return how far an upload is: what is durable now.

        Raises:
            ProblemError: 404 `unknown-upload`, 410 `upload-expired`.
        """
        place = _place(caller_did, id_, at)
        found = await self._found(place, caller_did, patient=patient, name=name)
        if isinstance(found, Progress):
            return found
        spans = await UploadParts(self.objects, place).spans()
        return Progress(place.id, spans[-1].end if spans else 0, found.metadata)

    async def append(
        self, id_: str, patch: Patch, *, caller: Caller, token: str | None, at: datetime
    ) -> Progress:
        """Go on with an upload; with its last bytes it becomes an object.

        Each part is durable before the next one is read on. A crash, or a connection that breaks, leaves the
        parts that were written, and the offset is their end. A crash while the object is made leaves the
        offset where the last bytes begin; to send them again is harmless. If another request completes the
        upload meanwhile, this one is 409 `offset-mismatch`, and whoever asks for the offset is told.

        Raises:
            Refusal: the contract says no.
            ProblemError: 404 `unknown-upload`, 409 `offset-mismatch`, 410 `upload-expired`, 413 `too-large`.
            BrokenBodyError: the body broke off.
        """
        did = caller.party.did
        place = _place(did, id_, at)
        found = await self._found(place, did, patient=patch.patient, name=patch.object)
        if isinstance(found, Progress):
            if patch.offset != found.offset:
                raise offset_mismatch()
            async for _ in patch.body:
                raise beyond_length(place.id.length)
            return found
        under = await self._under(caller, token, at)
        opened = await self._open(place, found, under)
        spans = await opened.parts.spans()
        if patch.offset != (spans[-1].end if spans else 0):
            raise offset_mismatch()
        writer = PartWriter(
            opened.parts,
            opened.key,
            offset=patch.offset,
            number=len(spans),
            part_bytes=self.part_bytes,
            require=self._going_on(opened, under),
        )
        if patch.digests:
            tail = await writer.held(patch)
        else:
            tail = await writer.streamed(patch.body)
        if tail is None:
            return Progress(place.id, writer.offset, opened.record.metadata)
        # If a proxy gives the answer up, the last bytes come again: nothing is sealed twice at once for that.
        async with self._turns.setdefault(place.name, asyncio.Lock()):
            stored = await self._complete(opened, tail, under)
        return Progress(place.id, place.id.length, opened.record.metadata, stored)

    async def terminate(self, id_: str, *, caller_did: str, patient: str, name: str, at: datetime) -> None:
        """End an upload: its key goes first, then its parts.

        A crash in between leaves parts that nothing opens, which are swept. A request that goes on with it
        meanwhile either makes the object or fails.

        Raises:
            ProblemError: 404 `unknown-upload`, 410 `upload-expired`; 403 `upload-completed`, it is an object.
        """
        place = _place(caller_did, id_, at)
        if await self._completed(place, caller_did, patient=patient, name=name) is not None:
            raise ProblemError(403, "upload-completed", "the upload is an object: it is not taken back")
        # A record that was altered is terminated as well: it is the way out.
        if not await self.records.is_open(place):
            raise unknown_upload()
        await self.records.destroy(place)
        await UploadParts(self.objects, place).remove()

    def _going_on(self, opened: _Opened, under: _Under) -> Callable[[bool], Awaitable[None]]:
        """Return what looks, now and then or at once, and raises unless upload and right still stand."""
        due = self.clock() + self.storing.recheck_s

        async def require(must_look: bool) -> None:  # noqa: FBT001  # the form of the writer
            nonlocal due
            if must_look or self.clock() >= due:
                if not await self.records.is_open(opened.place):
                    completed = await self.records.completed(opened.place)
                    raise unknown_upload() if completed is None else offset_mismatch()
                await self._require_right(under, patient=opened.record.patient, name=opened.record.object)
                due = self.clock() + self.storing.recheck_s

        return require

    async def _under(self, caller: Caller, token: str | None, at: datetime) -> _Under:
        decision = await self.storing.decisions.read(token, at=at) if token is not None else None
        return _Under(caller, token, decision, at)

    async def _require_right(self, under: _Under, *, patient: str, name: str) -> StandingView:
        view = await self.storing.standing.view(under.caller, patient=patient, name=name, began=under.at)
        require_may_store(view.subject, object=name, decision=under.decision, attempt=view.attempt)
        return view

    async def _found(self, place: Place, did: str, *, patient: str, name: str) -> Record | Progress:
        """Return the record of an upload that is open, or the upload if it became an object.

        The record is looked for first: who completes an upload keeps that, and only then destroys the record.
        """
        record = await self.records.find(place)
        if (done := await self._completed(place, did, patient=patient, name=name)) is not None:
            if record is not None:
                # A crash came between the two.
                await self.records.destroy(place)
            return done
        if record is None or (record.patient, record.object) != (patient, name):
            raise unknown_upload()
        return record

    async def _open(self, place: Place, record: Record, under: _Under) -> _Opened:
        view = await self._require_right(under, patient=record.patient, name=record.object)
        key = await self._key(place, record, view)
        try:
            record.require_bound(key)
        except CryptoError:
            raise upload_corrupt() from None
        return _Opened(place, record, UploadParts(self.objects, place), key)

    async def _key(self, place: Place, record: Record, view: StandingView) -> UploadKey:
        private_key = await self.storing.vault.fetch(patient=view.subject.patient, key=view.subject.key)
        return UploadKey.of(place.name, private_key=private_key, secret=record.secret)

    async def _require_room(self, place: Place, at: datetime) -> None:
        """Raise ProblemError 429, and take the upload back, if its party has too many open with it."""
        number = size = 0
        async for each in self.records.open(place.owner):
            if each.id.expires > at.timestamp():
                number, size = number + 1, size + each.id.length
        limits = self.limits
        if number <= limits.open_of_one_max and size <= limits.open_bytes_of_one_max:
            return
        await self.records.destroy(place)
        detail = (
            f"a party has at most {limits.open_of_one_max} uploads open, of {limits.open_bytes_of_one_max}"
            " bytes together: complete or terminate one"
        )
        raise ProblemError(429, "too-many-uploads", detail, headers={"Retry-After": "60"})

    async def _complete(self, opened: _Opened, tail: bytes, under: _Under) -> ObjectState:
        """Make the object; once its event took effect, what is kept of the upload goes.

        A crash after the event leaves the upload open: its last bytes, sent again, are compared with the
        object, and that is a success.
        """
        record, parts = opened.record, opened.parts
        spans = [span for span in await parts.spans() if span.end <= opened.place.id.length - len(tail)]
        if (spans[-1].end if spans else 0) + len(tail) != opened.place.id.length:
            raise offset_mismatch()
        upload = Upload(
            record.object,
            record.patient,
            record.media_type,
            parts.content(spans, key=opened.key, tail=tail),
            content_encoding=record.content_encoding,
        )
        # The token's digest is that of the request's body, which was compared, and not that of the object.
        caller = replace(under.caller, digest=None)
        stored, _ = await self.storing.store(upload, caller=caller, token=under.token, at=under.at)
        await self.records.complete(opened.place, Completed(location(stored), record.metadata))
        await parts.remove()
        return stored

    async def _completed(self, place: Place, did: str, *, patient: str, name: str) -> Progress | None:
        """Return the upload if it became an object, as the ledger says."""
        completed = await self.records.completed(place)
        if completed is None:
            return None
        await self.storing.facts.catch_up()
        stored = (await self.storing.facts.view(patient, name)).object
        if not stored.object or did not in {stored.stored_by, stored.steward}:
            return None
        if location(stored) != completed.location:
            return None
        return Progress(place.id, place.id.length, completed.metadata, stored)


def _place(did: str, id_: str, at: datetime) -> Place:
    """Return the place of a party's upload; raises ProblemError if it is none, or its time is over."""
    parsed = UploadId.parse(id_)
    if parsed is None:
        raise unknown_upload()
    if at.timestamp() >= parsed.expires:
        raise ProblemError(410, "upload-expired", "the upload's time is over: begin again")
    return Place.of(did, parsed)
