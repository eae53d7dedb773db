"""Wires audit and runs it: `python -m salus.audit`."""

from __future__ import annotations

from salus.runtime.garbage import collect_rarely

if __name__ == "__main__":
    collect_rarely()

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version

from fastapi import FastAPI

from salus.audit.adapters.archive import ArchivedLedger
from salus.audit.adapters.signatures import OwnSignatures
from salus.audit.adapters.sql import open_trail
from salus.audit.adapters.topics import KafkaOutputs, watch_for_ever
from salus.audit.api import Reading, damaged, out_of_reach
from salus.audit.comparison import Comparison, Pace
from salus.audit.detectors import Detectors
from salus.audit.domain.network import Surroundings
from salus.audit.domain.probing import ProbingRule
from salus.audit.handlers import Alarm, Bell, Follower, Indexer
from salus.audit.identity_chain import IdentityChain, IdentityTopic
from salus.audit.past_keys import PastKeys
from salus.audit.ports import DamagedTrailError, OutOfReachError
from salus.audit.publication import Publisher
from salus.audit.publication_mark import Marks
from salus.audit.reconciliation import Reconciler
from salus.audit.rights_publication import RightsPublication
from salus.audit.rights_review import RightsReview
from salus.audit.routes import install_routes
from salus.audit.settings import Settings
from salus.ledger.key_periods import Keys
from salus.messaging import MessagingError, ping, require_topics
from salus.objects import S3Objects, open_store
from salus.runtime.auth import Authenticator
from salus.runtime.database import DATABASE_AWAY
from salus.runtime.identity_view import IDENTITY_TOPIC, IdentityView, open_identity_view
from salus.runtime.keys import load_signer
from salus.runtime.live_keys import WatchedNetwork
from salus.runtime.network import Network
from salus.runtime.own_key import AnnouncingKey, OwnKeyError
from salus.runtime.service import Check, create_app, serve, wait_for
from salus.runtime.shard_keys import follow_shards
from salus.runtime.supervisor import Supervisor
from salus.runtime.telemetry import set_up

# From one block compared to the next, with the pause between passes.
COMPARING_AGE_S_MAX = 900.0


def now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)


def surroundings_of(network: Network, settings: Settings) -> Surroundings:
    """Return what the outputs must know of the network."""
    return Surroundings(
        origin=network.origin,
        log_origin=network.log.origin,
        receipts_url=settings.anchoring_url.rstrip("/"),
        ocsf_topic=settings.ocsf_topic,
        fhir_topic=settings.fhir_topic,
        version=version("salus-audit"),
        services={name: party.did for name, party in network.services.items()},
    )


def identity_topic_of(network: Network) -> IdentityTopic:
    """Return where the identity events begin on the ledger."""
    (partition,) = network.topic_partitions(IDENTITY_TOPIC)
    founder = next(shard for shard in network.shards if IDENTITY_TOPIC in shard.topics)
    return IdentityTopic(partition, founder.origin, network.new_ring)


def topics_of(settings: Settings) -> tuple[str, ...]:
    """Return the topics that audit reads and writes."""
    return (IDENTITY_TOPIC, settings.blocks_topic, settings.ocsf_topic, settings.fhir_topic)


async def keys_of(identity: IdentityView) -> None:
    """Read the identity topic up to its end; raises OutOfReachError."""
    try:
        await identity.catch_up()
    except MessagingError as error:
        raise OutOfReachError(f"kafka: {error}") from error


async def require_own_key(identity: IdentityView, key: AnnouncingKey) -> None:
    """Raise OutOfReachError unless audit's own key signs, as of everything published until now."""
    await keys_of(identity)
    key.look(identity.ring)
    try:
        key.require()
    except OwnKeyError as error:
        raise OutOfReachError(str(error)) from error


def bucket_of(settings: Settings) -> S3Objects:
    """Return the ledger bucket."""
    return open_store(
        endpoint=settings.s3_endpoint,
        access_key=settings.s3_access_key,
        secret_key=settings.s3_secret_key.get_secret_value(),
        region=settings.s3_region,
        bucket=settings.ledger_bucket,
    )


