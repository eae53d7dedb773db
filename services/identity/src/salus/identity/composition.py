"""Puts identity together: what its handlers use, what it adopts at a start, its routes."""

from __future__ import annotations

from functools import partial

from fastapi import FastAPI

from salus.contracts.dependencies import Dependencies
from salus.identity.folded import EVENT_TYPES, PARTIES, PROVIDERS, SHARDS, FoldedParties
from salus.identity.handlers import found_network
from salus.identity.ports import World
from salus.identity.routes import Behind, install_routes
from salus.identity.settings import Settings
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
    behind = Behind(
        world=world,
        network=around.network,
        shards=around.host(SHARDS),
        event_types=around.host(EVENT_TYPES),
        providers=around.host(PROVIDERS),
        writer=around.writer,
        partitions_of=partial(partitions_of, around.settings.kafka),
        authenticate=around.authenticate,
        ring=around.ring,
        now=around.now,
    )
    install_routes(app, behind)
