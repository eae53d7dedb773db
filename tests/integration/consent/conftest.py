"""The town on real Kafka."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import pytest
from tests.asking import UNASKED
from tests.integration.consent.town import PLAN, Town, registered

from salus.devkit.addresses import Addresses
from salus.devkit.network import NetworkFolder, create_topics
from salus.events.catalogue import (
    SubjectRegistered,
)
from salus.events.did import LocalSigner
from salus.runtime.publishing import open_publisher


@pytest.fixture
async def town(parts: Addresses, tmp_path: Path) -> Town:
    await create_topics(parts.kafka_bootstrap, PLAN)
    network = NetworkFolder(tmp_path)
    network.create(PLAN)
    hospital, clinician, colleague, officer, patient = (
        LocalSigner.from_seed(os.urandom(32)) for _ in range(5)
    )
    pseudonym = f"urn:uuid:{uuid.uuid4()}"
    root = network.signer("identity").did
    joined = [
        registered(root, network.signer("consent"), "service", "consent"),
        registered(root, network.signer("storage"), "service", "storage"),
        registered(root, network.signer("operator"), "person", "operator"),
        registered(root, hospital, "member"),
        registered(root, clinician, "person", "clinician", hospital.did),
        registered(root, colleague, "person", "clinician", hospital.did),
        registered(root, officer, "person", "privacy-officer", hospital.did),
        registered(root, patient, "person", "patient", hospital.did),
    ]
    async with open_publisher(parts.kafka_bootstrap, network.signer("identity")) as publisher:
        for fact in joined:
            await publisher.publish(fact, subject=fact.did, expected_version=0)
    operator = network.signer("operator")
    town = Town(parts, network, hospital, clinician, colleague, officer, patient, operator, pseudonym)
    await town.storage_says(
        SubjectRegistered(
            patient=pseudonym, steward=hospital.did, suite="s", key="k", public_key="p", request=UNASKED
        )
    )
    return town
