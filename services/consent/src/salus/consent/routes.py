"""Every route of consent: what the service serves, and what its OpenAPI document describes."""

from __future__ import annotations

from fastapi import FastAPI

from salus.consent import (
    api,
    authzen_api,
    cases_api,
    decision_api,
    fhir_api,
    permits_api,
    policies_api,
    prohibitions_api,
    reviews_api,
)
from salus.consent.fhir_creation import FhirApi


def install_routes(
    app: FastAPI, deciding: decision_api.DecisionApi, fhir: FhirApi, *, public_url: str | None
) -> None:
    """Add every route of the service."""
    shared = deciding.shared
    app.include_router(api.routes(shared))
    app.include_router(reviews_api.review_routes(shared))
    app.include_router(cases_api.case_routes(shared))
    app.include_router(policies_api.policy_routes(shared))
    app.include_router(prohibitions_api.routes(shared))
    app.include_router(permits_api.routes(shared))
    app.include_router(decision_api.routes(deciding))
    authzen_api.install(app, deciding, public_url=public_url)
    fhir_api.install(app, fhir)
