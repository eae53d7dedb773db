"""Every route of identity: what the service serves, and what its OpenAPI document describes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from fastapi import FastAPI

from salus.contracts.contract import ContractHost
from salus.contracts.facts import FactWriter
from salus.identity.api import routes
from salus.identity.did_api import did_routes
from salus.identity.event_types import EventTypeState
from salus.identity.event_types_api import event_type_routes
from salus.identity.logins import ProviderState
from salus.identity.ports import Ring, World
from salus.identity.providers_api import provider_routes
from salus.identity.sessions_api import session_routes
from salus.identity.shards import ShardingState
from salus.identity.shards_api import shard_routes
from salus.identity.token_api import token_routes
from salus.runtime.auth import Callers
from salus.runtime.network import Network


@dataclass(frozen=True, slots=True)
class Behind:
    """What the routes are made from."""

    world: World
    network: Network
    shards: ContractHost[ShardingState]
    event_types: ContractHost[EventTypeState]
    providers: ContractHost[ProviderState]
    writer: FactWriter
    partitions_of: Callable[[Iterable[str]], Awaitable[Mapping[str, Collection[int]]]]
    authenticate: Callers
    ring: Ring
    now: Callable[[], datetime]


def install_routes(app: FastAPI, behind: Behind) -> None:
    """Add every route of the service."""
    authenticate, ring, now = behind.authenticate, behind.ring, behind.now
    app.include_router(did_routes(world=behind.world, now=now))
    app.include_router(routes(world=behind.world, authenticate=authenticate, now=now))
    app.include_router(
        shard_routes(
            behind.shards,
            behind.network,
            authenticate=authenticate,
            partitions_of=behind.partitions_of,
            ring=ring,
            now=now,
        )
    )
    app.include_router(event_type_routes(behind.event_types, authenticate=authenticate, ring=ring, now=now))
    app.include_router(provider_routes(behind.providers, authenticate=authenticate, ring=ring, now=now))
    app.include_router(session_routes(ring=ring, authenticate=authenticate, now=now))
    app.include_router(token_routes(behind.writer, ring=ring, now=now))
