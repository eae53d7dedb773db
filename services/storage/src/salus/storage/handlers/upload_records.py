"""What is kept of an upload that is under way: what it will be, and the secret that its parts are sealed by.

A record lies in the bucket of keys, which is unversioned and has no backups: once it is destroyed, no part of
its upload opens. Its name says whose it is, until when, and how long, so a listing tells what is open.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from salus.crypto.upload_parts import UploadKey
from salus.events.contexts.storage import ContentCoding
from salus.objects import NotFoundError, ObjectStore, TooLargeError
from salus.runtime.problems import ProblemError

OPEN_FOLDER = "uploads"
COMPLETED_FOLDER = "completed-uploads"
RECORD_BYTES_MAX = 16 * 1024
_NO_RECORD = (TooLargeError, msgspec.DecodeError)
_R = TypeVar("_R", bound=msgspec.Struct)
_ID = re.compile(r"(?P<expires>[0-9]{10})-(?P<length>[1-9][0-9]{0,15})-[0-9a-f]{32}", re.ASCII)
_NAME = re.compile(r"[a-z-]+/(?P<owner>[0-9a-f]{32})/(?P<id>[^/]+)", re.ASCII)


@dataclass(frozen=True, slots=True)
class UploadId:
    """The id of an upload: until when it may go on, in seconds since 1970, and how long it will be."""

    text: str
    expires: int
    length: int

    @classmethod
    def new(cls, *, expires: int, length: int) -> UploadId:
        """Return a new one, which nobody guesses."""
        return cls(f"{expires:010d}-{length}-{secrets.token_hex(16)}", expires, length)

    @classmethod
    def parse(cls, text: str) -> UploadId | None:
        """Return the id that a text is; None if it is none."""
        found = _ID.fullmatch(text)
        return None if found is None else cls(text, int(found["expires"]), int(found["length"]))


@dataclass(frozen=True, slots=True)
class Place:
    """Whose upload, and which: the end of the name of its record, and the folder of its parts."""

    owner: str
    id: UploadId

    @classmethod
    def of(cls, did: str, id_: UploadId) -> Place:
        """Return the place of a party's upload."""
        return cls(owner_of(did), id_)

    @property
    def name(self) -> str:
        """The end of each name."""
        return f"{self.owner}/{self.id.text}"


def owner_of(did: str) -> str:
    """Return how a party is called in names of the store."""
    return hashlib.sha256(did.encode()).hexdigest()[:32]


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an upload will be; `metadata` is what its creator said of it, as it was sent."""

    patient: str
    object: str
    media_type: str
    content_encoding: ContentCoding | None
    metadata: str
    secret: bytes
    tag: str = ""

    def bound(self, key: UploadKey) -> Record:
        """Return it with the tag by which `require_bound` knows it again."""
        return msgspec.structs.replace(self, tag=key.tag(self._content()))

    def require_bound(self, key: UploadKey) -> None:
        """Raise AlteredUploadError unless storage kept it so."""
        key.require_tag(self._content(), self.tag)

    def _content(self) -> bytes:
        return msgspec.json.encode(msgspec.structs.replace(self, tag=""))


class Completed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An upload became an object, whose bytes lie there; it is believed if the ledger says the same."""

    location: str
    metadata: str


@dataclass(frozen=True)
class UploadRecords:
    """The records of all uploads."""

    store: ObjectStore

    async def keep(self, place: Place, record: Record) -> None:
        """Begin an upload; a crash after this leaves one that expires."""
        await self.store.create(_open(place), msgspec.json.encode(record))

    async def find(self, place: Place) -> Record | None:
        """Return the record of an upload that is open; raises ProblemError 502 `upload-corrupt`."""
        try:
            return await self._read(_open(place), Record)
        except _NO_RECORD:
            raise upload_corrupt() from None

    async def completed(self, place: Place) -> Completed | None:
        """Return where the object is said to lie that an upload became; what is no record says nothing."""
        try:
            return await self._read(_completed(place), Completed)
        except _NO_RECORD:
            return None

    async def complete(self, place: Place, completed: Completed) -> None:
        """Keep that an upload became an object, and forget what opens its parts.

        A crash in between leaves a record, which goes when somebody asks for the upload, or expires.
        """
        await self.store.put(_completed(place), msgspec.json.encode(completed))
        await self.destroy(place)

    async def destroy(self, place: Place) -> None:
        """Destroy what opens the parts of an upload."""
        await self.store.destroy(_open(place))

    async def forget(self, place: Place) -> None:
        """Forget that an upload became an object."""
        await self.store.destroy(_completed(place))

    async def is_open(self, place: Place) -> bool:
        """Tell whether there is a record of an upload."""
        try:
            await self.store.head(_open(place))
        except NotFoundError:
            return False
        return True

    def open(self, owner: str = "") -> AsyncIterator[Place]:
        """Yield the uploads that are open, of one party or of all."""
        return self._places(f"{OPEN_FOLDER}/{owner}")

    def all_completed(self) -> AsyncIterator[Place]:
        """Yield the uploads that became objects a while ago."""
        return self._places(COMPLETED_FOLDER)

    async def _places(self, folder: str) -> AsyncIterator[Place]:
        # What else somebody puts there is no upload; who looks at names alone reads none of it.
        async for entry in self.store.list(folder, on_stray=lambda _: None):
            found = _NAME.fullmatch(entry.key)
            id_ = UploadId.parse(found["id"]) if found else None
            if found and id_:
                yield Place(found["owner"], id_)

    async def _read(self, name: str, kind: type[_R]) -> _R | None:
        try:
            raw = await self.store.get(name, bytes_max=RECORD_BYTES_MAX)
            return msgspec.json.decode(raw, type=kind)
        except NotFoundError:
            return None


def upload_corrupt() -> ProblemError:
    """Return what is answered where what is kept of an upload is not what was kept."""
    detail = "what is kept of the upload was altered: terminate it and begin again"
    return ProblemError(502, "upload-corrupt", detail)


def _open(place: Place) -> str:
    return f"{OPEN_FOLDER}/{place.name}"


def _completed(place: Place) -> str:
    return f"{COMPLETED_FOLDER}/{place.name}"
