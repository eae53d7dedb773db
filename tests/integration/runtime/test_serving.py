"""A service that is told to stop lets requests end, closes what it opened, and ends with exit code 0."""

from __future__ import annotations

import asyncio
import signal
import sys
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
from salus.runtime.service import create_app, serve
from salus.runtime.settings import ServiceSettings

structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
settings = ServiceSettings(service_name="runtime", kafka_bootstrap="127.0.0.1:1", network_file=Path("n"),
    signing_key_file=Path("k"), http_port=int(sys.argv[1]))

@asynccontextmanager
async def lifespan(app):
    yield
    print("lifespan closed", flush=True)

async def main():
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


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
async def test_a_stopped_service_ends_what_it_began(signum: signal.Signals, tmp_path: Path) -> None:
    script = tmp_path / "service.py"
    script.write_text(SERVICE)
    [port] = free_ports(1)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(script),
        str(port),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout is not None
    try:
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30
        ) as http:

            async def alive() -> bool:
                try:
                    return (await http.get("/healthz")).is_success
                except httpx.TransportError:
                    return False

            assert await until(alive, deadline_s=60)
            answer = asyncio.create_task(http.get("/slow"))
            began = await process.stdout.readline()
            process.send_signal(signum)
            status = (await answer).status_code
        rest = await process.stdout.read()
        code = await process.wait()
    finally:
        if process.returncode is None:
            process.kill()

    assert began == b"began\n"
    assert status == 200
    assert rest == b"lifespan closed\nresources closed\n"
    assert code == 0
