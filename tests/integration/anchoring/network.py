"""A network with buckets of its own, blocks sealed into it, and anchoring as processes."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from tests.founding import founding, stated

from salus.archive.building import ChainBuilder
from salus.archive.fsck import StoreAddress
from salus.archive.trust import Trust
from salus.crypto.keys import load_ed25519
from salus.devkit.addresses import Addresses
from salus.devkit.free_ports import free_ports
from salus.devkit.network import NetworkFolder, Plan, create_topics
from salus.devkit.waiting import until
from salus.events.contexts.ledger import BlockSealed
from salus.events.did import LocalSigner
from salus.ledger.block import body_key, header_key
from salus.ledger.note import NoteSigner
from salus.ledger.policy import Policy
from salus.objects import Admin
from salus.runtime.network import Network
from salus.runtime.publishing import open_publisher

DEADLINE_S = 180


@dataclass
class AnchoringProcess:
    """One `python -m salus.anchoring`."""

    process: asyncio.subprocess.Process
    url: str
    log: Path

    async def get(self, path: str, **more: Any) -> httpx.Response:
        async with httpx.AsyncClient(trust_env=False) as client:
            return await client.get(self.url + path, timeout=60, **more)

    async def is_ready(self) -> bool:
        try:
            return (await self.get("/readyz")).is_success
        except httpx.TransportError:
            return False

    async def check(self, part: str) -> str:
        """Return what readiness says of one of its parts; nothing while it does not serve."""
        try:
            checks: dict[str, str] = (await self.get("/readyz")).json()["checks"]
        except httpx.TransportError:
            return ""
        return checks[part]

    async def state(self) -> str:
        """Return what it says of itself, for the message of a test that waited in vain."""
        try:
            says = (await self.get("/readyz")).text
        except httpx.TransportError as error:
            says = repr(error)
        return f"{says}\n{self.log.read_text()[-4000:]}"

    async def size(self) -> int:
        try:
            answer = await self.get("/status")
        except httpx.TransportError:
            return -1
        return int(answer.json()["size"]) if answer.is_success else -1

    async def reaches(self, size: int) -> bool:
        async def reached() -> bool:
            return await self.size() == size

        return await until(reached, deadline_s=DEADLINE_S)

    async def kill(self) -> None:
        """End it as a power cut does."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGKILL)
        await self.process.wait()

    async def stop(self) -> int:
        """End it as an orchestrator does, and return its exit code."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        return await self.process.wait()


@dataclass
class WitnessProcess:
    """One `python -m salus.witness`, at the same address each time it is started."""

    name: str
    url: str
    environment: dict[str, str]
    process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "salus.witness", env=os.environ | self.environment
        )

        async def is_ready() -> bool:
            async with httpx.AsyncClient(trust_env=False) as client:
                try:
                    return (await client.get(f"{self.url}/readyz")).is_success
                except httpx.TransportError:
                    return False

        assert await until(is_ready, deadline_s=DEADLINE_S)

    async def kill(self) -> None:
        """End it as a power cut does."""
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(signal.SIGKILL)
            await self.process.wait()


@dataclass
class AnchoredNetwork:
    """One shard and one log on the shared parts; blocks are sealed by the test itself."""

    parts: Addresses
    folder: NetworkFolder
    name: str = field(default_factory=lambda: secrets.token_hex(4))
    started: list[AnchoringProcess] = field(default_factory=list)
    witnesses: list[WitnessProcess] = field(default_factory=list)
    witnesses_planned: int = 0

    async def create(self) -> None:
        self.folder.create(Plan(origin=f"salus.test/{self.name}", witnesses=self.witnesses_planned))
        s3 = self.parts.s3
        admin = Admin(s3.endpoint, s3.access_key, s3.secret_key, s3.region)
        await create_topics(self.parts.kafka_bootstrap, Plan())
        async with open_publisher(self.parts.kafka_bootstrap, self.folder.signer("identity")) as publisher:
            await stated(publisher, founding(self.folder.file))
        for bucket in (self.address.ledger_bucket, self.address.log_bucket):
            await admin.ensure_bucket(bucket)
        (shard,) = Network.read(self.folder.file).shards
        signer = NoteSigner(shard.origin, load_ed25519(self.folder.key_file("shard-0")))
        self.chain = ChainBuilder(
            self.address.open().ledger, signer, LocalSigner.from_seed(bytes(31) + b"\x07")
        )
        self.chain.cover((topic, number) for topic, numbers in shard.topics.items() for number in numbers)

    @property
    def address(self) -> StoreAddress:
        s3 = self.parts.s3
        return StoreAddress(
            endpoint=s3.endpoint,
            access_key=s3.access_key,
            secret_key=s3.secret_key,
            region=s3.region,
            ledger_bucket=f"ledger-{self.name}",
            log_bucket=f"log-{self.name}",
        )

    @property
    def policy(self) -> Policy:
        return Policy.from_network(self.folder.file.read_bytes())

    @property
    def trust(self) -> Trust:
        return Trust.from_network(self.folder.file.read_bytes())

    async def start_witness(self) -> WitnessProcess:
        """Start the next witness."""
        number = len(self.witnesses) + 1
        (port,) = free_ports(1)
        name = Plan(f"salus.test/{self.name}").witness_name(number)
        environment = {
            "SALUS_WITNESS_NAME": name,
            "SALUS_NOTE_KEY_FILE": str(self.folder.key_file(f"witness-{number}")),
            "SALUS_LOGS_FILE": str(self.folder.file),
            "SALUS_STATE_FILE": str(self.folder.folder / f"witness-{number}.db"),
            "SALUS_CREATE_STATE": "true",
            "SALUS_HTTP_PORT": str(port),
        }
        witness = WitnessProcess(name, f"http://127.0.0.1:{port}", environment)
        self.witnesses.append(witness)
        await witness.start()
        return witness

    async def announce_last_block(self) -> None:
        """Announce the last sealed block as the sequencer does."""
        header = self.chain.headers[-1]
        data = BlockSealed(
            shard=0,
            height=header.height,
            header=header_key(0, header.height),
            body=body_key(0, header.height, header.root),
            leaves=header.leaves,
            accepted=header.accepted,
        )
        async with open_publisher(self.parts.kafka_bootstrap, self.folder.signer("sequencer")) as publisher:
            await publisher.publish(data, subject=header.origin)

    async def start(self, **settings: str) -> AnchoringProcess:
        """Start one more process."""
        (port,) = free_ports(1)
        address = self.address
        environment = {
            "SALUS_KAFKA_BOOTSTRAP": self.parts.kafka_bootstrap,
            "SALUS_S3_ENDPOINT": address.endpoint,
            "SALUS_S3_ACCESS_KEY": address.access_key,
            "SALUS_S3_SECRET_KEY": address.secret_key,
            "SALUS_LEDGER_BUCKET": address.ledger_bucket,
            "SALUS_LOG_BUCKET": address.log_bucket,
            "SALUS_NETWORK_FILE": str(self.folder.file),
            "SALUS_SIGNING_KEY_FILE": str(self.folder.key_file("anchoring")),
            "SALUS_NOTE_KEY_FILE": str(self.folder.key_file("log")),
            "SALUS_HTTP_PORT": str(port),
            "SALUS_POLL_INTERVAL_MS_MAX": "200",
            "SALUS_WITNESSES": json.dumps({witness.name: witness.url for witness in self.witnesses}),
        }
        log = self.folder.folder / f"anchoring-{len(self.started)}.log"
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "salus.anchoring",
                env=os.environ | environment | settings,
                stdout=output,
                stderr=output,
            )
        started = AnchoringProcess(process, f"http://127.0.0.1:{port}", log)
        self.started.append(started)
        return started

    async def start_ready(self, **settings: str) -> AnchoringProcess:
        started = await self.start(**settings)
        assert await until(started.is_ready, deadline_s=DEADLINE_S), await started.state()
        return started
