"""Two processes of consent on one PostgreSQL database: one is killed at work, nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import os
import signal
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx
from tests.integration.consent.town import Town, signing

from salus.devkit.free_ports import HOST, free_ports
from salus.devkit.processes import Place, send, stop
from salus.devkit.run_record import RunningService
from salus.devkit.services import Surroundings, instances, start_service, wait_until_ready
from salus.events.contexts.consent import ConsentGranted

CONSENT = instances(1)["consent"]
REPLICAS = ("consent-a", "consent-b")
CLIENTS = 8
GRANTS_OF_A_CLIENT = 12
# So many answers are out when one is killed; as many as there are clients wait for theirs.
ANSWERS_BEFORE = 24


@dataclass
class Load:
    """What clients asked for and were answered, by idempotency key."""

    replicas: dict[str, RunningService]
    answered: dict[str, str] = field(default_factory=dict)
    repeated: int = 0

    def kill_one(self) -> None:
        """Kill the first replica, once."""
        if len(self.replicas) == len(REPLICAS):
            send(self.replicas.pop(REPLICAS[0]).process, signal.SIGKILL)


@asynccontextmanager
async def replicas(town: Town, database: str, folder: Path) -> AsyncIterator[dict[str, RunningService]]:
    """Start the processes, each with a port of its own."""
    ports = free_ports(len(REPLICAS))
    urls = {name: f"http://{HOST}:{port}" for name, port in zip(REPLICAS, ports, strict=True)}
    extra = {"SALUS_DATABASE_URL": database, "SALUS_COMMANDS_BURST_MAX": "10000"}
    extra["SALUS_REQUESTS_BURST_MAX"] = "10000"
    surroundings = Surroundings(town.network, town.parts, urls, extra)
    running: dict[str, RunningService] = {}
    async with AsyncExitStack() as stack:
        for name in REPLICAS:
            place = Place(folder / name, folder / "logs", detached=False)
            running[name] = start_service(replace(CONSENT, name=name), surroundings, place)
            stack.push_async_callback(stop, running[name].process)
        await wait_until_ready(running)
        yield dict(running)


async def grant_all(town: Town, load: Load, client: int) -> None:
    """Ask for one consent after the other, of either replica; what is not answered is asked for again."""
    async with httpx.AsyncClient(trust_env=False, timeout=60) as http:
        for number in range(GRANTS_OF_A_CLIENT):
            key, chosen = str(uuid.uuid4()), (client + number) % len(REPLICAS)
            body = town.grant()
            while key not in load.answered:
                at_work = [load.replicas[name] for name in REPLICAS if name in load.replicas]
                consent = await granted(town, http, at_work[chosen % len(at_work)].url, body, key)
                if consent is None:
                    load.repeated += 1
                    continue
                load.answered[key] = consent
                if len(load.answered) == ANSWERS_BEFORE:
                    load.kill_one()


async def granted(
    town: Town, http: httpx.AsyncClient, url: str, body: dict[str, object], key: str
) -> str | None:
    """Return the consent, or None if the replica is gone, or tells that it does not know or was overtaken."""
    headers = {"Idempotency-Key": key}
    try:
        answer = await http.post(f"{url}/consents", json=body, headers=headers, auth=signing(town.hospital))
    except httpx.TransportError:
        return None
    if answer.status_code == 503 or answer.json().get("code") == "conflict":
        return None
    assert answer.status_code == 201, answer.text
    consent: str = answer.json()["consent"]
    return consent


async def test_of_two_replicas_one_is_killed_and_nothing_is_lost_or_doubled(
    town: Town, postgres: str, session_folder: Path
) -> None:
    folder = session_folder / f"replicas-{os.urandom(4).hex()}"
    async with replicas(town, postgres, folder) as running:
        load = Load(running)
        async with asyncio.TaskGroup() as group:
            for client in range(CLIENTS):
                group.create_task(grant_all(town, load, client))
        assert [*load.replicas] == [REPLICAS[1]]
        kept = await consents_of(town, load.replicas[REPLICAS[1]].url)
    async with town.replica("anew.db") as anew:
        answer = await anew.get(f"/patients/{town.pseudonym}/consents", auth=signing(town.hospital))
    stated = [event.data for event in await town.events()]
    granted_ids = Counter(data.consent for data in stated if isinstance(data, ConsentGranted))

    assert len(set(load.answered.values())) == CLIENTS * GRANTS_OF_A_CLIENT
    assert kept == answer.json(), "what was folded by two is what one folds"
    listed = Counter(consent["consent"] for consent in kept["consents"])
    assert listed == Counter(load.answered.values()), "each is there, and once"
    assert listed.keys() == granted_ids.keys()


async def consents_of(town: Town, url: str) -> dict[str, list[dict[str, object]]]:
    """Return the patient's consents as a replica has them."""
    async with httpx.AsyncClient(trust_env=False, timeout=60) as http:
        answer = await http.get(f"{url}/patients/{town.pseudonym}/consents", auth=signing(town.hospital))
    listed: dict[str, list[dict[str, object]]] = answer.json()
    return listed
