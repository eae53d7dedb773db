"""Two processes of a contract service on one database, and clients who see one of them killed at work."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import httpx
from pydantic import SecretStr

from salus.contracts.settings import ContractSettings
from salus.devkit.free_ports import HOST, free_ports
from salus.devkit.waiting import until

DEADLINE_S = 60
REPLICAS = 2
CLIENTS = 8
COMMANDS_OF_A_CLIENT = 12
# So many answers are out when one is killed; as many as there are clients wait for theirs.
ANSWERS_BEFORE = 24

Command = Callable[[httpx.AsyncClient, str], Awaitable[str | None]]
"""Asks a replica at this URL, the same each time, and returns the name of what was made.

None: the replica is gone, was overtaken, or does not know; it is asked again, perhaps of the other one.
"""


@dataclass
class Replica:
    """A process of a service, and where it answers."""

    url: str
    process: asyncio.subprocess.Process


@dataclass
class Load:
    """What clients asked for and were answered; `answered` has a name for each command."""

    replicas: list[Replica]
    new_command: Callable[[], Command]
    answered: list[str] = field(default_factory=list)

    async def run(self) -> Replica:
        """Let all clients work, kill one replica meanwhile, and return the other."""
        async with asyncio.TaskGroup() as group:
            for client in range(CLIENTS):
                group.create_task(self._client(client))
        [left] = self.replicas
        assert len(self.answered) == CLIENTS * COMMANDS_OF_A_CLIENT
        return left

    async def _client(self, client: int) -> None:
        async with httpx.AsyncClient(trust_env=False, timeout=DEADLINE_S) as http:
            for number in range(COMMANDS_OF_A_CLIENT):
                command, made = self.new_command(), None
                while made is None:
                    made = await command(http, self.replicas[(client + number) % len(self.replicas)].url)
                self.answered.append(made)
                if len(self.answered) == ANSWERS_BEFORE:
                    self.replicas.pop(0).process.send_signal(signal.SIGKILL)


def environment(settings: ContractSettings) -> dict[str, str]:
    """Return the environment of a process with these settings."""
    chosen = {
        f"SALUS_{name.upper()}": value.get_secret_value() if isinstance(value, SecretStr) else str(value)
        for name, value in settings
        if value is not None
    }
    return {**os.environ, **chosen}


@asynccontextmanager
async def running(settings: ContractSettings, *arguments: str) -> AsyncIterator[Replica]:
    """Run Python with these arguments and settings, on a port of its own, once it is ready; kill it then."""
    [port] = free_ports(1)
    chosen = environment(settings.model_copy(update={"http_port": port}))
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, env=chosen)
    replica = Replica(f"http://{HOST}:{port}", process)

    async def is_ready() -> bool:
        try:
            async with httpx.AsyncClient(trust_env=False) as http:
                return (await http.get(f"{replica.url}/readyz")).status_code == 200
        except httpx.TransportError:
            return False

    try:
        assert await until(is_ready, deadline_s=DEADLINE_S)
        yield replica
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@asynccontextmanager
async def replicas(package: str, settings: ContractSettings) -> AsyncIterator[list[Replica]]:
    """Run two replicas of a service, whose limits are out of the way."""
    wide = settings.model_copy(update={"requests_burst_max": 10_000})
    async with AsyncExitStack() as stack:
        starts = [stack.enter_async_context(running(wide, "-m", package)) for _ in range(REPLICAS)]
        yield [await start for start in starts]


def taken(answer: httpx.Response) -> bool:
    """Tell whether the command was; False if it is to be sent again, AssertionError if it was refused."""
    if answer.status_code == 503 or answer.json().get("code") == "conflict":
        return False
    assert answer.is_success, answer.text
    return True
