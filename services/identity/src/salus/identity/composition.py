"""Puts identity together: what its handlers use, what it adopts at a start, its routes."""

from __future__ import annotations

from functools import partial

from fastapi import FastAPI

from salus.contracts.dependencies import Dependencies
from salus.identity.api import routes
from salus.identity.did_api import did_routes
from salus.identity.event_types_api import event_type_routes
from salus.identity.folded import EVENT_TYPES, PARTIES, PROVIDERS, SHARDS, FoldedParties
from salus.identity.handlers import found_network
from salus.identity.ports import World
from salus.identity.providers_api import provider_routes
from salus.identity.sessions_api import session_routes
from salus.identity.settings import Settings
from salus.identity.shards_api import shard_routes
from salus.identity.token_api import token_routes
from salus.messaging import partitions_of


async def open_world(around: Dependencies[Settings]) -> World:
    """Return what the handlers use."""
    listed = FoldedParties(around.follower, around.store)
    return World(parties=around.host(PARTIES), listed=listed, ring=around.ring)


async def adopt(around: Dependencies[Settings], world: World) -> None:
    """Register the founding parties."""
    await found_network(around.network, at=around.now(), world=world)


def install(app: FastAPI, around: Dependencies[Settings], world: World) -> None:
    """Add the routes."""
    app.include_router(did_routes(world=world, now=around.now))
    app.include_router(routes(world=world, authenticate=around.authenticate, now=around.now))
    app.include_router(
        shard_routes(
            around.host(SHARDS),
            around.network,
            authenticate=around.authenticate,
            partitions_of=partial(partitions_of, around.settings.kafka),
            ring=around.ring,
            now=around.now,
        )
    )
    types = around.host(EVENT_TYPES)
    app.include_router(
        event_type_routes(types, authenticate=around.authenticate, ring=around.ring, now=around.now)
    )
    providers = around.host(PROVIDERS)
    app.include_router(
        provider_routes(providers, authenticate=around.authenticate, ring=around.ring, now=around.now)
    )
    app.include_router(session_routes(ring=around.ring, authenticate=around.authenticate, now=around.now))
    app.include_router(token_routes(around.writer, ring=around.ring, now=around.now))
