"""A real OpenID provider, installed once from its registry by its lock file, into `.venv/salus-login`."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

import pytest

HERE = Path(__file__).parent
PLACE = HERE.parents[2] / ".venv" / "salus-login"
INSTALL_S_MAX = 280
STARTS_S_MAX = 60


class StartProvider(Protocol):
    """Starts the provider."""

    def __call__(self, people: Mapping[str, str], *, age_s: int = 0) -> Coroutine[Any, Any, str]:
        """Return its issuer; `people` have these DIDs, and have signed on so long ago."""


def tool(name: str) -> str:
    """Return where a tool is; without it the test is skipped, but in CI."""
    found = shutil.which(name)
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{name} is not installed, and CI has to have it")
        pytest.skip(f"{name} is not installed")
    return found


@pytest.fixture(scope="session")
def installed() -> Path:
    """Return the folder with the provider's program and the packages that it needs."""
    npm = tool("npm")
    files = [HERE / name for name in ("package.json", "package-lock.json", "provider.mjs")]
    digest = sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]
    folder = PLACE / digest
    if not (folder / "complete").exists():
        folder.mkdir(parents=True, exist_ok=True)
        for file in files:
            shutil.copy(file, folder)
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--omit=optional"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=INSTALL_S_MAX)
        (folder / "complete").touch()
    return folder


@pytest.fixture
async def start_provider(installed: Path) -> AsyncIterator[StartProvider]:
    """Return what starts the provider, at which the people of these names have these DIDs: its issuer."""
    async with AsyncExitStack() as running:

        async def start(people: Mapping[str, str], *, age_s: int = 0) -> str:
            return await running.enter_async_context(_provider(installed, people, age_s))

        yield start


@asynccontextmanager
async def _provider(folder: Path, people: Mapping[str, str], age_s: int) -> AsyncIterator[str]:
    process = await asyncio.create_subprocess_exec(
        tool("node"),
        "provider.mjs",
        cwd=folder,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, "PEOPLE": json.dumps(dict(people)), "AGE_S": str(age_s)},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        async with asyncio.timeout(STARTS_S_MAX):
            issuer = (await process.stdout.readline()).decode().strip()
        yield issuer
    finally:
        process.stdin.close()
        await process.communicate()
