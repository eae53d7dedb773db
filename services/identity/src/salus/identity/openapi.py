"""The routes of identity with a stand-in for all that is behind them, for its OpenAPI document."""

from __future__ import annotations

from fastapi import FastAPI

from salus.identity.routes import Behind, install_routes
from salus.runtime.openapi import StandIn


def add_routes(app: FastAPI, stand_in: StandIn) -> None:
    """Add every route of the service."""
    behind = stand_in.behind
    install_routes(
        app,
        Behind(
            world=behind,
            network=behind,
            shards=behind,
            event_types=behind,
            providers=behind,
            writer=behind,
            partitions_of=behind,
            authenticate=stand_in.authenticate,
            ring=behind,
            now=stand_in.now,
        ),
    )
