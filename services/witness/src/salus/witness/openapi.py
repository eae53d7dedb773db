"""The routes of witness with a stand-in for all that is behind them, for its OpenAPI document."""

from __future__ import annotations

from fastapi import FastAPI

from salus.runtime.openapi import StandIn
from salus.witness.api import witness_routes


def add_routes(app: FastAPI, stand_in: StandIn) -> None:
    """Add every route of the service."""
    app.include_router(witness_routes(stand_in.behind))
