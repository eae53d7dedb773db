"""Every route of audit: what the service serves, and what its OpenAPI document describes."""

from __future__ import annotations

from fastapi import FastAPI

from salus.audit.api import Reading, routes
from salus.audit.comparison import Comparison
from salus.audit.past_keys import PastKeys
from salus.audit.past_keys_api import past_keys_routes
from salus.audit.reconcile_api import reconcile_routes


def install_routes(app: FastAPI, reading: Reading, comparison: Comparison, past: PastKeys) -> None:
    """Add every route of the service."""
    app.include_router(routes(reading))
    app.include_router(reconcile_routes(comparison, reading.authenticate))
    app.include_router(past_keys_routes(past, reading.authenticate))
