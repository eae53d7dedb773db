"""FHIR R4 over HTTP: a Consent resource comes in as a grant and goes out as it stands."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse

from salus.consent import handlers
from salus.consent.adapters import fhir
from salus.consent.api import Api, IdempotencyKey, IdInPath, actor_of, suffix_for
from salus.consent.domain.consents import Grant, identifier_under, patient_of
from salus.events.keyring import Party
from salus.ledger.json_reader import JsonError, read_json
from salus.runtime.problems import ProblemError, documented

RESOURCE_BYTES_MAX = 256 * 1024


def routes(api: Api) -> APIRouter:
    """Return the FHIR routes."""
    router = APIRouter(prefix="/fhir", tags=["FHIR R4"])
    caller = Depends(api.authenticate)

    @router.post("/Consent", status_code=201, responses=documented(401, 403, 404, 409, 413, 422, 503))
    async def create_consent(
        request: Request, idempotency_key: IdempotencyKey = None, caller: Party = caller
    ) -> JSONResponse:
        """Grant what an R4 Consent says; a 422 names every element that cannot be kept."""
        try:
            terms = fhir.parse(await _resource(request))
        except fhir.UnmappableError as error:
            return _fhir(fhir.operation_outcome(error.issues), status=422)
        actor, at = actor_of(caller), api.now()
        command = Grant(
            consent=identifier_under(terms.patient, suffix=suffix_for(actor, idempotency_key)),
            patient=terms.patient,
            grantee=terms.grantee,
            grantee_known=False,
            actions=terms.actions,
            purposes=terms.purposes,
            valid_from=terms.valid_from or at,
            valid_until=terms.valid_until,
        )
        repeatable = idempotency_key is not None
        consent = await handlers.grant(command, actor=actor, at=at, repeatable=repeatable, world=api.world)
        resource = fhir.render(consent, patient=terms.patient)
        return _fhir(resource, status=201, headers={"Location": f"/fhir/Consent/{consent.id}"})

    @router.get("/Consent/{consent}", responses=documented(401, 404, 503))
    async def read_consent(consent: IdInPath, caller: Party = caller) -> JSONResponse:
        """Return a consent as an R4 Consent."""
        patient = patient_of(consent)
        found = await handlers.read_consent(patient, consent, actor=actor_of(caller), world=api.world)
        return _fhir(fhir.render(found, patient=patient), status=200)

    return router


async def _resource(request: Request) -> Any:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > RESOURCE_BYTES_MAX:
            raise ProblemError(413, "too-large", f"a Consent has at most {RESOURCE_BYTES_MAX} bytes")
    try:
        return read_json(bytes(body))
    except JsonError as error:
        issue = fhir.Issue(error.place.replace("$", "Consent", 1), "structure", error.why)
        raise fhir.UnmappableError([issue]) from None


def _fhir(resource: dict[str, Any], *, status: int, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse(resource, status_code=status, media_type=fhir.MEDIA_TYPE, headers=headers)