@asynccontextmanager
async def open_app(settings: Settings) -> AsyncIterator[FastAPI]:
    """Connect everything, start following and publishing, and yield the app."""
    watched = WatchedNetwork(settings.network_file)
    network = watched.network
    around = surroundings_of(network, settings)
    kafka = settings.kafka
    announced, grown = Bell(), Bell()
    supervisor = Supervisor()
    async with AsyncExitStack() as stack:
        trail = await stack.enter_async_context(
            open_trail(settings.database_url, folder=settings.comparison_folder)
        )
        # Connections of their own: however much is asked, indexing, publishing and comparing go on.
        asked = await stack.enter_async_context(
            open_trail(settings.database_url, statement_s_max=settings.search_s_max)
        )
        identity = await stack.enter_async_context(open_identity_view(kafka, network))
        signer = load_signer(settings.signing_key_file, settings.signing_key_id)
        require_key = partial(require_own_key, identity, AnnouncingKey(signer, role="audit"))
        outputs = KafkaOutputs(kafka, OwnSignatures(signer, lambda: identity.ring), require_key)
        stack.push_async_callback(outputs.close)
        shards: dict[int, Keys] = {**watched.shards()}
        bucket = bucket_of(settings)
        ledger = ArchivedLedger(bucket)
        topic = identity_topic_of(network)
        chain = IdentityChain(ledger, shards, topic, trail.identity)
        indexer = Indexer(ledger, trail, shards, chain)
        alarm = Alarm(outputs, around, now)
        marks = Marks(trail, outputs, around, partial(keys_of, identity))
        rule = ProbingRule(settings.refusals_max, settings.refusals_window_s)
        detectors = Detectors(trail, rule, around)
        publisher = Publisher(ledger, trail, shards, outputs, around, marks, detectors)
        comparison = Comparison(
            Reconciler(ledger, trail.stored, shards, topic, publisher.correct),
            trail,
            alarm,
            Pace(settings.compare_rows_per_s_max, settings.compare_interval_s_min),
        )
        follower = Follower(indexer, alarm, announced=announced, grown=grown, poll_s=settings.poll_s)
        rights = RightsReview(
            trail,
            chain.read_on,
            follower,
            RightsPublication(trail, publisher, alarm),
            folder=settings.comparison_folder,
        )
        loops = {
            "rights": rights.run(grown=grown, poll_s=settings.poll_s),
            "indexing": follower.run(),
            "announcements": watch_for_ever(kafka, announced.ring, topic=settings.blocks_topic),
            "shards": follow_shards(kafka, network, shards),
            "keys": watched.follow(lambda: shards.update(watched.shards())),
            "publishing": publisher.run(grown=grown, poll_s=settings.poll_s),
        }
        for name, work in loops.items():
            await stack.enter_async_context(supervisor.running(work, name=name))
        comparing = supervisor.running(comparison.run(), name="comparing", age_s_max=COMPARING_AGE_S_MAX)
        await stack.enter_async_context(comparing)
        checks: dict[str, Check] = {
            "kafka": partial(ping, kafka),
            "topics": partial(require_topics, kafka, topics_of(settings)),
            "signing-key": require_key,
            "database": trail.ping,
            "archive": bucket.require_bucket,
            "ledger": follower.check,
            "damage": follower.damage,
            "trail": comparison.check,
            "rights": rights.check,
            "publication": publisher.check,
            "detectors": detectors.check,
        }
        authenticate = Authenticator(identity, service="audit")
        app = create_app(
            settings,
            title="Salus audit",
            checks=checks,
            away=DATABASE_AWAY,
            supervisor=supervisor,
            admit=authenticate.admit,
        )
        reading = Reading(
            trail=asked, around=around, grown=grown, authenticate=authenticate, ring=lambda: identity.ring
        )
        install_routes(app, reading, comparison, PastKeys(ledger, trail, shards, topic, chain))
        app.add_exception_handler(OutOfReachError, out_of_reach)
        app.add_exception_handler(DamagedTrailError, damaged)
        yield app


async def main(settings: Settings) -> None:
    """Serve until told to stop."""
    set_up(settings)
    await wait_for(settings, "kafka", partial(ping, settings.kafka))
    topics = topics_of(settings)
    await wait_for(settings, "topics", partial(require_topics, settings.kafka, topics))
    await wait_for(settings, "archive", bucket_of(settings).require_bucket)
    async with open_app(settings) as app:
        await serve(app, settings)


if __name__ == "__main__":
    asyncio.run(main(Settings()))
