"""Wires storage and runs it: `python -m salus.storage`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from functools import partial

import structlog
from fastapi import FastAPI

from salus.contracts.contract import ContractHost
from salus.contracts.facts import FactWriter
from salus.contracts.fold import open_fold_store, open_follower
from salus.crypto.errors import KmsExistsError
from salus.crypto.kms import FileKms
from salus.messaging import MessagingError, ping, require_topics
from salus.objects import ObjectsError, ObjectStore, S3Objects, open_store, probe
from salus.runtime.auth import Authenticator
from salus.runtime.database import DATABASE_AWAY
from salus.runtime.garbage import collect_rarely
from salus.runtime.identity_view import IDENTITY_TOPIC, open_identity_view
from salus.runtime.keys import load_signer
from salus.runtime.network import Network
from salus.runtime.own_key import OwnKey
from salus.runtime.publishing import open_publisher
from salus.runtime.service import Check, create_app, serve, wait_for
from salus.runtime.supervisor import AGE_S_MAX, Supervisor, failed, succeeded
from salus.runtime.telemetry import set_up
from salus.storage.adapters.decision_tokens import AUDIENCE, DecisionTokens
from salus.storage.adapters.facts import (
    CONSENT_TOPIC,
    EPOCHS,
    OBJECTS,
    STORAGE_TOPIC,
    SUBJECTS,
    FoldedFacts,
)
from salus.storage.adapters.problems import install
from salus.storage.adapters.vault import BucketVault, holds_keys
from salus.storage.api import OBJECTS_PATH, Desk, routes
from salus.storage.handlers.reading import Reading
from salus.storage.handlers.refusals import Refusals
from salus.storage.handlers.sealed_reading import SealedReading
from salus.storage.handlers.standing import Standing
from salus.storage.handlers.storing import Storing
from salus.storage.handlers.subjects import Subjects
from salus.storage.settings import Settings

TOPICS = (IDENTITY_TOPIC, STORAGE_TOPIC, CONSENT_TOPIC)

_log = structlog.get_logger()


def now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)


@asynccontextmanager
async def open_app(settings: Settings) -> AsyncIterator[FastAPI]:
    """Connect everything, finish erasures that a crash interrupted, and yield the app."""
    network = Network.read(settings.network_file)
    kafka = settings.kafka_bootstrap
    objects, keys = await open_buckets(settings)
    vault = BucketVault(keys, await open_kms(settings, keys))
    supervisor = Supervisor()
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_fold_store(settings.database_url))
        ring = await stack.enter_async_context(open_identity_view(kafka, network))
        signer = load_signer(settings.signing_key_file, settings.signing_key_id)
        publisher = await stack.enter_async_context(open_publisher(kafka, signer, idempotent=True))
        follower = await stack.enter_async_context(
            open_follower(
                kafka,
                store=store,
                identity=ring,
                contracts=[SUBJECTS, OBJECTS, EPOCHS],
                partitions=[
                    *network.topic_partitions(STORAGE_TOPIC),
                    *network.topic_partitions(CONSENT_TOPIC),
                ],
                supervisor=supervisor,
            )
        )
        own_key = OwnKey(ring, signer, role="storage")
        writer = FactWriter(publisher, follower, own_key, ring.ring.catalogue)
        facts = FoldedFacts(
            follower, store, writer, ContractHost(SUBJECTS, follower=follower, store=store, writer=writer)
        )
        decisions, standing = DecisionTokens(ring), Standing(facts, ring, now)
        subjects = Subjects(facts, facts, vault, standing)
        await wait_for(settings, "fold", follower.check_rebuilt)
        await stack.enter_async_context(
            supervisor.running(
                shred_forever(subjects, settings.shred_interval_s),
                name="shredding",
                age_s_max=settings.shred_interval_s + AGE_S_MAX,
            )
        )
        refusals = Refusals(facts, settings.refusals())
        checks: dict[str, Check] = {
            "kafka": partial(ping, kafka),
            "topics": partial(require_topics, kafka, TOPICS),
            "database": store.ping,
            "fold": follower.check,
            "signing-key": own_key.check,
            "objects": objects.require_bucket,
            "keys": keys.require_bucket,
        }
        authenticate = Authenticator(
            ring,
            audience=AUDIENCE,
            own_key=own_key,
            has_stated=partial(follower.has_stated, topic=STORAGE_TOPIC),
            requests=settings.requests(),
        )
        app = create_app(
            settings,
            title="Salus storage",
            checks=checks,
            away=DATABASE_AWAY,
            streams=(OBJECTS_PATH,),
            supervisor=supervisor,
            admit=authenticate.admit,
        )
        install(app)
        desk = Desk(
            subjects=subjects,
            storing=Storing(
                facts,
                facts,
                objects,
                vault,
                decisions,
                settings.object_bytes_max,
                standing,
                settings.recheck_s,
            ),
            reading=Reading(facts, facts, objects, vault, decisions, standing, settings.recheck_s, refusals),
            sealed=SealedReading(facts, facts, vault, decisions, refusals, ring.ring.catalogue),
            authenticate=authenticate,
            limits=settings.limits(),
            verifications=settings.verifications(),
            registrations=settings.registrations(),
            now=now,
        )
        app.include_router(routes(desk))
        yield app


async def open_kms(settings: Settings, keys: ObjectStore) -> FileKms:
    """Open the KMS file, or make it while there is no key yet that another one could have wrapped."""
    passphrase = settings.kms_passphrase.get_secret_value() if settings.kms_passphrase else None
    if settings.kms_path.exists() or await holds_keys(keys):
        return await FileKms.open(settings.kms_path, passphrase)
    try:
        kms = await FileKms.create(settings.kms_path, passphrase)
    except KmsExistsError:
        # Another replica was quicker.
        return await FileKms.open(settings.kms_path, passphrase)
    _log.info("made a new KMS file", path=str(settings.kms_path))
    return kms


async def shred_forever(subjects: Subjects, interval_s: float) -> None:
    """Finish unfinished erasures, now and every `interval_s` seconds."""
    while True:
        try:
            await subjects.shred()
            succeeded()
        except (ObjectsError, MessagingError) as error:
            failed(type(error).__name__)
            _log.warning("erasures wait", error=f"{type(error).__name__}: {error}")
        await asyncio.sleep(interval_s)


async def open_buckets(settings: Settings) -> tuple[S3Objects, S3Objects]:
    """Return the buckets of objects and of keys; raises ObjectsError unless both are there and fit."""
    objects = await _bucket(settings, settings.objects_bucket)
    return objects, await _bucket(settings, settings.keys_bucket)


async def _bucket(settings: Settings, name: str) -> S3Objects:
    store = open_store(
        endpoint=settings.s3_endpoint,
        access_key=settings.s3_access_key,
        secret_key=settings.s3_secret_key.get_secret_value(),
        region=settings.s3_region,
        bucket=name,
    )
    await store.require_bucket()
    await probe(store)
    return store


async def _require_buckets(settings: Settings) -> None:
    await open_buckets(settings)


async def main(settings: Settings) -> None:
    """Serve until told to stop."""
    set_up(settings)
    await wait_for(settings, "kafka", partial(ping, settings.kafka_bootstrap))
    await wait_for(settings, "topics", partial(require_topics, settings.kafka_bootstrap, TOPICS))
    await wait_for(settings, "object store", partial(_require_buckets, settings))
    collect_rarely()
    async with open_app(settings) as app:
        await serve(app, settings)


if __name__ == "__main__":
    asyncio.run(main(Settings()))
