"""The routes of anchoring with a stand-in for all that is behind them, for its OpenAPI document."""

from __future__ import annotations

from fastapi import FastAPI

from salus.anchoring.routes import install_routes
from salus.runtime.openapi import StandIn


def add_routes(app: FastAPI, stand_in: StandIn) -> None:
    """Add every route of the service."""
    install_routes(app, stand_in.behind, stand_in.behind, stand_in.behind)
