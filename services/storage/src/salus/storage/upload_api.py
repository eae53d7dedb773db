"""Resumable uploads over HTTP, by tus 1.0.0: created, gone on with, looked at, terminated."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from email.utils import formatdate
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, FastAPI, Path, Query, Request, Response
from pydantic import BaseModel, Field
from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from salus.events.parties import Party
from salus.runtime import openapi
from salus.runtime.auth import Caller
from salus.runtime.fields import PLAIN
from salus.runtime.problems import ProblemError, documented
from salus.storage.api import OBJECT_ID, DecisionToken, Desk, PatientQuery
from salus.storage.handlers.part_writing import BrokenBodyError, Digest, Patch
from salus.storage.handlers.uploading import NewUpload, Progress, Uploading
from salus.storage.transfers import UPLOADS_PATH, body_of, ending, receipt_of, require_headers
from salus.storage.tus_headers import (
    ALGORITHMS,
    BODY_TYPE,
    EXTENSIONS,
    VERSION,
    checksum_of,
    length_of,
    metadata_of,
    offset_of,
    require_body_type,
    require_no_body,
    require_version,
)

UploadPath = Annotated[str, Path(max_length=128, pattern=PLAIN, description="The upload's id.")]
ObjectQuery = Annotated[str, Query(pattern=OBJECT_ID, description="The id that the object will have.")]


class UploadView(BaseModel):
    """An upload that was begun; where it goes on is in `Location`."""

    upload: str
    length: int
    expires: int = Field(description="Until when it may go on, in seconds since 1970.")


def install_uploads(app: FastAPI, desk: Desk, uploading: Uploading) -> None:
    """Add the routes of resumable uploads; each answer below them names the protocol's version."""
    app.include_router(upload_routes(desk, uploading))
    app.add_middleware(_NamesVersion)


def upload_routes(desk: Desk, uploading: Uploading) -> APIRouter:
    """Return the routes of resumable uploads."""
    router = APIRouter(
        prefix=UPLOADS_PATH,
        tags=["uploads"],
        dependencies=[Depends(require_version), Depends(require_headers)],
    )
    _add_asking(router, desk, uploading)
    _add_commands(router, desk, uploading)
    _add_going_on(router, desk, uploading)
    return router


def _add_asking(router: APIRouter, desk: Desk, uploading: Uploading) -> None:
    caller = Depends(desk.authenticate)

    @router.options("", status_code=204, response_class=Response)
    async def get_upload_protocol() -> Response:
        """Tell what of tus is spoken here."""
        headers = {
            "Tus-Version": VERSION,
            "Tus-Extension": EXTENSIONS,
            "Tus-Max-Size": str(min(desk.limits.object_bytes_max, uploading.length_max)),
            "Tus-Checksum-Algorithm": ",".join(ALGORITHMS),
        }
        return Response(status_code=204, headers=headers)

    @router.head(
        "/{upload}",
        response_class=Response,
        responses=documented(401, 403, 404, 410, 412, 422, 429, 502, 503),
    )
    async def get_upload_progress(
        upload: UploadPath,
        patient: PatientQuery,
        object: ObjectQuery,  # noqa: A002  # the catalogue's name
        caller: Party = caller,
    ) -> Response:
        """Tell its creator how far an upload is: `Upload-Offset` is what is stored durably."""
        found = await uploading.progress(
            upload, caller_did=caller.did, patient=patient, name=object, at=desk.now()
        )
        headers = _headers(found) | {"Upload-Length": str(found.id.length)}
        if found.metadata:
            headers["Upload-Metadata"] = found.metadata
        return Response(status_code=200, headers=headers)


