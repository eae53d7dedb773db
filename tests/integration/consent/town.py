"""A network with a hospital, its people and one patient, for tests of consent on real Kafka."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from tests.asking import NETWORK, UNASKED, truly_asked
from tests.founding import founding, joining, stated
from tests.pseudonyms import patient_of

from salus.client.auth import RequestSigner
from salus.consent.__main__ import SERVICE
from salus.consent.adapters.folded import CONSENT_TOPIC
from salus.consent.settings import Settings
from salus.contracts.service import open_app
from salus.devkit.addresses import Addresses
from salus.devkit.network import NetworkFolder, Plan, create_topics
from salus.events.contexts import CATALOGUE
from salus.events.contexts.identity import KeyRevoked, RoleGranted, RoleWithdrawn
from salus.events.contexts.storage import SubjectErased, SubjectRegistered
from salus.events.did import LocalSigner
from salus.events.envelope import Event, decode_event
from salus.events.fields import RoleName
from salus.messaging import Reader, Record
from salus.runtime.network import Network
from salus.runtime.publishing import open_publisher

PLAN = Plan(origin=NETWORK)
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Town:
    """A network with a hospital, its people and one patient whose record it stewards."""

    parts: Addresses
    network: NetworkFolder
    hospital: LocalSigner
    clinician: LocalSigner
    colleague: LocalSigner
    officer: LocalSigner
    patient: LocalSigner
    researcher: LocalSigner
    reviewer: LocalSigner
    operator: LocalSigner
    pseudonym: str

    def settings(self, database_url: str, **chosen: Any) -> Settings:
        """Return the settings of consent on a database."""
        return Settings(
            kafka_bootstrap=self.parts.kafka_bootstrap,
            network_file=self.network.file,
            signing_key_file=self.network.key_file("consent"),
            database_url=database_url,
            http_port=0,
            **chosen,
        )

    @asynccontextmanager
    async def replica(self, database: str = "a.db", **chosen: Any) -> AsyncIterator[httpx.AsyncClient]:
        settings = self.settings(f"sqlite+aiosqlite:///{self.network.folder / database}", **chosen)
        async with open_app(SERVICE, settings) as app:
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://consent") as client:
                yield client

    def grant(self, **changes: Any) -> dict[str, Any]:
        until = (datetime.now(UTC) + timedelta(days=1)).isoformat()
        body = {"patient": self.pseudonym, "grantee": self.clinician.did, "actions": ["read"]}
        return {**body, "purposes": ["TREAT"], "valid_until": until, **changes}

    def question(self, **changes: Any) -> dict[str, Any]:
        body = {"action": "read", "object": "object-1", "patient": self.pseudonym, "purpose": "TREAT"}
        return {**body, **changes}

    async def ask(self, auth: RequestSigner, client: httpx.AsyncClient) -> dict[str, Any]:
        answer: dict[str, Any] = (await client.post("/decisions", json=self.question(), auth=auth)).json()
        return answer

    async def events(self) -> list[Event]:
        """Return what consent has said about the patient, in order."""
        partitions = Network.read(self.network.file).topic_partitions(CONSENT_TOPIC)
        async with Reader(self.parts.kafka_bootstrap, starts=dict.fromkeys(partitions, 0)) as reader:
            ends, found = await reader.end_offsets(), list[Record]()
            while any([await reader.position(*at) < end for at, end in ends.items()]):
                records = await reader.poll(max_records=500, timeout_ms=100)
                found += [r for r in records if r.key == self.pseudonym.encode() and r.value is not None]
        return [decode_event(record.value, CATALOGUE) for record in found if record.value is not None]

    async def storage_says(self, *facts: SubjectRegistered | SubjectErased) -> None:
        """State facts of a patient, each of whom nothing but a registration was said before."""
        async with open_publisher(self.parts.kafka_bootstrap, self.network.signer("storage")) as publisher:
            for fact in facts:
                asked = truly_asked(fact, self.hospital, at=datetime.now(UTC))
                version = 0 if isinstance(fact, SubjectRegistered) else 1
                await publisher.publish(asked, subject=fact.patient, expected_version=version)

    async def identity_says(self, *facts: RoleGranted | RoleWithdrawn | KeyRevoked) -> None:
        """State what an operator asked identity for, each about a party that nothing was said of before."""
        async with open_publisher(self.parts.kafka_bootstrap, self.network.signer("identity")) as publisher:
            for fact in facts:
                asked = truly_asked(fact, self.operator, at=datetime.now(UTC))
                await publisher.publish(asked, subject=fact.did, expected_version=1)

    async def link(self, client: httpx.AsyncClient) -> None:
        """Let the hospital say which party the patient is."""
        url = f"/patients/{self.pseudonym}/parties"
        linked = await client.post(url, json={"did": self.patient.did}, auth=signing(self.hospital))
        assert linked.status_code == 201


def signing(signer: LocalSigner) -> RequestSigner:
    return RequestSigner(signer, "consent", network=NETWORK)


async def founded_town(parts: Addresses, folder: Path) -> Town:
    """Found a network in a folder, with the town's people, and register the patient."""
    await create_topics(parts.kafka_bootstrap, PLAN)
    network = NetworkFolder(folder)
    network.create(PLAN)
    hospital, clinician, colleague, officer, patient, researcher, reviewer = (
        LocalSigner.from_seed(os.urandom(32)) for _ in range(7)
    )
    pseudonym = patient_of(hospital.did)
    people: tuple[tuple[LocalSigner, RoleName], ...] = (
        (clinician, "clinician"),
        (colleague, "clinician"),
        (officer, "privacy-officer"),
        (patient, "patient"),
        (researcher, "researcher"),
    )
    joined = [
        *founding(network.file),
        joining(hospital, by=network.signer("operator"), kind="member"),
        *(joining(who, by=hospital, roles=(role,), member=hospital.did) for who, role in people),
        joining(reviewer, by=network.signer("operator"), roles=("ethics-reviewer",)),
    ]
    async with open_publisher(parts.kafka_bootstrap, network.signer("identity")) as publisher:
        await stated(publisher, joined)
    operator = network.signer("operator")
    people_known = (hospital, clinician, colleague, officer, patient, researcher, reviewer, operator)
    town = Town(parts, network, *people_known, pseudonym)
    await town.storage_says(
        SubjectRegistered(
            patient=pseudonym, steward=hospital.did, suite="s", key="k", public_key="p", request=UNASKED
        )
    )
    return town
