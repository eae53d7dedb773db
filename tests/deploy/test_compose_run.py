"""docker-compose.yml built, started, stopped and started again. Cases deploy.md, 1 and 2.

Runs where a container engine answers. Where that engine cannot pull images, Kafka and MinIO are made from
what `make parts` has built (deploy/docker/parts), if BASE_IMAGE names an image that the engine has.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from salus.devkit.addresses import S3, Addresses
from salus.devkit.free_ports import HOST, free_ports
from salus.devkit.kafka_server import kafka_classpath
from salus.devkit.minio_server import minio_binary
from salus.devkit.narration import PlainNarrator
from salus.devkit.network import NetworkFolder
from salus.devkit.processes import ProcessRecord
from salus.devkit.run_record import Run as PlatformRun
from salus.devkit.run_record import RunningService, StateFolder
from salus.runtime.manifests import services as manifests

Run = Callable[..., subprocess.CompletedProcess[str]]
pytestmark = [pytest.mark.compose, pytest.mark.timeout(2400)]

ROOT = Path(__file__).parents[2]
PARTS = ROOT / "deploy/docker/parts"
KAFKA_IMAGE = "apache/kafka:4.1.1"
SERVICES = tuple(manifest.name for manifest in manifests())
# Written by hand, apart from the manifests that it is tested against.
GIVEN = {
    "identity": {"identity.pem"},
    "consent": {"consent.pem"},
    "storage": {"storage.pem", "kms", "s3-access-key", "s3-secret-key"},
    "sequencer": {"sequencer.pem", "shard-0.pem", "s3-access-key", "s3-secret-key"},
    "anchoring": {"anchoring.pem", "log.pem", "s3-access-key", "s3-secret-key"},
    "audit": {"audit.pem", "s3-access-key", "s3-secret-key"},
    "witness": {"witness-1.pem"},
}


def docker(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)


def skip(reason: str) -> None:
    """Skip, but fail where somebody insists, as `make compose-test` does."""
    if os.environ.get("SALUS_COMPOSE_TEST") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@dataclass
class Deployment:
    """One compose project with ports and volumes of its own, and the salus command attached to it."""

    compose: Run
    environment: dict[str, str]
    files: list[str]
    folder: Path
    project: str = field(default_factory=lambda: f"salus-test-{uuid4().hex[:8]}")

    def run(self, *arguments: str) -> str:
        command = ("--project-name", self.project, *self.files, *arguments)
        result = self.compose(*command, cwd=ROOT, env=self.environment)
        if result.returncode != 0:
            logs = self.compose(
                "--project-name",
                self.project,
                *self.files,
                *("logs", "--tail", "30"),
                cwd=ROOT,
                env=self.environment,
            )
            pytest.fail(f"compose {arguments[0]}: {result.stderr[-3000:]}\n{logs.stdout[-12000:]}")
        return result.stdout

    def attach(self) -> None:
        """Take the network's folder out of its volume and tell the salus command where everything is."""
        self.run("cp", "setup:/run/salus/.", str(self.folder))
        s3 = S3(
            f"http://{HOST}:{self.environment['MINIO_PORT']}",
            "salus",
            self.environment["SALUS_S3_SECRET_KEY"],
        )
        nothing = ProcessRecord("container", 0, "", "")
        services = {
            name: RunningService(f"http://{HOST}:{self.environment[f'{name.upper()}_PORT']}", nothing)
            for name in SERVICES
        }
        addresses = Addresses(f"{HOST}:{self.environment['KAFKA_PORT']}", s3)
        StateFolder(self.folder).write_run(PlatformRun("given", addresses, detached=True, services=services))

    def salus(self, *arguments: str, **environment: str) -> dict[str, Any]:
        result = subprocess.run(
            [sys.executable, "-m", "salus.cli", *arguments, "--json"],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "SALUS_STATE": str(self.folder), **environment},
        )
        assert result.returncode == 0, result.stdout + result.stderr
        said: dict[str, Any] = json.loads(result.stdout)
        return said

    def publish(self, name: str) -> dict[str, Any]:
        patient = "urn:uuid:00000000-0000-4000-8000-000000000001"
        data = {"patient": patient, "object": name, "media_type": "application/json"}
        files = (
            "--receipt",
            str(self.folder / f"{name}.salus"),
            "--event",
            str(self.folder / f"{name}.json"),
        )
        told = ("--as", "clinic", "--subject", patient, "--data", json.dumps(data))
        return self.salus("publish", "salus.clinical.document-registered.v1", *told, *files)

    def verify(self, name: str) -> None:
        policy = ("--policy", str(self.folder / "network.json"))
        self.salus(
            "verify",
            str(self.folder / f"{name}.salus"),
            *policy,
            "--event",
            str(self.folder / f"{name}.json"),
        )

    def fsck(self) -> dict[str, Any]:
        """Verify everything as an outsider does, with the account that only reads."""
        access, secret = NetworkFolder(self.folder).store_secrets.read("reader")
        return self.salus(
            *("ledger", "fsck", "--network", str(self.folder / "network.json")),
            SALUS_S3_ENDPOINT=f"http://{HOST}:{self.environment['MINIO_PORT']}",
            SALUS_S3_ACCESS_KEY=access,
            SALUS_S3_SECRET_KEY=secret,
        )


