"""FHIR R4 over HTTP: a Consent comes in as a grant or a prohibition, and goes out as it stands."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Header, Request
from fastapi.responses import Response

from salus.consent.adapters.fhir import consent as fhir
from salus.consent.adapters.fhir.capabilities import capability_statement, searchset
from salus.consent.adapters.fhir.elements import Issue
from salus.consent.adapters.fhir.outcomes import MEDIA_TYPE, FhirResponse, all_ok, answered, operation_outcome
from salus.consent.api import IdInPath, actor_of, asking
from salus.consent.domain.consents import patient_of
from salus.consent.fhir_creation import (
    Creation,
    FhirApi,
    Stated,
    marked,
    rendered,
    told_of_the_element,
    visible,
)
from salus.consent.fhir_exchange import preferred_return, read_condition, read_search, require_json_exchange
from salus.contracts.http_fields import IdempotencyKey
from salus.events.parties import Party
from salus.ledger.json_reader import JsonError, read_json
from salus.runtime import openapi
from salus.runtime.auth import Caller
from salus.runtime.bodies import in_time
from salus.runtime.fields import PLAIN
from salus.runtime.problems import ProblemError, use_format
from salus.runtime.refusal import Refusal

BASE = "/fhir"
_RESOURCE = openapi.content(MEDIA_TYPE, {"type": "object"}, "An R4 resource.")
RESOURCE_BYTES_MAX = 256 * 1024

Condition = Annotated[
    str | None,
    Header(
        alias="If-None-Exist",
        max_length=2048,
        pattern=PLAIN,
        description="identifier=system|value: of this patient, none is created if there is one.",
    ),
]


def install(app: FastAPI, shared: FhirApi) -> None:
    """Add the routes, and let everything below /fhir answer in FHIR's words."""
    use_format(app, BASE, answered)
    app.include_router(routes(shared))


def routes(shared: FhirApi) -> APIRouter:
    """Return the FHIR routes."""
    router = APIRouter(prefix=BASE, tags=["FHIR R4"], dependencies=[Depends(require_json_exchange)])
    caller, submitter = Depends(shared.api.authenticate), Depends(shared.api.authenticate.document)

    @router.get("/metadata", response_class=Response, responses={**_RESOURCE, **_documented(406)})
    async def get_capabilities() -> FhirResponse:
        """Say what this server can do: a CapabilityStatement."""
        return _fhir(capability_statement(version=version("salus-consent")))

    @router.post(
        "/Consent",
        status_code=201,
        response_class=Response,
        responses={
            **dict.fromkeys((200, 201), _RESOURCE[200]),
            **_documented(400, 401, 403, 404, 406, 409, 412, 413, 415, 422, 429, 503),
        },
        openapi_extra=openapi.body(MEDIA_TYPE, {"type": "object"}, "An R4 Consent."),
    )
    async def create_consent(
        request: Request,
        idempotency_key: IdempotencyKey = None,
        condition: Condition = None,
        caller: Caller = submitter,
    ) -> Response:
        """Grant or forbid what an R4 Consent says; a 422 names every element that cannot be kept."""
        try:
            terms = await in_time(_terms, await _body(request))
            _require_agreement(terms, idempotency_key, condition)
        except fhir.UnmappableError as error:
            return _fhir(operation_outcome(error.issues), status=422)
        creating = Creation(shared, terms, asking(caller), idempotency_key)
        found = await creating.matches() if condition is not None else ()
        if len(found) > 1:
            raise ProblemError(412, "several-match", "several consents have this identifier")
        with told_of_the_element():
            if found:
                await creating.require_same(found[0])
            stated = found[0] if found else await creating.create(is_conditional=condition is not None)
        return _created(request, stated, patient=terms.patient, status=200 if found else 201)

    @router.get(
        "/Consent",
        response_class=Response,
        responses={**_RESOURCE, **_documented(400, 401, 403, 406, 412, 429, 503)},
    )
    async def search_consents(request: Request, caller: Party = caller) -> FhirResponse:
        """Search a patient's consents that are the caller's business, by identifier and status if given."""
        asked = read_search(request.scope["query_string"].decode("latin-1"))
        stated: Sequence[Stated] = await visible(shared, asked.patient, actor_of(caller))
        if asked.identifier is not None:
            stated = marked(shared.marks, stated, patient=asked.patient, identifier=asked.identifier)
        resources = [rendered(one, patient=asked.patient) for one in stated]
        return _fhir(searchset([one for one in resources if asked.status in {None, one["status"]}]))

    @router.get(
        "/Consent/{consent}",
        response_class=Response,
        responses={**_RESOURCE, **_documented(401, 403, 404, 406, 429, 503)},
    )
    async def read_consent(consent: IdInPath, caller: Party = caller) -> FhirResponse:
        """Return a consent as an R4 Consent."""
        patient = patient_of(consent)
        seen = await visible(shared, patient, actor_of(caller))
        found = next((one for one in seen if one.id == consent), None)
        if found is None:
            raise Refusal("unknown-consent", "there is no such consent", status=404)
        return _fhir(rendered(found, patient=patient))

    return router


def _require_agreement(
    terms: fhir.Terms | fhir.Denial, idempotency_key: str | None, condition: str | None
) -> None:
    """Raise unless resource and headers ask for one thing."""
    path = "Consent.identifier"
    if condition is not None and read_condition(condition) != terms.identifier:
        why = "If-None-Exist must name the identifier of the resource, or the next one would not find it"
        raise fhir.UnmappableError([Issue(path, "value", why)])
    if idempotency_key is not None and terms.identifier is not None:
        why = "a consent with an identifier is made once by If-None-Exist, not by Idempotency-Key"
        raise fhir.UnmappableError([Issue(path, "not-supported", why)])


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > RESOURCE_BYTES_MAX:
            raise ProblemError(413, "too-large", f"a Consent has at most {RESOURCE_BYTES_MAX} bytes")
    return bytes(body)


def _terms(body: bytes) -> fhir.Terms | fhir.Denial:
    try:
        resource = read_json(body)
    except JsonError as error:
        issue = Issue(error.place.replace("$", "Consent", 1), "structure", error.why)
        raise fhir.UnmappableError([issue]) from None
    return fhir.parse(resource)


def _created(request: Request, stated: Stated, *, patient: str, status: int) -> Response:
    headers = {"Location": f"{BASE}/Consent/{stated.id}"}
    match preferred_return(request):
        case "minimal":
            return Response(status_code=status, headers=headers)
        case "OperationOutcome":
            return _fhir(
                all_ok("it is in force" if status == 201 else "it was stated before, and is in force"),
                status=status,
                headers=headers,
            )
        case "representation":
            return _fhir(rendered(stated, patient=patient), status=status, headers=headers)


def _fhir(
    resource: dict[str, Any], *, status: int = 200, headers: dict[str, str] | None = None
) -> FhirResponse:
    return FhirResponse(resource, status_code=status, headers=headers)


def _documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of a route that may answer with OperationOutcomes of these statuses."""
    schema = {"type": "object", "description": "An R4 OperationOutcome."}
    outcome = {"content": {MEDIA_TYPE: {"schema": schema}}}
    return {status: {"description": "An OperationOutcome says why.", **outcome} for status in statuses}
