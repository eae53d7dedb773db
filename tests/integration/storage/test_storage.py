"""Storage end to end, against real Kafka and MinIO."""

from __future__ import annotations

from salus.events.catalogue import ObjectRead, ObjectStored


async def test_an_object_is_encrypted_and_comes_back_as_it_was(world):
    patient = await world.patient()
    content = b"very private " * 100_000
    name = await world.store(patient, content)

    answer = await world.read(name, patient)

    assert answer.status_code == 200, answer.text
    assert answer.content == content
    assert answer.headers["content-type"] == "application/fhir+json"
    objects = world.bucket(world.settings.objects_bucket)
    stored = [await objects.get(entry.key) async for entry in objects.list(name)]
    assert len(stored) == 1
    assert b"very private" not in stored[0]
    told = await world.told(patient)
    assert [type(event) for event in told[1:]] == [ObjectStored, ObjectRead]
