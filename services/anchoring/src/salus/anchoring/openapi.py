"""The routes of anchoring with a stand-in for all that is behind them, for its OpenAPI document."""

from __future__ import annotations

from fastapi import FastAPI

from salus.anchoring.api import log_routes, status_routes
from salus.anchoring.receipt_api import receipt_routes
from salus.runtime.openapi import StandIn


def add_routes(app: FastAPI, stand_in: StandIn) -> None:
    """Add every route of the service."""
    app.include_router(log_routes(stand_in.behind, stand_in.behind))
    app.include_router(receipt_routes(stand_in.behind))
    app.include_router(status_routes(stand_in.behind))
