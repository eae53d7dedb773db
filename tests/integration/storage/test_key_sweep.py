"""A thief of storage's key states that a key is gone which is not, on real parts."""

from __future__ import annotations

from datetime import UTC, datetime

from tests.asking import UNASKED, truly_asked

from salus.devkit.waiting import until
from salus.events.contexts.storage import SubjectErased, SubjectKeyDestroyed
from salus.events.requests import Request
from salus.objects import refuse_stray
from salus.runtime.publishing import open_publisher

from .conftest import World


async def test_a_key_that_a_thief_said_was_destroyed_is_destroyed_at_the_next_look(world: World) -> None:
    patient, other = await world.patient(), await world.patient()
    key = (await world.client.get(f"/subjects/{patient}/key")).json()["key"]
    await world.stop()
    thief, steward = world.folder.signer("storage"), world.people["hospital"]
    erased = SubjectErased(
        patient=patient,
        key=key,
        requested_by=steward.did,
        basis="court-order",
        objects=0,
        request=UNASKED,
    )
    gone = SubjectKeyDestroyed(patient=patient, key=key, request=Request.of_service(thief.did))
    async with open_publisher(world.parts.kafka_bootstrap, thief) as storage:
        asked = truly_asked(erased, steward.signer, at=datetime.now(UTC))
        await storage.publish(asked, subject=patient, expected_version=1)
        await storage.publish(gone, subject=patient, expected_version=2)
    keys = world.bucket(world.settings.keys_bucket)

    await world.start()

    async def only_the_others() -> bool:
        left = [entry.key async for entry in keys.list("subjects", on_stray=refuse_stray)]
        return {key.split("/")[1] for key in left} == {other}

    assert await until(only_the_others, deadline_s=60, period_s=0.1)
    assert (await world.client.get("/readyz")).json()["checks"]["destroyed keys"] == "ok"