async def places_of_parts(environment: dict[str, str]) -> tuple[dict[str, str], list[str]]:
    """Return the settings and files for an engine that cannot pull images."""
    narrator = PlainNarrator()
    folders = {
        "KAFKA_FOLDER": str(Path(await kafka_classpath(narrator)).parent),
        "MINIO_FOLDER": str((await minio_binary(narrator)).parent),
        "DOCKERFILES": str(PARTS),
    }
    files = [str(ROOT / "docker-compose.yml"), str(PARTS / "compose.yml")]
    return {**environment, **folders}, [word for file in files for word in ("--file", file)]


@pytest.fixture
async def deployment(compose: Run, tmp_path: Path) -> AsyncIterator[Deployment]:
    if shutil.which("docker") is None or docker("info").returncode != 0:
        skip("no container engine answers (`docker info`)")
    names = ("KAFKA", "MINIO", *(name.upper() for name in SERVICES))
    ports = {f"{n}_PORT": str(p) for n, p in zip(names, free_ports(len(names)), strict=True)}
    environment = {**os.environ, **ports, "SALUS_S3_SECRET_KEY": uuid4().hex}
    if docker("buildx", "version").returncode != 0:
        environment["DOCKER_BUILDKIT"] = "0"
    files: list[str] = []
    if (
        docker("image", "inspect", KAFKA_IMAGE).returncode != 0
        and docker("pull", KAFKA_IMAGE).returncode != 0
    ):
        base = environment.get("BASE_IMAGE", "")
        if not base or docker("image", "inspect", base).returncode != 0:
            skip("the container engine cannot pull images, and BASE_IMAGE names none that it has")
        environment, files = await places_of_parts(environment)
    made = Deployment(compose, environment, files, tmp_path / "state")
    made.folder.mkdir(mode=0o700)
    try:
        yield made
    finally:
        made.run("down", "--volumes", "--timeout", "60")


def test_what_was_published_is_there_after_down_and_up(deployment: Deployment) -> None:
    deployment.run("up", "--build", "--wait", "--wait-timeout", "900")
    deployment.attach()
    deployment.salus("party", "register", "clinic", "--title", "Riverside Clinic")
    first = deployment.publish("scan-1")
    given = {
        name: set(deployment.run("exec", name, "ls", "/run/salus").split()) - {"network.json"}
        for name in SERVICES
    }

    deployment.run("down", "--timeout", "60")
    left = deployment.run("ps", "--all", "--quiet")
    deployment.run("up", "--wait", "--wait-timeout", "900")
    deployment.verify("scan-1")
    second = deployment.publish("scan-2")
    report = deployment.fsck()

    assert left == ""
    assert (first["topic"], first["partition"]) == (second["topic"], second["partition"])
    assert second["offset"] == first["offset"] + 1
    assert report["findings"] == []
    assert given == GIVEN