def _add_commands(router: APIRouter, desk: Desk, uploading: Uploading) -> None:
    caller = Depends(desk.authenticate.transfer)

    @router.post(
        "",
        status_code=201,
        responses=documented(400, 401, 403, 404, 409, 410, 412, 413, 415, 422, 429, 503),
    )
    async def create_upload(  # noqa: PLR0913  # one argument for each part of the request
        *,
        request: Request,
        response: Response,
        patient: PatientQuery,
        object: ObjectQuery,  # noqa: A002  # the catalogue's name
        token: DecisionToken = None,
        caller: Caller = caller,
    ) -> UploadView:
        """Begin an upload of `Upload-Length` bytes; it goes on at `Location`, until `Upload-Expires`.

        `Upload-Metadata` may name `filetype`, the media type, and `content-encoding`.
        """
        require_no_body(request)
        metadata, media_type, coding = metadata_of(request)
        asked = NewUpload(patient, object, length_of(request), media_type, coding, metadata)
        made = await uploading.create(asked, caller=caller, token=token, at=desk.now())
        query = urlencode({"patient": patient, "object": object})
        response.headers.update(_headers(made))
        response.headers["Location"] = f"{UPLOADS_PATH}/{made.id.text}?{query}"
        return UploadView(upload=made.id.text, length=made.id.length, expires=made.id.expires)

    @router.delete(
        "/{upload}",
        status_code=204,
        response_class=Response,
        responses=documented(401, 403, 404, 410, 412, 422, 429, 503),
    )
    async def terminate_upload(
        upload: UploadPath,
        patient: PatientQuery,
        object: ObjectQuery,  # noqa: A002  # the catalogue's name
        caller: Caller = caller,
    ) -> Response:
        """End an upload: what came of it is gone."""
        await uploading.terminate(
            upload, caller_did=caller.party.did, patient=patient, name=object, at=desk.now()
        )
        return Response(status_code=204)


def _add_going_on(router: APIRouter, desk: Desk, uploading: Uploading) -> None:
    caller = Depends(desk.authenticate.transfer)

    @router.patch(
        "/{upload}",
        status_code=204,
        response_class=Response,
        responses=documented(400, 401, 403, 404, 408, 409, 410, 412, 413, 415, 422, 429, 460, 502, 503),
        openapi_extra=openapi.body(BODY_TYPE, openapi.BINARY, "The bytes from `Upload-Offset` on."),
    )
    async def append_to_upload(  # noqa: PLR0913  # one argument for each part of the request
        *,
        request: Request,
        upload: UploadPath,
        patient: PatientQuery,
        object: ObjectQuery,  # noqa: A002  # the catalogue's name
        token: DecisionToken = None,
        caller: Caller = caller,
    ) -> Response:
        """Go on with an upload at `Upload-Offset`; with its last bytes it is an object on the ledger.

        A body whose digest is named, by `Upload-Checksum` or the token, is compared before any of it is kept.
        """
        end = desk.limits.end()
        require_body_type(request)
        digests = [digest for digest in (checksum_of(request), _signed(caller)) if digest is not None]
        body = _breaking(body_of(request, desk.limits, end=end))
        patch = Patch(patient, object, offset_of(request), body, tuple(digests))
        async with desk.transfers.taken(caller.party, end=end), ending(end):
            try:
                found = await uploading.append(upload, patch, caller=caller, token=token, at=desk.now())
            except BrokenBodyError as broken:
                raise broken.cause from None
        return Response(status_code=204, headers=_headers(found))


async def _breaking(body: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """Yield a body; raises BrokenBodyError where it ends before its end."""
    try:
        async for piece in body:
            yield piece
    except (ClientDisconnect, ProblemError) as error:
        raise BrokenBodyError(error) from error


def _signed(caller: Caller) -> Digest | None:
    """Return the digest of the body that the caller's token names, if it names one."""
    if caller.digest is None:
        return None
    wrong = ProblemError(422, "digest-mismatch", "the body is not the one whose digest the token names")
    return Digest("sha256", bytes.fromhex(caller.digest), wrong)


def _headers(found: Progress) -> dict[str, str]:
    headers = {
        "Upload-Offset": str(found.offset),
        "Upload-Expires": formatdate(found.id.expires, usegmt=True),
        "Cache-Control": "no-store",
    }
    if found.stored is not None:
        query = urlencode({"patient": found.stored.patient})
        headers["Content-Location"] = f"/objects/{found.stored.object}?{query}"
        headers["Salus-Receipt"] = receipt_of(found.stored)
    return headers


class _NamesVersion:
    """Names the protocol's version in each answer below the path of uploads, also in problems."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""

        async def naming(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["Tus-Resumable"] = VERSION
            await send(message)

        here = scope["type"] == "http" and scope["path"].startswith(UPLOADS_PATH)
        await self._app(scope, receive, naming if here else send)
