"""A service that is told to stop lets requests end, closes what it opened, and ends with exit code 0."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from salus.devkit.free_ports import free_ports
from salus.devkit.waiting import until

SERVICE = """
import asyncio, sys
import structlog
from contextlib import asynccontextmanager
from pathlib import Path
from salus.runtime.service import create_app, serve, wait_for
from salus.runtime.settings import ServiceSettings

structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
settings = ServiceSettings(service_name="runtime", kafka_bootstrap="127.0.0.1:1", network_file=Path("n"),
    signing_key_file=Path("k"), http_port=int(sys.argv[1]))

@asynccontextmanager
async def lifespan(app):
    yield
    print("lifespan closed", flush=True)

async def there():
    if not Path(sys.argv[2]).exists():
        raise FileNotFoundError("the part is away")

async def main():
    await wait_for(settings, "part", there)
    app = create_app(settings, title="test", lifespan=lifespan, checks={})

    @app.get("/slow")
    async def slow():
        print("began", flush=True)
        await asyncio.sleep(1)
        return "done"

    try:
        await serve(app, settings)
    finally:
        print("resources closed", flush=True)

asyncio.run(main())
"""


@dataclass(frozen=True)
class Running:
    """A service process, its HTTP client, and the file that stands for a part it needs."""

    process: asyncio.subprocess.Process
    http: httpx.AsyncClient
    part: Path

    async def is_(self, path: str, status: int) -> bool:
        """Say whether a path answers so."""
        try:
            return (await self.http.get(path)).status_code == status
        except httpx.TransportError:
            return False

    async def line(self) -> bytes:
        """Return the next line that it writes."""
        assert self.process.stdout is not None
        return await self.process.stdout.readline()


async def start(folder: Path, port: int, part: Path, *, stderr: int) -> asyncio.subprocess.Process:
    script = folder / "service.py"
    script.write_text(SERVICE)
    command = (sys.executable, str(script), str(port), str(part))
    return await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, stderr=stderr)


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Running]:
    [port] = free_ports(1)
    part = tmp_path / "part"
    process = await start(tmp_path, port, part, stderr=asyncio.subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=60) as http:
            yield Running(process, http, part)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
async def test_a_stopped_service_ends_what_it_began(service: Running, signum: signal.Signals) -> None:
    service.part.touch()
    assert await until(lambda: service.is_("/readyz", 200), deadline_s=60)
    answer = asyncio.create_task(service.http.get("/slow"))
    began = await service.line()
    service.process.send_signal(signum)
    status = (await answer).status_code
    rest = [await service.line(), await service.line(), await service.line()]
    code = await service.process.wait()

    assert began == b"began\n"
    assert status == 200
    assert rest == [b"lifespan closed\n", b"resources closed\n", b""]
    assert code == 0


async def test_an_idle_connection_outlives_the_clients_patience(service: Running) -> None:
    service.part.touch()
    assert await until(lambda: service.is_("/readyz", 200), deadline_s=60)
    reader, writer = await asyncio.open_connection("127.0.0.1", service.http.base_url.port)
    request = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    writer.write(request)
    await reader.readuntil(b'{"status":"ok"}')

    # httpx lets go of an idle connection after 5 s: the service must not be first, nor at the same moment.
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(1), timeout=7)
    writer.write(request)
    assert b'{"status":"ok"}' in await reader.readuntil(b'{"status":"ok"}')
    writer.close()


async def test_a_service_that_waits_for_a_part_says_so_and_goes_on_by_itself(service: Running) -> None:
    assert await until(lambda: service.is_("/healthz", 200), deadline_s=60)
    waiting = await service.http.get("/readyz")
    # Case redA8 12: a 404 reads as "there is none".
    asked = [await service.http.request(method, "/slow/x") for method in ("GET", "POST", "DELETE")]
    service.part.touch()

    assert waiting.status_code == 503
    assert [(answer.status_code, answer.json()["code"]) for answer in asked] == [(503, "starting")] * 3
    assert asked[0].headers["Retry-After"] == "1"
    assert waiting.json()["checks"]["part"] == "FileNotFoundError: the part is away"
    assert await until(lambda: service.is_("/readyz", 200), deadline_s=60)
    assert (await service.http.get("/readyz")).json()["checks"] == {}


async def test_a_service_that_waits_for_a_part_can_be_stopped(service: Running) -> None:
    assert await until(lambda: service.is_("/readyz", 503), deadline_s=60)
    service.process.send_signal(signal.SIGTERM)

    assert await service.process.wait() == 0


@pytest.mark.parametrize("part", ["away", "there"])
async def test_a_service_whose_address_is_taken_ends_and_its_last_words_say_so(
    tmp_path: Path, part: str
) -> None:
    if part == "there":
        (tmp_path / part).touch()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = await start(tmp_path, port, tmp_path / part, stderr=asyncio.subprocess.PIPE)
        _, said = await process.communicate()

    assert process.returncode == 3
    assert b"address already in use" in said.splitlines()[-1]


async def ask(port: int, path: str) -> tuple[int | None, bytes]:
    """Ask as the image's health check does."""
    command = (sys.executable, "-I", "-m", "salus.runtime.healthcheck", path)
    environment = {"SALUS_HTTP_PORT": str(port)}
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, env=environment)
    said, _ = await process.communicate()
    return process.returncode, said


async def test_the_health_check_of_the_image_says_what_the_service_says(service: Running) -> None:
    port = service.http.base_url.port
    assert port is not None
    assert await until(lambda: service.is_("/readyz", 503), deadline_s=60)
    waiting = await ask(port, "/readyz")
    alive = await ask(port, "/healthz")
    service.part.touch()
    assert await until(lambda: service.is_("/readyz", 200), deadline_s=60)
    ready = await ask(port, "/readyz")
    service.process.kill()
    await service.process.wait()
    gone = await ask(port, "/healthz")

    assert waiting[0] == 1
    assert b"the part is away" in waiting[1]
    assert [alive[0], ready[0], gone[0]] == [0, 0, 1]
    assert gone[1].startswith(b"no answer: ")
