"""The routes of consent with a stand-in for all that is behind them, for its OpenAPI document."""

from __future__ import annotations

from fastapi import FastAPI

from salus.consent import api, decision_api
from salus.consent.fhir_creation import FhirApi
from salus.consent.routes import install_routes
from salus.runtime.openapi import StandIn


def add_routes(app: FastAPI, stand_in: StandIn) -> None:
    """Add every route of the service."""
    shared = api.Api(world=stand_in.behind, authenticate=stand_in.authenticate, now=stand_in.now)
    deciding = decision_api.DecisionApi(shared, questions_max=1)
    install_routes(app, deciding, FhirApi(shared, stand_in.behind), public_url=None)
