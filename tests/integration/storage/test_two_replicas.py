"""Two processes of storage on one PostgreSQL database: one is killed at work, nothing is lost or doubled."""

from __future__ import annotations

from uuid import uuid4

import httpx
from tests.integration.replicas import Command, Load, replicas, taken
from tests.integration.storage.conftest import World

from salus.events.contexts.storage import ObjectStored


def upload_of(world: World, patient: str) -> Command:
    name = str(uuid4())

    async def store(http: httpx.AsyncClient, url: str) -> str | None:
        try:
            answer = await http.put(
                f"{url}/objects/{name}",
                params={"patient": patient},
                content=name.encode(),
                headers={"Content-Type": "application/fhir+json"},
                auth=world.people["hospital"].signing(),
            )
        except httpx.TransportError:
            return None
        return name if taken(answer) else None

    return store


async def test_of_two_replicas_one_is_killed_and_nothing_is_lost_or_doubled(
    world: World, postgres: str
) -> None:
    patient = await world.patient()
    await world.stop()
    settings = world.settings.model_copy(update={"database_url": postgres})
    async with replicas("salus.storage", settings) as started:
        load = Load(started, lambda: upload_of(world, patient))
        left = await load.run()
        async with httpx.AsyncClient(trust_env=False, base_url=left.url) as world.client:
            kept = {name: (await world.read(name, patient)).content for name in load.answered}
    await world.start(database_url=f"sqlite+aiosqlite:///{world.folder.folder / 'anew.db'}")
    folded = {name: (await world.read(name, patient)).content for name in load.answered}
    stated = [event.object for event in await world.told(patient) if isinstance(event, ObjectStored)]

    assert len(set(load.answered)) == len(load.answered)
    assert kept == folded == {name: name.encode() for name in load.answered}
    assert {*stated} == {*load.answered}, "nothing is stated that nobody was told of in the end"
