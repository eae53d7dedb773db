"""FHIR R4 over HTTP: a Consent resource comes in as a grant and goes out as it stands."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Header, Request
from fastapi.responses import Response

from salus.access.actors import Actor, Asking
from salus.access.state import Consent
from salus.consent import handlers
from salus.consent.adapters.fhir import consent as fhir
from salus.consent.adapters.fhir.capabilities import capability_statement, searchset
from salus.consent.adapters.fhir.elements import Issue
from salus.consent.adapters.fhir.identifier_marks import IdentifierMarks
from salus.consent.adapters.fhir.outcomes import MEDIA_TYPE, FhirResponse, all_ok, answered, operation_outcome
from salus.consent.api import Api, IdInPath, actor_of, asking
from salus.consent.domain.consents import Grant, Term, identifier_under, patient_of
from salus.consent.domain.rights import visible_consents
from salus.consent.fhir_exchange import preferred_return, read_condition, read_search, require_json_exchange
from salus.contracts.http_fields import IdempotencyKey, id_digits
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
_ACTOR = "body.provision.actor[0].reference"
_ELEMENT: Mapping[Term, str] = {
    "grantee": _ACTOR,
    "actions": "body.provision.action",
    "purposes": "body.provision.purpose",
    "valid_from": "body.provision.period.start",
    "valid_until": "body.provision.period.end",
}

Condition = Annotated[
    str | None,
    Header(
        alias="If-None-Exist",
        max_length=2048,
        pattern=PLAIN,
        description="identifier=system|value: of this patient, none is created if there is one.",
    ),
]


@dataclass(frozen=True)
class FhirApi:
    """What every route under /fhir uses."""

    api: Api
    marks: IdentifierMarks


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
        """Grant what an R4 Consent says; a 422 names every element that cannot be kept."""
        try:
            terms = await in_time(_terms, await _body(request))
            _require_agreement(terms, idempotency_key, condition)
        except fhir.UnmappableError as error:
            return _fhir(operation_outcome(error.issues), status=422)
        creating = _Creating(shared, terms, asking(caller), idempotency_key)
        found = await creating.matches() if condition is not None else ()
        if len(found) > 1:
            raise ProblemError(412, "several-match", "several consents have this identifier")
        with _told_of_the_element():
            if found:
                await creating.require_same(found[0])
            consent = found[0] if found else await creating.create(is_conditional=condition is not None)
        return _created(request, consent, patient=terms.patient, status=200 if found else 201)

    @router.get(
        "/Consent",
        response_class=Response,
        responses={**_RESOURCE, **_documented(400, 401, 403, 406, 412, 429, 503)},
    )
    async def search_consents(request: Request, caller: Party = caller) -> FhirResponse:
        """Search a patient's consents that are the caller's business, by identifier and status if given."""
        asked = read_search(request.scope["query_string"].decode("latin-1"))
        consents: Sequence[Consent] = await _visible(shared, asked.patient, actor_of(caller))
        if asked.identifier is not None:
            consents = _marked(shared.marks, consents, patient=asked.patient, identifier=asked.identifier)
        resources = [fhir.render(consent, patient=asked.patient) for consent in consents]
        return _fhir(searchset([one for one in resources if asked.status in {None, one["status"]}]))

    @router.get(
        "/Consent/{consent}",
        response_class=Response,
        responses={**_RESOURCE, **_documented(401, 403, 404, 406, 429, 503)},
    )
    async def read_consent(consent: IdInPath, caller: Party = caller) -> FhirResponse:
        """Return a consent as an R4 Consent."""
        patient = patient_of(consent)
        found = await handlers.read_consent(patient, consent, actor=actor_of(caller), world=shared.api.world)
        return _fhir(fhir.render(found, patient=patient))

    return router


@dataclass(frozen=True)
class _Creating:
    """One create: what is granted, by whom, and what is there already."""

    shared: FhirApi
    terms: fhir.Terms
    actor: Asking
    idempotency_key: str | None

    async def matches(self) -> Sequence[Consent]:
        """Return the consents that have the identifier already."""
        terms = self.terms
        if terms.identifier is None:
            return ()
        seen = await _visible(self.shared, terms.patient, self.actor)
        return _marked(self.shared.marks, seen, patient=terms.patient, identifier=terms.identifier)

    async def require_same(self, found: Consent) -> None:
        """Raise unless the consent that has the identifier is what would be granted, and stands.

        R4 answers a match of the condition with 200. Here that means: what you ask for is in force.
        """
        shared = self.shared
        command = self._command(found.id)
        differing = await handlers.found_granted(found, command, at=shared.api.now(), world=shared.api.world)
        if differing:
            what = "the consent with this identifier has another value here"
            errors = [
                {"at": element, "what": what, "code": "conflict"} for element in map(_ELEMENT.get, differing)
            ]
            detail = f"the consent {found.id} has this identifier, and grants something else"
            raise ProblemError(409, "consent-differs", detail, errors=errors)

    async def create(self, *, is_conditional: bool) -> Consent:
        """Grant; of two conditional creates of one identifier at once, one grants, and one is a conflict."""
        suffix = self._suffix(is_conditional=is_conditional)
        command = self._command(identifier_under(self.terms.patient, suffix=suffix))
        repeatable = self.idempotency_key is not None
        at, world = self.shared.api.now(), self.shared.api.world
        return await handlers.grant(command, actor=self.actor, at=at, repeatable=repeatable, world=world)

    def _command(self, consent: str) -> Grant:
        terms = self.terms
        return Grant(
            consent=consent,
            patient=terms.patient,
            grantee=terms.grantee,
            actions=terms.actions,
            purposes=terms.purposes,
            valid_from=terms.valid_from,
            valid_until=terms.valid_until,
            expected_kind=terms.grantee_kind,
        )

    def _suffix(self, *, is_conditional: bool) -> str:
        identifier = self.terms.identifier
        if identifier is None:
            return id_digits(self.actor.did, self.idempotency_key)
        mark = self.shared.marks.of(
            patient=self.terms.patient, system=identifier.system, value=identifier.value
        )
        return mark + ("0" * 8 if is_conditional else secrets.token_hex(4))


@contextmanager
def _told_of_the_element() -> Iterator[None]:
    """Let what the contract refuses of the grantee name its element."""
    try:
        yield
    except Refusal as refusal:
        if refusal.code != "grantee-differs":
            raise
        error = {"at": f"{_ACTOR}.type", "what": refusal.sentence, "code": "value"}
        raise ProblemError(refusal.status, refusal.code, refusal.sentence, errors=[error]) from None


def _require_agreement(terms: fhir.Terms, idempotency_key: str | None, condition: str | None) -> None:
    """Raise unless resource and headers ask for one thing."""
    path = "Consent.identifier"
    if condition is not None and read_condition(condition) != terms.identifier:
        why = "If-None-Exist must name the identifier of the resource, or the next one would not find it"
        raise fhir.UnmappableError([Issue(path, "value", why)])
    if idempotency_key is not None and terms.identifier is not None:
        why = "a consent with an identifier is made once by If-None-Exist, not by Idempotency-Key"
        raise fhir.UnmappableError([Issue(path, "not-supported", why)])


async def _visible(shared: FhirApi, patient: str, actor: Actor) -> tuple[Consent, ...]:
    known = await shared.api.world.facts.facts(patient)
    return visible_consents(actor, known.state, known.subject)


def _marked(
    marks: IdentifierMarks, consents: Sequence[Consent], *, patient: str, identifier: fhir.Identifier
) -> list[Consent]:
    """Return those with the identifier; raises ProblemError 412 if that cannot be told of each."""
    if any(marks.is_of_another_key(consent.id) for consent in consents):
        detail = "the service's key has changed since a consent got its identifier; search without it"
        raise ProblemError(412, "identifier-unknown", detail)
    mark = marks.of(patient=patient, system=identifier.system, value=identifier.value)
    return [consent for consent in consents if consent.id.rpartition(".")[2].startswith(mark)]


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > RESOURCE_BYTES_MAX:
            raise ProblemError(413, "too-large", f"a Consent has at most {RESOURCE_BYTES_MAX} bytes")
    return bytes(body)


def _terms(body: bytes) -> fhir.Terms:
    try:
        resource = read_json(body)
    except JsonError as error:
        issue = Issue(error.place.replace("$", "Consent", 1), "structure", error.why)
        raise fhir.UnmappableError([issue]) from None
    return fhir.parse(resource)


def _created(request: Request, consent: Consent, *, patient: str, status: int) -> Response:
    headers = {"Location": f"{BASE}/Consent/{consent.id}"}
    match preferred_return(request):
        case "minimal":
            return Response(status_code=status, headers=headers)
        case "OperationOutcome":
            return _fhir(
                all_ok("granted" if status == 201 else "it was granted before, and is in force"),
                status=status,
                headers=headers,
            )
        case "representation":
            return _fhir(fhir.render(consent, patient=patient), status=status, headers=headers)


def _fhir(
    resource: dict[str, Any], *, status: int = 200, headers: dict[str, str] | None = None
) -> FhirResponse:
    return FhirResponse(resource, status_code=status, headers=headers)


def _documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of a route that may answer with OperationOutcomes of these statuses."""
    schema = {"type": "object", "description": "An R4 OperationOutcome."}
    outcome = {"content": {MEDIA_TYPE: {"schema": schema}}}
    return {status: {"description": "An OperationOutcome says why.", **outcome} for status in statuses}
