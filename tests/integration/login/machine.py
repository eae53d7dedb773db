"""A machine on which somebody runs `salus`, with a browser beside it."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import httpx
from tests.integration.login.browser import log_in

SHOWN_S_MAX = 120


@dataclass(frozen=True)
class Machine:
    """Where `salus` is run, with this state folder."""

    state: Path
    cookies: httpx.Cookies | None = None

    async def start(self, *words: str | Path) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "salus.cli", *map(str, words)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "SALUS_STATE": str(self.state), "COLUMNS": "200"},
        )

    async def run(self, *words: str | Path) -> tuple[int, str, str]:
        process = await self.start(*words)
        out, err = await process.communicate()
        return process.returncode or 0, out.decode(), err.decode()

    async def done(self, *words: str | Path) -> str:
        code, out, err = await self.run(*words)
        assert code == 0, f"{words}: {err}"
        return out

    async def log_in(self, name: str, *words: str) -> tuple[int, str, str]:
        """Run `salus login`, and do with the address that it shows what somebody does in a browser."""
        process = await self.start("login", "north", "--no-browser", *words)
        assert process.stderr is not None
        async with asyncio.timeout(SHOWN_S_MAX):
            shown = (await process.stderr.readline()).decode()
            redirected = await log_in("http" + shown.partition("http")[2].strip(), name, self.cookies)
            async with httpx.AsyncClient(trust_env=False, timeout=60) as browser:
                await browser.get(redirected.replace("state=", "state=x"))
                await browser.get(redirected)
            out, err = await process.communicate()
        return process.returncode or 0, out.decode(), err.decode()
