"""Storage is killed between each two steps of an erasure: the key goes, and that is recorded once.

Case issue 13, reactors, on real Kafka, MinIO, SQLite and PostgreSQL.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from tests.integration.replicas import DEADLINE_S, running
from tests.integration.storage import dying_storage
from tests.integration.storage.conftest import World

from salus.devkit.waiting import until
from salus.events.contexts.storage import SubjectErased, SubjectKeyDestroyed
from salus.objects import ObjectsError


@asynccontextmanager
async def dying(world: World, step: str) -> AsyncIterator[str]:
    """Start storage in a process that will be killed at this step, and yield its address."""
    async with running(world.settings, str(dying_storage.__file__), step) as replica:
        yield replica.url
        assert await asyncio.wait_for(replica.process.wait(), DEADLINE_S) == -signal.SIGKILL


async def erase(world: World, url: str, patient: str) -> None:
    """Ask a process to erase a patient, which it does not survive."""
    async with httpx.AsyncClient(trust_env=False, timeout=DEADLINE_S) as http:
        with pytest.raises(httpx.TransportError):
            await http.request(
                "DELETE",
                f"{url}/subjects/{patient}/key",
                json={"basis": "gdpr-art-17"},
                auth=world.people["hospital"].signing(),
            )


async def keys_of(world: World, patient: str) -> list[str]:
    strays: list[object] = []
    entries = world.bucket(world.settings.keys_bucket).list(f"subjects/{patient}", on_stray=strays.append)
    return [entry.key async for entry in entries]


async def is_settled(world: World, patient: str) -> bool:
    try:
        told = [type(event) for event in await world.told(patient)]
        return SubjectKeyDestroyed in told and not await keys_of(world, patient)
    except ObjectsError:
        return False


async def outcomes(world: World, patient: str) -> tuple[int, int]:
    """Return how often it was told that she is erased, and that her key is gone."""
    told = [type(event) for event in await world.told(patient)]
    return told.count(SubjectErased), told.count(SubjectKeyDestroyed)


async def patient_with_two_keys(world: World) -> tuple[str, str]:
    """Register a patient, with an object and a key that nobody was told of; return her and the object."""
    patient = await world.patient()
    name = await world.store(patient, b"her diagnosis")
    await world.bucket(world.settings.keys_bucket).create(f"subjects/{patient}/ff", b"a key of a crash")
    return patient, name


@pytest.mark.parametrize("step", dying_storage.STEPS)
async def test_an_erasure_that_was_killed_is_finished_at_the_next_start(world: World, step: str) -> None:
    patient, name = await patient_with_two_keys(world)
    await world.stop()
    async with dying(world, step) as url:
        await erase(world, url, patient)
    left = await keys_of(world, patient)
    before = await outcomes(world, patient)
    await world.start()

    assert await until(lambda: is_settled(world, patient), deadline_s=DEADLINE_S)
    assert (before, len(left)) == {
        "stated": ((1, 0), 2),
        "folded": ((1, 0), 2),
        "taken": ((1, 0), 2),
        "halfway": ((1, 0), 1),
        "destroyed": ((1, 0), 0),
        "recorded": ((1, 1), 0),
    }[step]
    assert (await world.read(name, patient)).json()["code"] == "subject-erased"
    assert await outcomes(world, patient) == (1, 1)


async def test_another_replica_finishes_what_a_killed_one_began(world: World, postgres: str) -> None:
    await world.stop()
    await world.start(database_url=postgres)
    patient, _ = await patient_with_two_keys(world)
    async with dying(world, "folded") as url:
        await erase(world, url, patient)

    assert await until(lambda: is_settled(world, patient), deadline_s=DEADLINE_S)
    assert await outcomes(world, patient) == (1, 1)


async def test_two_replicas_and_one_that_starts_again_record_it_once(world: World, postgres: str) -> None:
    """The killed one had destroyed the key, and had taken the obligation: the start makes it due."""
    await world.stop()
    await world.start(database_url=postgres)
    patient, _ = await patient_with_two_keys(world)
    async with dying(world, "destroyed") as url:
        await erase(world, url, patient)
    await world.start()

    assert await until(lambda: is_settled(world, patient), deadline_s=DEADLINE_S)
    assert await outcomes(world, patient) == (1, 1)
