"""Services before and after the bootstrap. Case deploy.md, blocker 4: never ready."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from salus.devkit.addresses import Addresses
from salus.devkit.free_ports import HOST, free_ports
from salus.devkit.kafka_server import KafkaServer
from salus.devkit.narration import PlainNarrator
from salus.devkit.network import NetworkFolder, Plan, output_topics
from salus.devkit.processes import Place, is_alive, stop
from salus.devkit.run_record import RunningService
from salus.devkit.services import Surroundings, instances, readiness, start_service, wait_until_ready
from salus.devkit.store_accounts import bucket_names
from salus.devkit.waiting import until
from salus.events.contexts import CATALOGUE
from salus.messaging import partitions_of, topic_settings
from salus.runtime.manifests import Manifest, Role, services

WAIT_S_MAX = 60.0


@dataclass
class Installation:
    """A Kafka of its own and buckets of its own, both empty, and the services on them."""

    addresses: Addresses
    network: NetworkFolder
    folder: Path
    run: str = field(default_factory=lambda: uuid4().hex[:8])
    services: dict[str, RunningService] = field(default_factory=dict)

    @property
    def buckets(self) -> dict[str, str]:
        return {f"SALUS_{bucket.upper()}_BUCKET": f"{bucket}-{self.run}" for bucket in bucket_names()}

    def start(self) -> None:
        known = instances(1)
        ports = free_ports(len(known))
        urls = {name: f"http://{HOST}:{port}" for name, port in zip(known, ports, strict=True)}
        around = Surroundings(self.network, self.addresses, urls, self.buckets, own_accounts=True)
        for name, instance in known.items():
            place = Place(self.folder / name, self.folder / "logs", detached=False)
            self.services[name] = start_service(instance, around, place)

    async def checks(self, name: str) -> dict[str, str]:
        async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
            answer = await client.get(f"{self.services[name].url}/readyz")
        checks: dict[str, str] = answer.json()["checks"]
        return checks

    async def says(self, name: str, *words: str) -> bool:
        if not is_alive(self.services[name].process):
            return False
        try:
            told = json.dumps(await self.checks(name))
        except httpx.TransportError:
            return False
        return all(word in told for word in words)

    async def bootstrap(self) -> str:
        s3 = self.addresses.s3
        environment = {
            **os.environ,
            **self.buckets,
            "SALUS_KAFKA_BOOTSTRAP": self.addresses.kafka_bootstrap,
            "SALUS_S3_ENDPOINT": s3.endpoint,
            "SALUS_S3_ACCESS_KEY": s3.access_key,
            "SALUS_S3_SECRET_KEY": s3.secret_key,
        }
        command = ["network", "bootstrap", "--network", str(self.network.file), "--accounts"]
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "salus.cli",
            *command,
            str(self.network.store_secrets.folder),
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await process.communicate()
        assert process.returncode == 0, said.decode()
        return said.decode()


@pytest.fixture
async def empty(parts: Addresses, tmp_path: Path) -> AsyncIterator[Installation]:
    kafka = KafkaServer(Place(tmp_path / "kafka", tmp_path / "logs", detached=False), PlainNarrator())
    await kafka.start()
    network = NetworkFolder(tmp_path / "network")
    network.create(Plan(origin=f"salus.test/{uuid4().hex[:8]}", wide_partitions=3))
    made = Installation(Addresses(kafka.bootstrap, parts.s3), network, tmp_path)
    try:
        yield made
    finally:
        for service in made.services.values():
            await stop(service.process)
        await kafka.stop()


TOPIC = re.compile(r"salus\.[a-z]+\.[a-z]+")


def topics_of(manifest: Manifest) -> set[str]:
    """Return the topics that a service's manifest names, of those that the network has."""
    known = {*CATALOGUE.input_topics(), *output_topics()}
    patterns = (*manifest.topics.owns, *manifest.topics.writes, *manifest.topics.reads)
    return {topic for topic in known if any(fnmatchcase(topic, pattern) for pattern in patterns)}


async def test_services_name_what_is_missing_and_are_ready_once_the_bootstrap_has_run(
    empty: Installation,
) -> None:
    """Issue 13: what a manifest says of topics and buckets is what the service asks for."""
    empty.start()
    parties = [manifest for manifest in services() if manifest.is_party]
    for manifest in parties:
        name = manifest.name
        words = ("there is no topic", *(["bucket"] if manifest.role is Role.LEDGER else []))

        async def told(name: str = name, words: tuple[str, ...] = words) -> bool:
            return await empty.says(name, *words)

        assert await until(told, deadline_s=WAIT_S_MAX), (name, await empty.checks(name))
        assert not (await readiness(empty.services[name]))[0]
        assert set(TOPIC.findall((await empty.checks(name))["topics"])) == topics_of(manifest), name
    said = [await empty.bootstrap(), await empty.bootstrap()]
    await wait_until_ready(empty.services)

    kafka = empty.addresses.kafka_bootstrap
    wide = await partitions_of(kafka, ["salus.clinical.events", "salus.consent.events", "salus.audit.ocsf"])
    stamps = await topic_settings(kafka, wide, "message.timestamp.type")
    assert all("are there" in text for text in said)
    assert wide == {
        "salus.clinical.events": [0, 1, 2],
        "salus.consent.events": [0],
        "salus.audit.ocsf": [0],
    }
    assert set(stamps.values()) == {"LogAppendTime"}
