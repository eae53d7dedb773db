"""The routes of identity with a stand-in for all that is behind them, for its OpenAPI document."""

from __future__ import annotations

from fastapi import FastAPI

from salus.identity.api import routes
from salus.identity.did_api import did_routes
from salus.identity.event_types_api import event_type_routes
from salus.identity.providers_api import provider_routes
from salus.identity.sessions_api import session_routes
from salus.identity.shards_api import shard_routes
from salus.identity.token_api import token_routes
from salus.runtime.openapi import StandIn


def add_routes(app: FastAPI, stand_in: StandIn) -> None:
    """Add every route of the service."""
    behind, caller = stand_in.behind, stand_in.authenticate
    app.include_router(did_routes(world=behind, now=stand_in.now))
    app.include_router(routes(world=behind, authenticate=caller, now=stand_in.now))
    app.include_router(
        shard_routes(behind, behind, authenticate=caller, partitions_of=behind, ring=behind, now=stand_in.now)
    )
    app.include_router(event_type_routes(behind, authenticate=caller, ring=behind, now=stand_in.now))
    app.include_router(provider_routes(behind, authenticate=caller, ring=behind, now=stand_in.now))
    app.include_router(session_routes(ring=behind, authenticate=caller, now=stand_in.now))
    app.include_router(token_routes(behind, ring=behind, now=stand_in.now))
