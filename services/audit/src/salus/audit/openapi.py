"""The routes of audit with a stand-in for all that is behind them, for its OpenAPI document."""

from __future__ import annotations

from fastapi import FastAPI

from salus.audit.api import Reading, routes
from salus.audit.past_keys_api import past_keys_routes
from salus.audit.reconcile_api import reconcile_routes
from salus.runtime.openapi import StandIn


def add_routes(app: FastAPI, stand_in: StandIn) -> None:
    """Add every route of the service."""
    behind, caller = stand_in.behind, stand_in.authenticate
    app.include_router(
        routes(Reading(trail=behind, around=behind, grown=behind, authenticate=caller, ring=behind))
    )
    app.include_router(reconcile_routes(behind, caller))
    app.include_router(past_keys_routes(behind, caller))
