"""A network of its own, with storage as an app in this process and real Kafka and MinIO behind it."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import httpx
import jwt
import pytest
from tests.asking import NETWORK, UNASKED, truly_asked
from tests.founding import founding, joining, stated
from tests.integration.openbao import OpenBao, running_openbao

from salus.client.auth import RequestSigner
from salus.client.pseudonyms import new_nonce
from salus.contracts.service import open_app
from salus.crypto.keys import load_ed25519
from salus.devkit.addresses import Addresses
from salus.devkit.network import NetworkFolder, Plan, create_topics
from salus.events.bearer import audience_of
from salus.events.contexts import CATALOGUE
from salus.events.contexts.consent import ConsentRevoked
from salus.events.contexts.identity import PartyKind
from salus.events.did import LocalSigner
from salus.events.envelope import decode_event
from salus.events.event_types import EventData
from salus.events.fields import RoleName
from salus.messaging import Reader, Record
from salus.objects import Admin, S3Objects, open_store
from salus.runtime.publishing import ServicePublisher, open_publisher
from salus.storage.__main__ import SERVICE
from salus.storage.settings import Settings

VALID_FROM = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Person:
    """Someone with a key."""

    signer: LocalSigner
    patient: str = ""
    roles: tuple[RoleName, ...] = ()

    @property
    def did(self) -> str:
        return self.signer.did

    def signing(self, *, stream: bool = False) -> RequestSigner:
        return RequestSigner(self.signer, "storage", network=NETWORK, stream=stream)


@dataclass
class World:
    """A hospital, its doctor and its privacy officer, a laboratory, and storage."""

    folder: NetworkFolder
    settings: Settings
    stack: AsyncExitStack
    identity: ServicePublisher
    consent: ServicePublisher
    parts: Addresses
    client: httpx.AsyncClient
    people: dict[str, Person] = field(default_factory=dict)
    revocations: Counter[str] = field(default_factory=Counter)

    async def start(self, **changes: object) -> None:
        """Start storage, with some settings changed."""
        self.settings = self.settings.model_copy(update=changes)
        app = await self.stack.enter_async_context(open_app(SERVICE, self.settings))
        transport = httpx.ASGITransport(app=app)
        self.client = await self.stack.enter_async_context(
            httpx.AsyncClient(transport=transport, base_url="http://storage")
        )

    async def stop(self) -> None:
        """Stop storage; only the database, the topics and the buckets stay."""
        await self.stack.aclose()
        self.stack = AsyncExitStack()

    async def join(
        self,
        name: str,
        *,
        kind: PartyKind = "person",
        member: str | None = None,
        roles: tuple[RoleName, ...] = (),
    ) -> Person:
        """Register a party."""
        signer = LocalSigner.from_seed(uuid4().bytes + uuid4().bytes)
        by = self.people[member].signer if member else self.folder.signer("operator")
        did = self.people[member].did if member else None
        party = joining(signer, by=by, kind=kind, roles=roles, member=did)
        await stated(self.identity, [party])
        self.people[name] = Person(signer, roles=roles)
        return self.people[name]

    def token(self, **claims: object) -> str:
        """Return a decision token as consent makes it."""
        now = int(datetime.now(UTC).timestamp())
        signer = self.folder.signer("consent")
        held = {person.did: person.roles for person in self.people.values()}
        full = {
            "iss": signer.did,
            "aud": audience_of("storage", NETWORK),
            "jti": str(uuid4()),
            "act": "read",
            "pur": "TREAT",
            "epoch": 0,
            "bg": False,
            "roles": held.get(str(claims.get("sub")), ()),
            "iat": now,
            "exp": now + 60,
            **claims,
        }
        key = load_ed25519(self.folder.key_file("consent"))
        return jwt.encode(
            full,
            key,
            algorithm="EdDSA",
            headers={"kid": signer.verification_method, "typ": "salus-decision+jwt"},
        )

    async def revoke(self, patient: str, *, epoch: int) -> None:
        """Let the patient revoke a consent."""
        revoked = ConsentRevoked(consent="c-1", patient=patient, epoch=epoch, request=UNASKED)
        asked = truly_asked(revoked, self.people["hospital"].signer, at=datetime.now(UTC))
        await self.consent.publish(asked, subject=patient, expected_version=self.revocations[patient])
        self.revocations[patient] += 1

    async def patient(self) -> str:
        """Register a patient of the hospital."""
        hospital = self.people["hospital"]
        answer = await self.client.post(
            "/subjects", json={"nonce": new_nonce(), "steward": hospital.did}, auth=hospital.signing()
        )
        assert answer.status_code == 201, answer.text
        return str(answer.json()["patient"])

    async def store(self, patient: str, content: bytes, *, name: str | None = None) -> str:
        """Store an object of the hospital."""
        name = name or str(uuid4())
        answer = await self.client.put(
            f"/objects/{name}",
            params={"patient": patient},
            content=content,
            headers={"Content-Type": "application/fhir+json"},
            auth=self.people["hospital"].signing(),
        )
        assert answer.status_code == 201, answer.text
        return name

    async def read(
        self, name: str, patient: str, *, headers: Mapping[str, str] | None = None, **claims: object
    ) -> httpx.Response:
        """Read as the doctor, with a decision of these claims."""
        doctor = self.people["doctor"]
        token = self.token(**{"sub": doctor.did, "obj": name, "pat": patient, **claims})
        return await self.client.get(
            f"/objects/{name}",
            params={"patient": patient},
            headers={"Salus-Decision": token, **(headers or {})},
            auth=doctor.signing(),
        )

    def bucket(self, name: str) -> S3Objects:
        """Open a bucket as the operator of the object store could."""
        s3 = self.parts.s3
        return open_store(
            endpoint=s3.endpoint,
            access_key=s3.access_key,
            secret_key=s3.secret_key,
            region=s3.region,
            bucket=name,
        )

    async def told(self, patient: str) -> list[EventData]:
        """Return the data of every event on the storage topic about a patient."""
        async with Reader(self.parts.kafka_bootstrap, starts={("salus.storage.events", 0): 0}) as reader:
            end = (await reader.end_offsets())[("salus.storage.events", 0)]
            records: list[Record] = []
            while await reader.position("salus.storage.events", 0) < end:
                records += await reader.poll(max_records=500, timeout_ms=500)
        return [
            decode_event(r.value, CATALOGUE).data for r in records if r.key == patient.encode() and r.value
        ]


@pytest.fixture
async def world(parts: Addresses, tmp_path: Path) -> AsyncIterator[World]:
    """A fresh network with storage running."""
    folder = NetworkFolder(tmp_path)
    folder.create(Plan(origin=NETWORK))
    await create_topics(parts.kafka_bootstrap, Plan())
    unique = uuid4().hex[:12]
    settings = Settings(
        kafka_bootstrap=parts.kafka_bootstrap,
        network_file=folder.file,
        signing_key_file=folder.key_file("storage"),
        http_port=0,
        database_url=f"sqlite+aiosqlite:///{tmp_path / 'state.db'}",
        s3_endpoint=parts.s3.endpoint,
        s3_access_key=parts.s3.access_key,
        s3_secret_key=parts.s3.secret_key,
        s3_region=parts.s3.region,
        objects_bucket=f"objects-{unique}",
        keys_bucket=f"keys-{unique}",
    )
    s3 = parts.s3
    admin = Admin(s3.endpoint, s3.access_key, s3.secret_key, s3.region)
    for bucket in (settings.objects_bucket, settings.keys_bucket):
        await admin.ensure_bucket(bucket)
    async with AsyncExitStack() as stack:
        identity = await stack.enter_async_context(
            open_publisher(parts.kafka_bootstrap, folder.signer("identity"))
        )
        consent = await stack.enter_async_context(
            open_publisher(parts.kafka_bootstrap, folder.signer("consent"))
        )
        client = await stack.enter_async_context(httpx.AsyncClient())
        world = World(folder, settings, AsyncExitStack(), identity, consent, parts, client)
        await stated(identity, founding(folder.file))
        await world.join("hospital", kind="member")
        await world.join("laboratory", kind="member")
        await world.join("doctor", member="hospital", roles=("clinician",))
        await world.join("officer", member="hospital", roles=("privacy-officer",))
        await world.start()
        try:
            yield world
        finally:
            await world.stop()


@pytest.fixture(scope="session")
async def openbao(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[OpenBao]:
    """A real OpenBao for the whole run; each test has a key of its own there."""
    async with running_openbao(tmp_path_factory.mktemp("openbao")) as server:
        yield server
