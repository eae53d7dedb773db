"""Stores objects by uploads that resume (tus 1.0.0): what came before a break is not sent again."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Protocol

import httpx

from salus.client.errors import ClientError

VERSION = {"Tus-Resumable": "1.0.0"}
BODY_TYPE = "application/offset+octet-stream"
RETRIES_MAX = 8
"""So often in a row an upload is gone on with in vain; each byte that became durable begins a new row."""

RETRY_S_MAX = 30.0
_PLACES = "/uploads/"
_PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
# Of 409 and 502 these two say that no repeating helps; the upload is to be given up.
_LASTING = frozenset({"object-exists", "upload-corrupt", "object-corrupt"})


class UploadRefusedError(ClientError):
    """Storage does not take the upload, and repeating does not help; `answer` is its problem document."""

    def __init__(self, answer: httpx.Response) -> None:
        super().__init__(f"storage answered {answer.status_code}")
        self.answer = answer


class UploadAwayError(ClientError):
    """Storage could not be asked often enough; the upload stands, and may be gone on with."""

    def __init__(self, offset: int) -> None:
        super().__init__(f"storage is away; {offset} bytes are durable")
        self.offset = offset


class UploadLengthError(ClientError):
    """The upload has another length than the source: it is of other bytes, and none of these was sent."""

    def __init__(self, length: str, size: int) -> None:
        super().__init__(f"the upload has {length or 'no'} bytes, and the source {size}")


class Source(Protocol):
    """The bytes of an object, which can be read from any place."""

    @property
    def size(self) -> int:
        """How many there are."""

    def pieces(self, start: int) -> AsyncIterator[bytes]:
        """Yield them from a place on."""


@dataclass(frozen=True, slots=True)
class NewObject:
    """What an upload will be."""

    patient: str
    object: str
    media_type: str = "application/octet-stream"
    content_encoding: str | None = None

    @property
    def metadata(self) -> str:
        """What tus says of it."""
        named = {"filetype": self.media_type, "content-encoding": self.content_encoding}
        return ",".join(
            f"{name} {b64encode(value.encode('ascii')).decode('ascii')}"
            for name, value in named.items()
            if value is not None
        )


def require_place(url: str) -> None:
    """Raise ValueError unless a text is where an upload goes on at storage, and leads nowhere else."""
    if not url.startswith(_PLACES):
        raise ValueError(f"an upload goes on below {_PLACES}, at no other address")


@dataclass(frozen=True, slots=True)
class ResumableUpload:
    """One upload at storage. `url` is where it goes on, also from another process: keep it, it is no secret.

    It is empty before the upload has begun; one that is not below /uploads/ raises ValueError.
    `http` has storage's address as its base, and follows no redirects. `auth` signs each request without
    reading its body before. `decide` is asked for a decision token for each request that brings bytes, for a
    token is current for a minute; None: the caller acts for the patient's steward.
    """

    http: httpx.AsyncClient
    url: str
    auth: httpx.Auth
    decide: Callable[[], Awaitable[str]] | None = None
    tell: Callable[[int], None] = lambda _: None
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    def __post_init__(self) -> None:
        """Refuse an address of others: with an address as its base, `http` would send all bytes there."""
        if self.url:
            require_place(self.url)

    async def begin(self, new: NewObject, size: int) -> ResumableUpload:
        """Begin an upload of so many bytes, one at least, and return it; this one's `url` is not used.

        Raises:
            UploadRefusedError: storage does not take it.
            httpx.TransportError: storage does not answer.
        """
        headers = VERSION | {"Upload-Length": str(size), "Upload-Metadata": new.metadata}
        if self.decide is not None:
            headers["Salus-Decision"] = await self.decide()
        query = {"patient": new.patient, "object": new.object}
        answer = await self.http.post("/uploads", params=query, headers=headers, auth=self.auth)
        location = answer.headers.get("location", "")
        if answer.status_code != HTTPStatus.CREATED or not location.startswith(_PLACES):
            raise UploadRefusedError(answer)
        return replace(self, url=location)

    async def offset(self) -> int:
        """Return how many bytes are durable.

        Raises:
            UploadRefusedError: there is no such upload, or not any more.
            httpx.TransportError: storage does not answer.
        """
        return _offset_in(await self._asked())

    async def send(self, source: Source) -> httpx.Response:
        """Send what is not durable yet, and go on after each break; return storage's last answer.

        The object is on the ledger then: `Salus-Receipt` in the answer is the query of its receipt.

        Raises:
            UploadLengthError: the source has another length than the upload.
            UploadRefusedError: no repeating helps.
            UploadAwayError: storage was away for too long; call it again later.
        """
        durable, failures = 0, 0
        while failures <= RETRIES_MAX:
            offset, answer = await self._tried(source)
            if answer is not None:
                return answer
            failures = 0 if offset > durable else failures + 1
            durable = max(durable, offset)
            await self.sleep(min(RETRY_S_MAX, 0.25 * 2**failures))
        raise UploadAwayError(durable)

    async def terminate(self) -> None:
        """Give the upload up; raises UploadRefusedError, httpx.TransportError."""
        answer = await self.http.delete(self.url, headers=VERSION, auth=self.auth)
        if answer.status_code != HTTPStatus.NO_CONTENT:
            raise UploadRefusedError(answer)

    async def _asked(self) -> httpx.Response:
        answer = await self.http.head(self.url, headers=VERSION, auth=self.auth)
        if answer.status_code != HTTPStatus.OK:
            raise UploadRefusedError(answer)
        return answer

    async def _tried(self, source: Source) -> tuple[int, httpx.Response | None]:
        """Go on once; return where it went on, and the answer if the object is stored.

        What may be otherwise next time is no error; raises UploadRefusedError for what stays.
        """
        offset = 0
        try:
            asked = await self._asked()
            offset = _offset_in(asked)
            # Where a shorter source ends, a longer upload is no object yet.
            if (length := asked.headers.get("upload-length", "")) != str(source.size):
                raise UploadLengthError(length, source.size)
            self.tell(offset)
            answer = await self._sent(source, offset)
        except httpx.TransportError:
            return offset, None
        except UploadRefusedError as refused:
            answer = refused.answer
        if answer.status_code == HTTPStatus.NO_CONTENT:
            durable = _offset_in(answer)
            self.tell(durable)
            return durable, answer if durable == source.size else None
        if not _may_pass(answer):
            raise UploadRefusedError(answer)
        return offset, None

    async def _sent(self, source: Source, offset: int) -> httpx.Response:
        headers = VERSION | {"Upload-Offset": str(offset), "Content-Type": BODY_TYPE}
        if self.decide is not None:
            headers["Salus-Decision"] = await self.decide()
        headers["Content-Length"] = str(source.size - offset)
        body = self._told(source, offset)
        return await self.http.patch(self.url, content=body, headers=headers, auth=self.auth)

    async def _told(self, source: Source, offset: int) -> AsyncIterator[bytes]:
        sent = offset
        async for piece in source.pieces(offset):
            yield piece
            sent += len(piece)
            self.tell(sent)


def _may_pass(answer: httpx.Response) -> bool:
    """Tell whether the same may be taken later, or from another place on."""
    return answer.status_code in _PASSING and code_of(answer) not in _LASTING


def code_of(answer: httpx.Response) -> str:
    """Return the code of a problem document; of what is none, nothing."""
    try:
        problem = answer.json()
    except ValueError:
        return ""
    return str(problem.get("code", "")) if isinstance(problem, dict) else ""


def _offset_in(answer: httpx.Response) -> int:
    told = answer.headers.get("upload-offset", "")
    if not (told.isascii() and told.isdecimal()):
        raise UploadRefusedError(answer)
    return int(told)
