"""Consent over HTTP: grant, revoke and link."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request
from fastapi.responses import Response

from salus.access.actors import Actor, Asking
from salus.consent import handlers, models
from salus.consent.domain.consents import (
    Link,
    Revoke,
    Unlink,
    found_consent,
    identifier_under,
    patient_of,
)
from salus.consent.domain.rights import require, visible_consents
from salus.consent.ports import World
from salus.contracts.http_fields import IdempotencyKey, PatientInPath, id_digits
from salus.events.parties import Party
from salus.events.patient_rights import Act
from salus.runtime.auth import Caller, Callers
from salus.runtime.bodies import json_of
from salus.runtime.fields import PLAIN
from salus.runtime.path_dids import did_in_path
from salus.runtime.problems import documented
from salus.runtime.request_lanes import Lane

DidInPath = Annotated[str, did_in_path(4)]
IdInPath = Annotated[str, Path(max_length=80, pattern=PLAIN)]


@dataclass(frozen=True)
class Api:
    """What every route uses."""

    world: World
    authenticate: Callers
    now: Callable[[], datetime]


def actor_of(party: Party) -> Actor:
    """Return the authenticated party as the contract knows it."""
    return Actor(did=party.did, kind=party.kind, roles=party.roles, member=party.member)


def asking(caller: Caller) -> Asking:
    """Return the caller of a command as the contract knows it."""
    return Asking.of(caller.party, caller.request)


async def granted(api: Api, body: models.GrantBody, caller: Caller, *, key: str | None) -> models.ConsentView:
    """Grant a consent; `key` is the caller's idempotency key."""
    actor, at = asking(caller), api.now()
    command = body.as_command(identifier_under(body.patient, suffix=id_digits(actor.did, key)))
    consent = await handlers.grant(command, actor=actor, at=at, repeatable=key is not None, world=api.world)
    return models.ConsentView.of(consent, patient=body.patient)


def lanes(api: Api) -> Mapping[str, Lane]:
    """Return the lanes of what comes by the thousand."""

    async def grant(request: Request, _: bytes) -> Response | None:
        if "idempotency-key" in request.headers:
            return None
        try:
            wanted = models.GrantBody.model_validate(json_of(request))
        except ValueError:
            return None
        view = await granted(api, wanted, await api.authenticate.command(request), key=None)
        return Response(view.model_dump_json(), status_code=201, media_type="application/json")

    return {"/consents": grant}


def routes(api: Api) -> APIRouter:
    """Return the routes of consents and links."""
    router = APIRouter()
    _add_consents(router, api)
    _add_patients(router, api)
    return router


def _add_consents(router: APIRouter, api: Api) -> None:
    caller, commander = Depends(api.authenticate), Depends(api.authenticate.command)
    world = api.world

    @router.post(
        "/consents",
        status_code=201,
        tags=["consents"],
        responses=documented(401, 403, 404, 409, 422, 429, 503),
    )
    async def grant_consent(
        body: models.GrantBody, idempotency_key: IdempotencyKey = None, caller: Caller = commander
    ) -> models.ConsentView:
        """Let someone act on a patient's data: by the patient herself, or by her steward for her."""
        return await granted(api, body, caller, key=idempotency_key)

    @router.get("/consents/{consent}", tags=["consents"], responses=documented(401, 403, 404, 429, 503))
    async def get_consent(consent: IdInPath, caller: Party = caller) -> models.ConsentView:
        """Return one consent, to the patient, her steward or the grantee."""
        patient = patient_of(consent)
        found = await handlers.read_consent(patient, consent, actor=actor_of(caller), world=world)
        return models.ConsentView.of(found, patient=patient)

    @router.post(
        "/consents/{consent}/revoke", tags=["consents"], responses=documented(401, 403, 404, 409, 429, 503)
    )
    async def revoke_consent(consent: IdInPath, caller: Caller = commander) -> models.ConsentView:
        """Take a consent back; every decision token given before is void from here on."""
        patient = patient_of(consent)
        await handlers.execute(Revoke(consent, patient), actor=asking(caller), at=api.now(), world=world)
        state = (await world.facts.facts(patient)).state
        return models.ConsentView.of(found_consent(state, consent), patient=patient)


def _add_patients(router: APIRouter, api: Api) -> None:
    caller, commander = Depends(api.authenticate), Depends(api.authenticate.command)
    world = api.world

    @router.post(
        "/patients/{patient}/parties",
        status_code=201,
        tags=["patients"],
        responses=documented(401, 403, 404, 409, 422, 429, 503),
    )
    async def link_patient(
        patient: PatientInPath, body: models.LinkBody, caller: Caller = commander
    ) -> models.LinkView:
        """Say which party the patient is, so that she can decide for herself: by her steward."""
        command = Link(patient=patient, did=body.did, is_patient=False)
        await handlers.execute(command, actor=asking(caller), at=api.now(), world=world)
        return models.LinkView(patient=patient, did=body.did)

    @router.delete(
        "/patients/{patient}/parties/{did}",
        status_code=204,
        tags=["patients"],
        responses=documented(401, 403, 404, 409, 422, 429, 503),
    )
    async def unlink_patient(patient: PatientInPath, did: DidInPath, caller: Caller = commander) -> Response:
        """Say that a party is the patient no longer: by her steward, or by the party itself.

        Every decision token given before is void from here on.
        """
        command = Unlink(patient=patient, did=did)
        await handlers.execute(command, actor=asking(caller), at=api.now(), world=world)
        return Response(status_code=204)

    @router.get(
        "/patients/{patient}/parties", tags=["patients"], responses=documented(401, 403, 422, 429, 503)
    )
    async def list_parties(patient: PatientInPath, caller: Party = caller) -> list[models.LinkView]:
        """List the parties that are a patient, to her and to her steward."""
        known = await world.facts.facts(patient)
        require(Act.SEE, actor_of(caller), about=None, state=known.state, subject=known.subject)
        return [models.LinkView(patient=patient, did=did) for did in known.state.dids]

    @router.get(
        "/patients/{patient}/consents", tags=["patients"], responses=documented(401, 403, 422, 429, 503)
    )
    async def list_consents(patient: PatientInPath, caller: Party = caller) -> models.ConsentList:
        """List a patient's consents as far as they are the caller's business, and her epoch."""
        known = await world.facts.facts(patient)
        seen = visible_consents(actor_of(caller), known.state, known.subject)
        views = [models.ConsentView.of(consent, patient=patient) for consent in seen]
        return models.ConsentList(patient=patient, epoch=known.state.epoch, consents=views)
