"""The routes of audit with a stand-in for all that is behind them, for its OpenAPI document."""

from __future__ import annotations

from fastapi import FastAPI

from salus.audit.api import Reading
from salus.audit.routes import install_routes
from salus.runtime.openapi import StandIn


def add_routes(app: FastAPI, stand_in: StandIn) -> None:
    """Add every route of the service."""
    behind, caller = stand_in.behind, stand_in.authenticate
    reading = Reading(trail=behind, around=behind, grown=behind, authenticate=caller, ring=behind)
    install_routes(app, reading, behind, behind)
