"""The parts as containers: `kafka` and `minio` of docker-compose.yml, under a project name of their own."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
from pathlib import Path

from salus.devkit.addresses import REGION, S3, Addresses, Kind, Parts, port_of
from salus.devkit.errors import DevkitError, MissingToolError, StartError
from salus.devkit.free_ports import HOST, free_ports
from salus.devkit.minio_server import is_ready
from salus.devkit.narration import Narrator
from salus.devkit.processes import Place, ProcessRecord
from salus.devkit.tools import run_tool
from salus.devkit.waiting import until
from salus.messaging import MessagingError, ping

# An image may have to be pulled and MinIO built; a second start takes seconds.
UP_S_MAX = 900.0
READY_S_MAX = 60.0
COMPOSE_FILE = "docker-compose.yml"


def find_compose_file(start: Path) -> Path | None:
    """Return the checkout's docker-compose.yml, looking upwards from `start`."""
    for folder in (start, *start.parents):
        if (folder / COMPOSE_FILE).is_file() and (folder / "libs" / "devkit").is_dir():
            return folder / COMPOSE_FILE
    return None


class EngineParts:
    """Containers whose data is in volumes of the project.

    When the engine cannot provide them (no registry in reach, say) and there is a fallback, the fallback
    takes their place, and says so.
    """

    def __init__(self, place: Place, narrator: Narrator, *, fallback: Parts | None) -> None:
        self._detached = place.detached
        self._narrator = narrator
        self._fallback = fallback
        self._in_use: Parts | None = None
        self._environment: dict[str, str] = {}
        digest = hashlib.sha256(str(place.folder.resolve()).encode()).hexdigest()
        self._project = f"salus-{digest[:12]}"

    @property
    def kind(self) -> Kind:
        """Which parts are in use after all."""
        return "engine" if self._in_use is None else self._in_use.kind

    async def start(self, previous: Addresses | None) -> Addresses:
        """Start the containers and wait until both are healthy."""
        addresses = self._choose(previous)
        try:
            self._narrator.step("starting Kafka and MinIO as containers")
            await self._compose("up", "--detach", "--wait", "kafka", "minio")
            await self._until_ready(addresses)
        except DevkitError as error:
            if self._fallback is None:
                raise
            self._narrator.step(
                f"the container engine does not provide them, so local processes do ({error})"
            )
            # What came up before the failure would otherwise stay for ever.
            with contextlib.suppress(DevkitError):
                await self._compose("down", "--volumes")
            self._in_use = self._fallback
            return await self._fallback.start(previous)
        return addresses

    def adopt(self, addresses: Addresses) -> None:
        """Take over containers that another invocation started."""
        self._environment = {
            "KAFKA_PORT": addresses.kafka_bootstrap.rpartition(":")[2],
            "MINIO_PORT": addresses.s3.endpoint.rpartition(":")[2],
            "SALUS_S3_ACCESS_KEY": addresses.s3.access_key,
            "SALUS_S3_SECRET_KEY": addresses.s3.secret_key,
        }

    async def stop(self) -> None:
        """Stop the containers; a detached platform's volumes stay, those of a test or demo go."""
        if self._in_use is not None:
            await self._in_use.stop()
        elif self._environment:
            await self._compose("down", *([] if self._detached else ["--volumes"]))

    async def restart_kafka(self) -> None:
        """Restart the broker's container."""
        if self._in_use is not None:
            await self._in_use.restart_kafka()
        else:
            await self._compose("restart", "kafka")
            await self._compose("up", "--detach", "--wait", "kafka")

    def processes(self) -> list[ProcessRecord]:
        """Return the fallback's processes: containers are the engine's to keep."""
        return [] if self._in_use is None else self._in_use.processes()

    def _choose(self, previous: Addresses | None) -> Addresses:
        wanted = (
            () if previous is None else (*port_of(previous.kafka_bootstrap), *port_of(previous.s3.endpoint))
        )
        kafka_port, s3_port = free_ports(2, preferred=wanted)
        s3 = S3(
            endpoint=f"http://{HOST}:{s3_port}",
            access_key=previous.s3.access_key if previous else f"salus-{secrets.token_hex(4)}",
            secret_key=previous.s3.secret_key if previous else secrets.token_urlsafe(24),
            region=REGION,
        )
        addresses = Addresses(f"{HOST}:{kafka_port}", s3)
        self.adopt(addresses)
        return addresses

    async def _until_ready(self, addresses: Addresses) -> None:
        async def ready() -> bool:
            try:
                await ping(addresses.kafka_bootstrap)
            except MessagingError:
                return False
            return await is_ready(addresses.s3.endpoint)

        if not await until(ready, deadline_s=READY_S_MAX):
            raise StartError("the container engine", f"gives no Kafka and MinIO within {READY_S_MAX:.0f} s")

    async def _compose(self, *arguments: str) -> str:
        file = find_compose_file(Path(__file__))
        if file is None:
            raise MissingToolError(f"there is no {COMPOSE_FILE} above {Path(__file__).parent}")
        command = ["docker", "compose", "--file", str(file), "--project-name", self._project, *arguments]
        return await run_tool(
            "docker compose", command, self._narrator, env=self._environment, timeout_s=UP_S_MAX
        )
