"""Storage over HTTP: patients' keys, and objects in and out as streams."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, partial
from typing import Annotated, Any
from uuid import uuid4

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from salus.contracts.http_fields import CommandBody, PatientInPath
from salus.events.envelope import CONTENT_TYPE
from salus.events.parties import Party
from salus.events.schemas.subset import FIELD_NAME
from salus.runtime import openapi
from salus.runtime.auth import Caller, Callers
from salus.runtime.fields import DID_PATTERN, MEDIA_TYPE_PATTERN, NONCE_PATTERN, PLAIN, PSEUDONYM_PATTERN
from salus.runtime.limits import AccountLimit
from salus.runtime.places import Places
from salus.runtime.problems import documented
from salus.storage.domain import Basis, ObjectState, SubjectState, made_pseudonym
from salus.storage.handlers.byte_ranges import range_asked, whole
from salus.storage.handlers.damage import Report, as_json
from salus.storage.handlers.reading import Reading
from salus.storage.handlers.sealed_reading import SealedField, SealedReading
from salus.storage.handlers.storing import Storing, Upload
from salus.storage.handlers.subjects import Subjects
from salus.storage.transfers import (
    Limits,
    OutgoingResponse,
    body_of,
    content_encoding_of,
    ending,
    only_new_of,
    receipt_of,
    require_headers,
)

OBJECT_ID = r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$"
# What is refused is stated with the id that was asked for, so that must not be words either.
EVENT_ID = r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,255}$"

PatientQuery = Annotated[str, Query(pattern=PSEUDONYM_PATTERN, description="The patient's pseudonym.")]
ObjectId = Annotated[str, Path(pattern=OBJECT_ID, description="The object's id.")]
DecisionToken = Annotated[
    str | None,
    Header(alias="Salus-Decision", max_length=4096, pattern=PLAIN, description="Decision token of consent."),
]
RangeHeader = Annotated[
    str | None, Header(alias="Range", max_length=256, pattern=PLAIN, description="One range of bytes.")
]
IfRange = Annotated[
    str | None,
    Header(alias="If-Range", max_length=256, pattern=PLAIN, description="The ETag that the range is of."),
]
MediaType = Annotated[str, Header(alias="Content-Type", max_length=256, pattern=MEDIA_TYPE_PATTERN)]


class RegisterBody(CommandBody):
    """Who gets a key."""

    nonce: str = Field(
        pattern=NONCE_PATTERN,
        description="128 random bits, in 32 digits: her pseudonym is made of them and of the steward's DID.",
        examples=["5f0c1e2d3b4a59687766554433221100"],
    )
    patient: str | None = Field(
        default=None,
        pattern=PSEUDONYM_PATTERN,
        description="Her pseudonym, if the caller made it already: another one is refused.",
    )
    steward: str | None = Field(
        default=None,
        pattern=DID_PATTERN,
        max_length=256,
        description="The member that answers for her data; none: the one the caller is or acts for.",
    )


class EraseBody(CommandBody):
    """Why a key is destroyed."""

    basis: Basis


class SubjectView(BaseModel):
    """A patient's public key: anyone may seal to it (HPKE, see docs), only storage opens."""

    patient: str
    steward: str
    suite: str
    key: str
    public_key: str = Field(description="Base64.")

    @classmethod
    def of(cls, state: SubjectState) -> SubjectView:
        """Return the view of a patient's key."""
        return cls(
            patient=state.patient,
            steward=state.steward,
            suite=state.suite,
            key=state.key,
            public_key=state.public_key,
        )


class ErasedView(BaseModel):
    """A key that is gone for ever, and how many objects it took along."""

    patient: str
    key: str
    basis: Basis | None
    objects: int


class ObjectView(BaseModel):
    """An object as the ledger commits to it."""

    object: str
    patient: str
    steward: str
    media_type: str
    plaintext_bytes: int
    ciphertext_bytes: int
    ciphertext_sha256: str
    commitment: str
    ciphertext_root: str = Field(
        description="The RFC 6962 tree hash over head and segments; empty of objects of the first form."
    )
    content_encoding: str = Field(description="The content coding that it came in; empty: none.")

    @classmethod
    def of(cls, state: ObjectState) -> ObjectView:
        """Return the view of an object."""
        return cls(
            object=state.object,
            patient=state.patient,
            steward=state.steward,
            media_type=state.media_type,
            plaintext_bytes=state.plaintext_bytes,
            ciphertext_bytes=state.ciphertext_bytes,
            ciphertext_sha256=state.ciphertext_sha256,
            commitment=state.commitment,
            ciphertext_root=state.ciphertext_root,
            content_encoding=state.content_encoding,
        )


