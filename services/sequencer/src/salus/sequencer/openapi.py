"""The routes of sequencer with a stand-in for all that is behind them, for its OpenAPI document."""

from __future__ import annotations

from fastapi import FastAPI

from salus.runtime.openapi import StandIn
from salus.sequencer.api import routes


def add_routes(app: FastAPI, stand_in: StandIn) -> None:
    """Add every route of the service."""
    app.include_router(routes(stand_in.behind, stand_in.behind))
