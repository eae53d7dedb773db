"""Wires consent and runs it: `python -m salus.consent`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any

from fastapi import FastAPI

from salus.consent import api, fhir_api
from salus.consent.adapters.cedar import CedarPolicies, read_policies
from salus.consent.adapters.fhir.identifier_marks import IdentifierMarks
from salus.consent.adapters.folded import (
    CONSENT_TOPIC,
    PATIENTS,
    POLICIES,
    STORAGE_TOPIC,
    SUBJECTS,
    FoldedFacts,
)
from salus.consent.adapters.release import contract_digest, policies_folder
from salus.consent.adapters.tokens import DecisionTokens
from salus.consent.domain.state import PolicyState
from salus.consent.handlers import adopt_policies
from salus.consent.ports import World
from salus.consent.settings import Settings
from salus.contracts.contract import Contract, ContractHost
from salus.contracts.facts import FactWriter
from salus.contracts.fold import open_fold_store, open_follower
from salus.contracts.queues import Queues
from salus.messaging import ping, require_topics
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

AUDIENCE = "salus:consent"
TOPICS = (IDENTITY_TOPIC, CONSENT_TOPIC, STORAGE_TOPIC)


def now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)


@asynccontextmanager
async def open_app(settings: Settings) -> AsyncIterator[FastAPI]:
    """Connect everything, adopt the policy set and yield the app; Kafka must be there."""
    network = Network.read(settings.network_file)
    policies = CedarPolicies(read_policies(policies_folder(settings.policies_folder)))
    signer = load_signer(settings.signing_key_file, settings.signing_key_id)
    kafka = settings.kafka_bootstrap
    supervisor = Supervisor()
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_fold_store(settings.database_url))
        ring = await stack.enter_async_context(open_identity_view(kafka, network))
        publisher = await stack.enter_async_context(open_publisher(kafka, signer, idempotent=True))
        partitions = [*network.topic_partitions(CONSENT_TOPIC), *network.topic_partitions(STORAGE_TOPIC)]
        contracts: list[Contract[Any]] = [PATIENTS, POLICIES, SUBJECTS]
        follower = await stack.enter_async_context(
            open_follower(
                kafka,
                store=store,
                identity=ring,
                contracts=contracts,
                partitions=partitions,
                supervisor=supervisor,
            )
        )
        own_key = OwnKey(ring, signer, role="consent")
        writer = FactWriter(publisher, follower, own_key, ring.ring.catalogue)
        patients = ContractHost(PATIENTS, follower=follower, store=store, writer=writer)
        policy_host = ContractHost(POLICIES, follower=follower, store=store, writer=writer)
        version = PolicyState(policy_set=policies.digest, contract=contract_digest())
        await wait_for(settings, "fold", follower.check_rebuilt)
        await wait_for(settings, "signing-key", own_key.check)
        await adopt_policies(version, service=signer.did, host=policy_host)
        world = World(
            patients=patients,
            facts=FoldedFacts(follower, store),
            statements=writer,
            policies=policies,
            tokens=DecisionTokens(signer),
            ring=ring,
            limits=settings.limits(),
            queues=Queues(),
        )
        checks: dict[str, Check] = {
            "kafka": partial(ping, kafka),
            "topics": partial(require_topics, kafka, TOPICS),
            "database": store.ping,
            "fold": follower.check,
            "signing-key": own_key.check,
        }
        authenticate = Authenticator(
            ring,
            audience=AUDIENCE,
            own_key=own_key,
            has_stated=partial(follower.has_stated, topic=CONSENT_TOPIC),
            requests=settings.requests(),
        )
        app = create_app(
            settings,
            title="Salus consent",
            checks=checks,
            away=DATABASE_AWAY,
            supervisor=supervisor,
            admit=authenticate.admit,
        )
        shared = api.Api(world=world, authenticate=authenticate, now=now)
        app.include_router(api.routes(shared))
        fhir_api.install(app, fhir_api.FhirApi(shared, IdentifierMarks(signer)))
        yield app


async def main(settings: Settings) -> None:
    """Serve until told to stop."""
    set_up(settings)
    await wait_for(settings, "kafka", partial(ping, settings.kafka_bootstrap))
    await wait_for(settings, "topics", partial(require_topics, settings.kafka_bootstrap, TOPICS))
    collect_rarely()
    async with open_app(settings) as app:
        await serve(app, settings)


if __name__ == "__main__":
    asyncio.run(main(Settings()))