class FaultView(BaseModel):
    """One thing that is wrong; segments are counted from 0."""

    part: str
    fault: str
    segment: int | None = None


class ReportView(BaseModel):
    """What was compared with the ledger, and what differs."""

    object: str
    intact: bool
    checked: list[str]
    ciphertext_bytes: int
    faults: list[FaultView]

    @classmethod
    def of(cls, report: Report) -> ReportView:
        """Return the view of a report."""
        return cls(
            object=report.object,
            intact=report.intact,
            checked=list(report.checked),
            ciphertext_bytes=report.ciphertext_bytes,
            faults=[FaultView.model_validate(as_json(fault)) for fault in report.faults],
        )


@dataclass(frozen=True)
class Desk:
    """What the routes use."""

    subjects: Subjects
    storing: Storing
    reading: Reading
    sealed: SealedReading
    authenticate: Callers
    limits: Limits
    verifications: AccountLimit
    registrations: AccountLimit
    now: Callable[[], datetime]

    @cached_property
    def transfers(self) -> Places:
        """The places of uploads and downloads, all kinds together."""
        return Places(most=self.limits.transfers_max, of_one_max=self.limits.transfers_of_one_max)


def routes(desk: Desk) -> APIRouter:
    """Return storage's routes but those of resumable uploads."""
    router = APIRouter(dependencies=[Depends(require_headers)])
    transfers = desk.transfers
    _add_subjects(router, desk)
    _add_storing(router, desk, transfers)
    _add_reading(router, desk, transfers)
    _add_verifying(router, desk)
    _add_sealed(router, desk)
    return router


def _add_subjects(router: APIRouter, desk: Desk) -> None:
    caller = Depends(desk.authenticate.command)

    @router.post(
        "/subjects",
        status_code=201,
        tags=["subjects"],
        responses=documented(401, 403, 409, 410, 422, 429, 503),
    )
    async def register_subject(body: RegisterBody, caller: Caller = caller) -> SubjectView:
        """Give a patient a pseudonym and a key pair, by her steward; repeating it returns the key she has."""
        desk.registrations.take(caller.party)
        steward = body.steward or caller.party.member or caller.party.did
        patient = made_pseudonym(steward, body.nonce, expected=body.patient)
        number = uuid4().hex[:16]
        return SubjectView.of(
            await desk.subjects.register(patient=patient, steward=steward, number=number, caller=caller)
        )

    @router.get("/subjects/{patient}/key", tags=["subjects"], responses=documented(404, 410, 422, 503))
    async def get_subject_key(patient: PatientInPath) -> SubjectView:
        """Return the public key to seal to; 410 once it is destroyed."""
        return SubjectView.of(await desk.subjects.get(patient))

    @router.delete(
        "/subjects/{patient}/key", tags=["subjects"], responses=documented(401, 403, 404, 409, 422, 429, 503)
    )
    async def erase_subject(patient: PatientInPath, body: EraseBody, caller: Caller = caller) -> ErasedView:
        """Destroy a patient's key: all that it sealed is unreadable from here on, everywhere."""
        state = await desk.subjects.erase(patient, basis=body.basis, caller=caller)
        return ErasedView(patient=state.patient, key=state.key, basis=state.erased, objects=state.objects)


def _add_storing(router: APIRouter, desk: Desk, transfers: Places) -> None:
    caller = Depends(desk.authenticate.transfer)
    problems = documented(400, 401, 403, 404, 408, 409, 410, 412, 413, 415, 422, 429, 502, 503)

    async def store(
        upload: Upload, party: Caller, token: str | None, response: Response, *, end: float
    ) -> ObjectView:
        async with transfers.taken(party.party, end=end):
            stored, new = await desk.storing.store(upload, caller=party, token=token, at=desk.now())
        response.status_code = 201 if new else 200
        response.headers["Location"] = f"/objects/{stored.object}?patient={stored.patient}"
        response.headers["Salus-Receipt"] = receipt_of(stored)
        return ObjectView.of(stored)

    described = openapi.body("application/octet-stream", openapi.BINARY, "The object, of any media type.")
    stored_before: dict[int | str, dict[str, Any]] = {
        200: {"model": ObjectView, "description": "It was there already."}
    }

    @router.put(
        "/objects/{object}",
        status_code=201,
        tags=["objects"],
        responses={**stored_before, **problems},
        openapi_extra=described,
    )
    async def put_object(  # noqa: PLR0913  # one argument for each part of the request
        *,
        object: ObjectId,  # noqa: A002  # the catalogue's name
        patient: PatientQuery,
        request: Request,
        response: Response,
        content_type: MediaType = "application/octet-stream",
        token: DecisionToken = None,
        caller: Caller = caller,
    ) -> ObjectView:
        """Store the body as this object, encrypted to the patient's key; repeating it is harmless.

        With `If-None-Match: *` it is stored only if no object has this id.
        """
        end = desk.limits.end()
        body, only_new = body_of(request, desk.limits, end=end), only_new_of(request)
        upload = Upload(object, patient, content_type, body, only_new, content_encoding_of(request))
        return await store(upload, caller, token, response, end=end)

    @router.post("/objects", status_code=201, tags=["objects"], responses=problems, openapi_extra=described)
    async def post_object(
        *,
        patient: PatientQuery,
        request: Request,
        response: Response,
        content_type: MediaType = "application/octet-stream",
        caller: Caller = caller,
    ) -> ObjectView:
        """Store the body as a new object, by the patient's steward."""
        end = desk.limits.end()
        body = body_of(request, desk.limits, end=end)
        upload = Upload(
            str(uuid4()), patient, content_type, body, content_encoding=content_encoding_of(request)
        )
        return await store(upload, caller, None, response, end=end)


