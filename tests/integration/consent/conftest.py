"""The town on real Kafka."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.asking import UNASKED
from tests.founding import founding, joining, stated
from tests.integration.consent.town import PLAN, Town
from tests.pseudonyms import patient_of

from salus.devkit.addresses import Addresses
from salus.devkit.network import NetworkFolder, create_topics
from salus.events.contexts.storage import SubjectRegistered
from salus.events.did import LocalSigner
from salus.events.fields import RoleName
from salus.runtime.publishing import open_publisher


@pytest.fixture
async def town(parts: Addresses, tmp_path: Path) -> Town:
    await create_topics(parts.kafka_bootstrap, PLAN)
    network = NetworkFolder(tmp_path)
    network.create(PLAN)
    hospital, clinician, colleague, officer, patient = (
        LocalSigner.from_seed(os.urandom(32)) for _ in range(5)
    )
    pseudonym = patient_of(hospital.did)
    people: tuple[tuple[LocalSigner, RoleName], ...] = (
        (clinician, "clinician"),
        (colleague, "clinician"),
        (officer, "privacy-officer"),
        (patient, "patient"),
    )
    joined = [
        *founding(network.file),
        joining(hospital, by=network.signer("operator"), kind="member"),
        *(joining(who, by=hospital, roles=(role,), member=hospital.did) for who, role in people),
    ]
    async with open_publisher(parts.kafka_bootstrap, network.signer("identity")) as publisher:
        await stated(publisher, joined)
    operator = network.signer("operator")
    town = Town(parts, network, hospital, clinician, colleague, officer, patient, operator, pseudonym)
    await town.storage_says(
        SubjectRegistered(
            patient=pseudonym, steward=hospital.did, suite="s", key="k", public_key="p", request=UNASKED
        )
    )
    return town
