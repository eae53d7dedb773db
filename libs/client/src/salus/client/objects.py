"""Reads objects of the storage service as they come: whole or one range, as they were stored."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import quote

import httpx

from salus.client.bounded_http import with_problem
from salus.client.errors import ClientError

_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18})", re.ASCII)


class ObjectRefusedError(ClientError):
    """Storage did not answer with the object; `answer` is its problem document."""

    def __init__(self, answer: httpx.Response) -> None:
        super().__init__(f"storage answered {answer.status_code}")
        self.answer = answer


class ObjectBrokenOffError(ClientError):
    """The content ended early: a right ended meanwhile, or what is stored is not what the ledger says.

    What came is genuine, and a beginning of what was asked for.
    """

    def __init__(self, *, received: int, expected: int) -> None:
        super().__init__(f"the content ended after {received} of {expected} bytes")
        self.received = received
        self.expected = expected


@dataclass(frozen=True, slots=True)
class ObjectStream:
    """One object on its way: `start` and `length` of what comes, `size` of all of it.

    `etag` names the object to ask for more ranges of; `content_encoding` is the coding that it was stored in,
    which nobody undoes. `receipt` is the query for anchoring's `/receipts`, of the event that the object is.
    """

    media_type: str
    content_encoding: str
    etag: str
    commitment: str
    receipt: str
    start: int
    length: int
    size: int
    _answer: httpx.Response = field(repr=False)

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the content.

        Raises:
            ObjectBrokenOffError: it ended early.
        """
        received = 0
        try:
            async for piece in self._answer.aiter_raw():
                received += len(piece)
                yield piece
        except httpx.TransportError as error:
            raise ObjectBrokenOffError(received=received, expected=self.length) from error
        if received != self.length:
            raise ObjectBrokenOffError(received=received, expected=self.length)


@asynccontextmanager
async def open_object(  # noqa: PLR0913  # what is asked for, and by which right
    http: httpx.AsyncClient,
    name: str,
    *,
    patient: str,
    decision: str,
    auth: httpx.Auth,
    byte_range: str | None = None,
) -> AsyncGenerator[ObjectStream]:
    """Begin to read an object under a decision token; `byte_range` is as in HTTP: `0-99`, `100-` or `-100`.

    `http` has storage's address as its base, and follows no redirects.

    Raises:
        ObjectRefusedError: storage answered something else.
        httpx.TransportError: it does not answer.
    """
    headers = {"Salus-Decision": decision, "Accept-Encoding": "identity"}
    if byte_range is not None:
        headers["Range"] = f"bytes={byte_range}"
    request = http.build_request(
        "GET", f"/objects/{quote(name, safe='')}", params={"patient": patient}, headers=headers
    )
    answer = await http.send(request, auth=auth, stream=True)
    try:
        if answer.status_code not in {HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT}:
            raise ObjectRefusedError(await with_problem(answer))
        yield _stream_of(answer)
    finally:
        await answer.aclose()


def _stream_of(answer: httpx.Response) -> ObjectStream:
    declared = answer.headers.get("content-length", "")
    found = _CONTENT_RANGE.fullmatch(answer.headers.get("content-range", ""))
    partial = answer.status_code == HTTPStatus.PARTIAL_CONTENT
    if not declared.isdecimal() or partial != (found is not None):
        raise ObjectRefusedError(answer)
    length = int(declared)
    start, size = (int(found[1]), int(found[2])) if found else (0, length)
    return ObjectStream(
        media_type=answer.headers.get("content-type", ""),
        content_encoding=answer.headers.get("content-encoding", ""),
        etag=answer.headers.get("etag", ""),
        commitment=answer.headers.get("salus-commitment", ""),
        receipt=answer.headers.get("salus-receipt", ""),
        start=start,
        length=length,
        size=size,
        _answer=answer,
    )
