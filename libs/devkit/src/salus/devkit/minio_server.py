"""One MinIO server, built from source with Go, on a free loopback port."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import httpx

from salus.crypto.private_files import make_private_folder
from salus.devkit.addresses import REGION
from salus.devkit.cache import cached, is_cached
from salus.devkit.errors import MissingToolError, StartError
from salus.devkit.free_ports import HOST, free_ports
from salus.devkit.narration import Narrator
from salus.devkit.processes import Place, ProcessRecord, is_alive, spawn, stop
from salus.devkit.tools import missing, run_tool
from salus.devkit.waiting import until

MINIO_VERSION = "v0.0.0-20260212201848-7aac2a2c5b7c"
START_ATTEMPTS_MAX = 3
START_S_MAX = 30.0


def minio_needs() -> list[str]:
    """Return the programs that MinIO needs on this machine and that are missing."""
    return [] if is_cached("minio", MINIO_VERSION) else missing("go")


async def minio_binary(narrator: Narrator) -> Path:
    """Return the path of MinIO's program, building it the first time.

    Raises:
        MissingToolError: it is not in the cache and there is no Go to build it with.
    """

    async def build(folder: Path) -> None:
        if minio_needs():
            raise MissingToolError("building MinIO needs Go: there is no `go` on the PATH")
        narrator.step("building MinIO with Go (once, 2 to 5 minutes on a small machine)")
        command = ["go", "install", "-v", f"github.com/minio/minio@{MINIO_VERSION}"]
        await run_tool("building MinIO", command, narrator, env={"GOBIN": str(folder)})

    return await cached("minio", MINIO_VERSION, build, narrator) / "minio"


async def is_ready(endpoint: str) -> bool:
    """Say whether a MinIO answers there and can serve."""
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=2.0) as client:
            return (await client.get(f"{endpoint}/minio/health/ready")).is_success
    except httpx.TransportError:
        return False


class MinioServer:
    """A store whose data is in `data` of its place; it can be stopped and started again on the same port."""

    def __init__(
        self, place: Place, narrator: Narrator, *, access_key: str = "", secret_key: str = ""
    ) -> None:
        self._place = place
        self._narrator = narrator
        self._ports: list[int] = []
        self.access_key = access_key or f"salus-{secrets.token_hex(4)}"
        self.secret_key = secret_key or secrets.token_urlsafe(24)
        self.process: ProcessRecord | None = None

    @property
    def endpoint(self) -> str:
        """The URL of the S3 API."""
        return f"http://{HOST}:{self._ports[0]}"

    async def start(self, *, preferred: tuple[int, ...] = ()) -> ProcessRecord:
        """Start the store and return when it is ready.

        Raises:
            StartError: it is not ready in time.
        """
        binary = await minio_binary(self._narrator)
        preferred = preferred or tuple(self._ports)
        for attempt in range(1, START_ATTEMPTS_MAX + 1):
            self._ports = free_ports(1, preferred=preferred)
            self.process = self._spawn(binary)
            if await until(self._ready_or_died, deadline_s=START_S_MAX) and is_alive(self.process):
                return self.process
            tail = self.process.log_tail()
            await stop(self.process)
            # Between our look and its bind another program may have taken the port.
            if "already in use" not in tail or attempt == START_ATTEMPTS_MAX:
                raise StartError("MinIO", "does not become ready", log_tail=tail)
        raise StartError("MinIO", "found no free port")

    def adopt(self, process: ProcessRecord | None, ports: tuple[int, ...]) -> None:
        """Take over a server that another invocation started."""
        self.process = process
        self._ports = list(ports)

    async def stop(self) -> None:
        """Stop the store; its data stays."""
        if self.process is not None:
            await stop(self.process)

    async def _ready_or_died(self) -> bool:
        if self.process is None or not is_alive(self.process):
            return True
        return await is_ready(self.endpoint)

    def _spawn(self, binary: Path) -> ProcessRecord:
        data = self._place.folder / "data"
        make_private_folder(data)
        environment = {
            **os.environ,
            "MINIO_ROOT_USER": self.access_key,
            "MINIO_ROOT_PASSWORD": self.secret_key,
            "MINIO_BROWSER": "off",
            "MINIO_UPDATE": "off",
            "MINIO_REGION": REGION,
        }
        address = f"{HOST}:{self._ports[0]}"
        command = [str(binary), "server", str(data), "--address", address, "--quiet"]
        return spawn("minio", command, self._place, env=environment)
