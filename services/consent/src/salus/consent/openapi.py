"""The routes of consent with a stand-in for all that is behind them, for its OpenAPI document."""

from __future__ import annotations

from fastapi import FastAPI

from salus.consent import api, authzen_api, decision_api, fhir_api, policies_api, prohibitions_api
from salus.consent.fhir_creation import FhirApi
from salus.runtime.openapi import StandIn


def add_routes(app: FastAPI, stand_in: StandIn) -> None:
    """Add every route of the service."""
    shared = api.Api(world=stand_in.behind, authenticate=stand_in.authenticate, now=stand_in.now)
    deciding = decision_api.DecisionApi(shared, questions_max=1)
    app.include_router(api.routes(shared))
    app.include_router(policies_api.policy_routes(shared))
    app.include_router(prohibitions_api.routes(shared))
    app.include_router(decision_api.routes(deciding))
    authzen_api.install(app, deciding, public_url=None)
    fhir_api.install(app, FhirApi(shared, stand_in.behind))
