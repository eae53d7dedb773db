"""A machine on which somebody runs `salus`, with a browser beside it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import httpx
from tests.commands import Said, Salus
from tests.integration.login.browser import log_in

SHOWN_S_MAX = 120


@dataclass(frozen=True)
class Machine:
    """Where `salus` is run, and a browser."""

    salus: Salus
    cookies: httpx.Cookies | None = None

    async def log_in(self, name: str, *words: str) -> Said:
        """Run `salus login`, and do with the address that it shows what somebody does in a browser."""
        command = await self.salus.begin("login", "north", "--no-browser", *words)
        async with asyncio.timeout(SHOWN_S_MAX):
            shown = (await command.stderr.readline()).decode()
            redirected = await log_in("http" + shown.partition("http")[2].strip(), name, self.cookies)
            async with httpx.AsyncClient(trust_env=False, timeout=60) as browser:
                await browser.get(redirected.replace("state=", "state=x"))
                await browser.get(redirected)
            return await command.said()
