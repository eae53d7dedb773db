"""The page under /docs in a real browser that reaches nothing but the service."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvicorn
from fastapi import FastAPI
from tools.openapi_documents import apps

from salus.devkit.waiting import until

pytestmark = pytest.mark.integration
SECONDS_MAX = 120


@pytest.fixture(scope="module")
def browser() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome", "chrome"):
        if (found := shutil.which(name)) is not None:
            return found
    pytest.skip("no Chromium is installed")


@asynccontextmanager
async def served(app: FastAPI) -> AsyncIterator[str]:
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, lifespan="off"))
    serving = asyncio.create_task(server.serve())
    assert await until(lambda: server.started, deadline_s=60)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    await serving


async def shown(browser: str, url: str, folder: Path) -> tuple[str, str]:
    """Return the page as it became, and what the browser's console said."""
    program = await asyncio.create_subprocess_exec(
        browser,
        *("--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"),
        *("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--enable-logging=stderr"),
        *("--virtual-time-budget=10000", "--dump-dom", url),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(SECONDS_MAX):
        page, said = await program.communicate()
    return page.decode(), "\n".join(line for line in said.decode().splitlines() if "CONSOLE" in line)


@pytest.mark.parametrize("service", ["consent", "anchoring"])
async def test_the_page_shows_every_operation_without_the_internet(
    service: str, browser: str, tmp_path: Path
) -> None:
    app = apps()[service]
    async with served(app) as url:
        page, said = await shown(browser, f"{url}/docs", tmp_path)

    assert said == ""
    for path in app.openapi()["paths"]:
        assert f'data-path="{path}"' in page


async def test_an_operation_opens_under_the_policy(browser: str, tmp_path: Path) -> None:
    async with served(apps()["consent"]) as url:
        page, said = await shown(browser, f"{url}/docs#/consents/grant_consent", tmp_path)

    assert "Content Security Policy" not in said
    assert "Request body" in page
    assert "urn:uuid:6f1c3a52-7a0e-4d5f-9c2b-1f2e3d4c5b6a" in page
