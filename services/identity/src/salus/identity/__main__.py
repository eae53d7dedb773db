"""Wires identity and runs it: `python -m salus.identity`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from functools import partial

from fastapi import FastAPI

from salus.contracts.contract import Contract, ContractHost
from salus.contracts.facts import FactWriter
from salus.contracts.fold import open_fold_store, open_follower
from salus.identity.api import routes
from salus.identity.domain import PartyState, evolve
from salus.identity.handlers import found_network
from salus.identity.ports import World
from salus.identity.settings import Settings
from salus.identity.shards import ShardingState, concerns
from salus.identity.shards import evolve as evolve_sharding
from salus.identity.shards_api import shard_routes
from salus.messaging import partitions_of, ping, require_topics
from salus.runtime.auth import Authenticator
from salus.runtime.database import DATABASE_AWAY
from salus.runtime.garbage import collect_rarely
from salus.runtime.identity_view import IDENTITY_TOPIC, open_identity_view
from salus.runtime.keys import load_signer
from salus.runtime.network import Network
from salus.runtime.own_key import OwnKey
from salus.runtime.publishing import open_publisher
from salus.runtime.service import Check, create_app, serve, wait_for
from salus.runtime.supervisor import Supervisor
from salus.runtime.telemetry import set_up

AUDIENCE = "salus:identity"
PARTIES = Contract(kind="party", topic=IDENTITY_TOPIC, state=PartyState, evolve=evolve)
SHARDS = Contract(
    kind="sharding", topic=IDENTITY_TOPIC, state=ShardingState, evolve=evolve_sharding, aggregate=concerns
)


def now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)


@asynccontextmanager
async def open_app(settings: Settings) -> AsyncIterator[FastAPI]:
    """Connect everything, register the founding parties and yield the app; Kafka must be there."""
    network = Network.read(settings.network_file)
    kafka = settings.kafka_bootstrap
    supervisor = Supervisor()
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_fold_store(settings.database_url))
        ring = await stack.enter_async_context(open_identity_view(kafka, network))
        signer = load_signer(settings.signing_key_file, settings.signing_key_id)
        publisher = await stack.enter_async_context(open_publisher(kafka, signer, idempotent=True))
        partitions: Sequence[tuple[str, int]] = network.topic_partitions(IDENTITY_TOPIC)
        follower = await stack.enter_async_context(
            open_follower(
                kafka,
                store=store,
                identity=ring,
                contracts=[PARTIES, SHARDS],
                partitions=partitions,
                supervisor=supervisor,
            )
        )
        own_key = OwnKey(ring, signer, role="identity")
        writer = FactWriter(publisher, follower, own_key, ring.ring.catalogue)
        parties = ContractHost(PARTIES, follower=follower, store=store, writer=writer)
        shards = ContractHost(SHARDS, follower=follower, store=store, writer=writer)
        world = World(parties=parties, ring=ring)
        await wait_for(settings, "fold", follower.check_rebuilt)
        await found_network(network, at=now(), world=world)
        checks: dict[str, Check] = {
            "kafka": partial(ping, kafka),
            "topics": partial(require_topics, kafka, (IDENTITY_TOPIC,)),
            "database": store.ping,
            "fold": follower.check,
            "signing-key": own_key.check,
        }
        authenticate = Authenticator(
            ring,
            audience=AUDIENCE,
            own_key=own_key,
            has_stated=partial(follower.has_stated, topic=IDENTITY_TOPIC),
            approvals=True,
            requests=settings.requests(),
        )
        app = create_app(
            settings,
            title="Salus identity",
            checks=checks,
            away=DATABASE_AWAY,
            supervisor=supervisor,
            admit=authenticate.admit,
        )
        app.include_router(routes(world=world, authenticate=authenticate, now=now))
        app.include_router(
            shard_routes(
                shards,
                network,
                authenticate=authenticate,
                partitions_of=partial(partitions_of, kafka),
                ring=ring,
                now=now,
            )
        )
        yield app


async def main(settings: Settings) -> None:
    """Serve until told to stop."""
    set_up(settings)
    await wait_for(settings, "kafka", partial(ping, settings.kafka_bootstrap))
    await wait_for(settings, "topics", partial(require_topics, settings.kafka_bootstrap, (IDENTITY_TOPIC,)))
    collect_rarely()
    async with open_app(settings) as app:
        await serve(app, settings)


if __name__ == "__main__":
    asyncio.run(main(Settings()))