def _add_reading(router: APIRouter, desk: Desk, transfers: Places) -> None:
    reader = Depends(desk.authenticate.transfer)

    @router.get(
        "/objects/{object}",
        tags=["objects"],
        response_class=StreamingResponse,
        responses={
            **openapi.content("application/octet-stream", openapi.BINARY, "The content, of its media type."),
            **openapi.content(
                "application/octet-stream",
                openapi.BINARY,
                "The range of the content that was asked for.",
                status=206,
            ),
            **documented(401, 403, 404, 410, 416, 422, 429, 502, 503),
        },
    )
    async def get_object(  # noqa: PLR0913  # one argument for each part of the request
        *,
        object: ObjectId,  # noqa: A002  # the catalogue's name
        patient: PatientQuery,
        token: DecisionToken = None,
        range_header: RangeHeader = None,
        if_range: IfRange = None,
        caller: Caller = reader,
    ) -> OutgoingResponse:
        """Return the content, or one range of it, if the decision token allows it.

        Each piece is compared with what the ledger says before it is sent.
        """
        end = desk.limits.end()
        place = partial(transfers.taken, caller.party, end=end)
        async with place(), ending(end):
            asked = whole if range_header is None else range_asked(range_header, if_range)
            outgoing = await desk.reading.open(
                object, patient=patient, caller=caller, token=token, at=desk.now(), asked=asked
            )
        return OutgoingResponse(outgoing, idle_s_max=desk.limits.body_idle_s_max, end=end, place=place)


def _add_verifying(router: APIRouter, desk: Desk) -> None:
    caller = Depends(desk.authenticate)
    places = Places(most=desk.limits.verifications_max, of_one_max=1)

    @router.get(
        "/objects/{object}/verify", tags=["objects"], responses=documented(401, 403, 404, 422, 429, 503)
    )
    async def verify_object(
        object: ObjectId,  # noqa: A002  # the catalogue's name
        patient: PatientQuery,
        caller: Party = caller,
    ) -> ReportView:
        """Compare a stored object with the ledger and name what is wrong; one at a time of an account."""
        desk.verifications.take(caller)
        end = desk.limits.end()
        async with places.taken(caller, end=end), ending(end):
            return ReportView.of(await desk.reading.verify(patient, object))


def _add_sealed(router: APIRouter, desk: Desk) -> None:
    caller = Depends(desk.authenticate.document)

    @router.post(
        "/sealed/open",
        tags=["sealed"],
        response_class=Response,
        responses={
            **openapi.content("application/octet-stream", openapi.BINARY, "What was sealed."),
            **documented(401, 403, 404, 410, 422, 429, 503),
        },
        openapi_extra=openapi.body(CONTENT_TYPE, {"type": "object"}, "The event, as it is on its topic."),
    )
    async def open_sealed(  # noqa: PLR0913  # one argument for each part of the request
        *,
        request: Request,
        patient: PatientQuery,
        source: Annotated[str, Query(pattern=DID_PATTERN, max_length=256, description="The event's source.")],
        id: Annotated[str, Query(pattern=EVENT_ID, description="The event's id.")],  # noqa: A002  # the CloudEvents attribute's name
        field: Annotated[str, Query(pattern=f"^{FIELD_NAME}$", description="The sealed field of its data.")],
        token: DecisionToken = None,
        caller: Caller = caller,
    ) -> Response:
        """Return what is sealed in a field of an event, under a decision on it or on the object it names."""
        named = SealedField(patient, source, id, field)
        opened = await desk.sealed.open(
            await request.body(), named=named, caller=caller, token=token, at=desk.now()
        )
        headers = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
        return Response(opened, media_type="application/octet-stream", headers=headers)
