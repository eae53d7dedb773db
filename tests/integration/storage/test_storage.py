"""Storage end to end, as an app in this process against real Kafka and MinIO."""

from __future__ import annotations

import asyncio
import io
from base64 import b64decode
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from tests.asking import UNASKED, truly_asked

from salus.client.pseudonyms import new_nonce
from salus.crypto.errors import KmsAwayError
from salus.crypto.sealing import SUITE, seal, unseal
from salus.devkit.waiting import until
from salus.events.contexts.storage import (
    ObjectRead,
    ObjectStored,
    ReadBrokenOff,
    ReadRefused,
    SubjectErased,
    SubjectRegistered,
)
from salus.messaging import Reader
from salus.objects import Admin, NotFoundError, Stray, refuse_stray
from salus.runtime.publishing import open_publisher
from salus.storage.adapters.vault import BucketVault
from salus.storage.handlers.outgoing import BrokenOffError
from salus.storage.rotate import rotate
from salus.storage.stores import open_kms

from .conftest import World

MIB = 1024 * 1024


def code(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["code"]


async def test_an_object_is_encrypted_and_comes_back_as_it_was(world: World) -> None:
    patient = await world.patient()
    content = b"very private " * 100_000
    name = await world.store(patient, content)

    answer = await world.read(name, patient)

    assert answer.status_code == 200, answer.text
    assert answer.content == content
    assert answer.headers["content-type"] == "application/fhir+json"
    assert answer.headers["cache-control"] == "no-store"
    objects = world.bucket(world.settings.objects_bucket)
    stored = [
        await objects.get(entry.key, bytes_max=1 << 30)
        async for entry in objects.list(name, on_stray=refuse_stray)
    ]
    assert len(stored) == 1
    assert b"very private" not in stored[0]
    told = await world.told(patient)
    assert [type(event) for event in told] == [SubjectRegistered, ObjectStored, ObjectRead]


async def test_the_very_next_read_after_a_revocation_is_refused(world: World) -> None:
    patient = await world.patient()
    name = await world.store(patient, b"content")
    for epoch in range(1, 6):
        assert (await world.read(name, patient, epoch=epoch - 1)).status_code == 200
        await world.revoke(patient, epoch=epoch)

        refused = await world.read(name, patient, epoch=epoch - 1)

        assert code(refused) == (403, "decision-outdated")
        assert (await world.read(name, patient, epoch=epoch)).status_code == 200
    reasons = [event.reason for event in await world.told(patient) if isinstance(event, ReadRefused)]
    assert reasons == ["decision-outdated"] * 5


async def test_each_wrong_decision_is_refused_with_its_reason_and_told(world: World) -> None:
    patient = await world.patient()
    name = await world.store(patient, b"content")
    past = int(datetime.now(UTC).timestamp()) - 100
    wrong: dict[str, dict[str, Any]] = {
        "wrong-holder": {"sub": world.people["hospital"].did},
        "wrong-object": {"obj": "another"},
        "wrong-action": {"act": "write"},
        "decision-expired": {"iat": past, "exp": past + 60},
        "invalid-decision": {"pur": "CURIOSITY"},
    }

    for reason, claims in wrong.items():
        assert code(await world.read(name, patient, **claims)) == (403, reason)
    doctor = world.people["doctor"]
    assert code(
        await world.client.get(f"/objects/{name}", params={"patient": patient}, auth=doctor.signing())
    ) == (403, "no-decision")
    assert code(await world.client.get(f"/objects/{name}", params={"patient": patient})) == (
        401,
        "unauthenticated",
    )
    told = [event.reason for event in await world.told(patient) if isinstance(event, ReadRefused)]
    assert told == [*wrong, "no-decision"]


async def test_a_break_glass_read_is_allowed_and_told_as_one(world: World) -> None:
    patient = await world.patient()
    name = await world.store(patient, b"content")

    assert (await world.read(name, patient, bg=True, pur="ETREAT")).content == b"content"
    read = (await world.told(patient))[-1]
    assert isinstance(read, ObjectRead)
    assert (read.break_glass, read.purpose) == (True, "ETREAT")


async def test_an_erased_patient_is_gone_for_every_key_and_copy(world: World) -> None:
    patient = await world.patient()
    name = await world.store(patient, b"content")
    officer = world.people["officer"]
    url = f"/subjects/{patient}/key"

    erased = await world.client.request("DELETE", url, json={"basis": "gdpr-art-17"}, auth=officer.signing())

    assert erased.status_code == 200, erased.text
    assert erased.json() == {
        "patient": patient,
        "key": erased.json()["key"],
        "basis": "gdpr-art-17",
        "objects": 1,
    }
    keys = world.bucket(world.settings.keys_bucket)
    assert [entry async for entry in keys.list("subjects", on_stray=refuse_stray)] == []
    assert code(await world.read(name, patient)) == (410, "subject-erased")
    assert code(await world.client.get(url)) == (410, "subject-erased")
    report = (
        await world.client.get(f"/objects/{name}/verify", params={"patient": patient}, auth=officer.signing())
    ).json()
    assert (report["intact"], report["checked"]) == (True, ["ciphertext", "header", "segments"])
    again = await world.client.request("DELETE", url, json={"basis": "gdpr-art-17"}, auth=officer.signing())
    assert again.status_code == 200
    told = await world.told(patient)
    assert sum(isinstance(event, SubjectErased) for event in told) == 1


async def test_only_the_steward_or_its_officer_erases(world: World) -> None:
    patient = await world.patient()

    for name in ("doctor", "laboratory"):
        answer = await world.client.request(
            "DELETE",
            f"/subjects/{patient}/key",
            json={"basis": "gdpr-art-17"},
            auth=world.people[name].signing(),
        )
        assert code(answer) == (403, "may-not-erase")


async def test_an_erasure_that_crashed_after_its_event_is_finished_at_the_next_start(world: World) -> None:
    patient = await world.patient()
    key = (await world.client.get(f"/subjects/{patient}/key")).json()["key"]
    await world.stop()
    event = SubjectErased(
        patient=patient,
        key=key,
        requested_by=world.people["hospital"].did,
        basis="court-order",
        objects=0,
        request=UNASKED,
    )
    async with open_publisher(world.parts.kafka_bootstrap, world.folder.signer("storage")) as storage:
        asked = truly_asked(event, world.people["hospital"].signer, at=datetime.now(UTC))
        await storage.publish(asked, subject=patient, expected_version=1)
    keys = world.bucket(world.settings.keys_bucket)
    assert [entry async for entry in keys.list("subjects", on_stray=refuse_stray)] != []

    await world.start()

    assert code(await world.client.get(f"/subjects/{patient}/key")) == (410, "subject-erased")

    async def gone() -> bool:
        return not [entry async for entry in keys.list("subjects", on_stray=refuse_stray)]

    assert await until(gone, deadline_s=60, period_s=0.1)


async def test_stray_objects_among_the_keys_hold_up_no_erasure_and_no_start(world: World) -> None:
    """Case S4: a line break in one key kept every private key for ever, and storage from starting."""
    patient = await world.patient()
    keys = world.bucket(world.settings.keys_bucket)
    s3 = world.parts.s3
    client = Admin(s3.endpoint, s3.access_key, s3.secret_key, s3.region)._client()
    strays = [f"subjects/{patient}/note\n.txt", "subjects/note\n.txt", "subjects/README"]
    for name in strays:
        await asyncio.to_thread(client.put_object, keys.bucket, name, io.BytesIO(b"x"), length=1)
    await world.stop()
    await world.start()

    answer = await world.client.request(
        "DELETE",
        f"/subjects/{patient}/key",
        json={"basis": "gdpr-art-17"},
        auth=world.people["hospital"].signing(),
    )
    left: list[Stray] = []

    assert answer.is_success, answer.text
    assert [entry.key async for entry in keys.list("subjects", on_stray=left.append)] == ["subjects/README"]
    assert {stray.key for stray in left} == {*strays} - {"subjects/README"}


@pytest.mark.parametrize("segment", [0, 2])
async def test_a_corrupted_segment_is_named_and_no_byte_of_it_is_sent(world: World, segment: int) -> None:
    patient = await world.patient()
    name = await world.store(patient, bytes(3 * MIB))
    objects = world.bucket(world.settings.objects_bucket)
    (key,) = [entry.key async for entry in objects.list(name, on_stray=refuse_stray)]
    raw = bytearray(await objects.get(key, bytes_max=1 << 30))
    raw[raw.index(b"\n\n") + 2 + segment * MIB + 100] ^= 1
    await objects.put(key, bytes(raw))
    fault = {"part": "segment", "fault": "altered", "segment": segment}
    if segment:
        with pytest.raises(BrokenOffError, match="object-corrupt"):
            await world.read(name, patient)
        assert isinstance((await world.told(patient))[-1], ReadBrokenOff)
    else:
        refused = await world.read(name, patient)
        assert code(refused) == (502, "object-corrupt")
        assert refused.json()["faults"] == [fault]
        assert isinstance((await world.told(patient))[-1], ReadRefused)
    verified = await world.client.get(
        f"/objects/{name}/verify", params={"patient": patient}, auth=world.people["doctor"].signing()
    )

    assert verified.json()["intact"] is False
    assert verified.json()["faults"] == [fault]


async def test_ranges_of_a_large_object_are_its_parts(world: World) -> None:
    patient = await world.patient()
    content = bytes(range(256)) * (5 * MIB // 256)
    name = await world.store(patient, content)

    for start, end in ((0, 1), (MIB - 60, MIB + 60), (2 * MIB + 5, 4 * MIB), (5 * MIB - 1, 5 * MIB)):
        part = await world.read(name, patient, headers={"Range": f"bytes={start}-{end - 1}"})
        assert (part.status_code, part.content) == (206, content[start:end])
        assert part.headers["content-range"] == f"bytes {start}-{end - 1}/{5 * MIB}"


async def test_state_rebuilt_from_the_topic_alone_is_the_same(world: World, tmp_path: Path) -> None:
    patient = await world.patient()
    name = await world.store(patient, b"content")
    await world.revoke(patient, epoch=1)
    await world.stop()

    await world.start(database_url=f"sqlite+aiosqlite:///{tmp_path / 'rebuilt.db'}")

    assert (await world.read(name, patient, epoch=1)).content == b"content"
    assert code(await world.read(name, patient, epoch=0)) == (403, "decision-outdated")


async def test_integrators_seal_to_the_public_key_and_storage_opens(world: World) -> None:
    patient = await world.patient()
    answer = (await world.client.get(f"/subjects/{patient}/key")).json()
    sealed = seal(
        b"a finding", public_key=b64decode(answer["public_key"]), key=answer["key"], context="a.type"
    )
    keys = world.bucket(world.settings.keys_bucket)
    private_key = await BucketVault(keys, await open_kms(world.settings, keys)).fetch(
        patient=patient, key=answer["key"]
    )

    assert answer["suite"] == SUITE
    assert unseal(sealed, private_key=private_key, context="a.type") == b"a finding"


async def test_rotating_the_root_key_touches_no_object(world: World) -> None:
    patient = await world.patient()
    name = await world.store(patient, b"content")
    objects = world.bucket(world.settings.objects_bucket)
    before = [entry async for entry in objects.list(name, on_stray=refuse_stray)]

    assert await rotate(world.settings, step="rotate") == 1
    assert (await world.read(name, patient)).content == b"content"
    assert await rotate(world.settings, step="retire") == 0
    await world.stop()
    await world.start()

    assert (await world.read(name, patient)).content == b"content"
    assert [entry async for entry in objects.list(name, on_stray=refuse_stray)] == before


async def test_storage_does_not_start_with_a_new_root_key_over_old_keys(world: World) -> None:
    await world.patient()
    await world.stop()
    kms = world.folder.folder / "keys" / "kms"
    kms.rename(kms.with_suffix(".lost"))

    with pytest.raises(KmsAwayError, match="no KMS file"):
        await world.start()


async def test_storing_is_for_the_steward_and_who_may_write(world: World) -> None:
    patient = await world.patient()
    laboratory = world.people["laboratory"]
    name = str(uuid4())

    async def put(headers: dict[str, str]) -> httpx.Response:
        return await world.client.put(
            f"/objects/{name}",
            params={"patient": patient},
            content=b"result",
            headers=headers,
            auth=laboratory.signing(),
        )

    token = world.token(sub=laboratory.did, obj=name, pat=patient, act="write")
    assert code(await put({})) == (403, "not-the-steward")
    assert (await put({"Salus-Decision": token})).status_code == 201
    assert (await put({"Salus-Decision": token})).status_code == 200
    assert (await world.read(name, patient)).content == b"result"


async def test_other_content_under_the_same_id_is_a_conflict(world: World) -> None:
    patient = await world.patient()
    name = await world.store(patient, b"first")
    other = await world.client.put(
        f"/objects/{name}",
        params={"patient": patient},
        content=b"second",
        auth=world.people["hospital"].signing(),
    )

    assert code(other) == (409, "object-exists")
    assert (await world.read(name, patient)).content == b"first"


async def test_a_posted_object_gets_an_id(world: World) -> None:
    patient = await world.patient()
    answer = await world.client.post(
        "/objects", params={"patient": patient}, content=b"x", auth=world.people["hospital"].signing()
    )

    assert answer.status_code == 201
    assert answer.headers["location"] == f"/objects/{answer.json()['object']}?patient={patient}"
    assert (await world.read(answer.json()["object"], patient)).content == b"x"


async def test_a_body_that_is_too_large_or_stops_coming_is_refused(world: World) -> None:
    await world.stop()
    await world.start(object_bytes_max=1000, body_idle_s_max=0.2)
    patient = await world.patient()

    async def many() -> AsyncIterator[bytes]:
        for _ in range(11):
            yield bytes(100)

    async def stuck() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.Event().wait()

    async def put(content: bytes | AsyncIterator[bytes]) -> httpx.Response:
        return await world.client.put(
            f"/objects/{uuid4()}",
            params={"patient": patient},
            content=content,
            auth=world.people["hospital"].signing(),
        )

    assert code(await put(bytes(1001))) == (413, "too-large")
    assert code(await put(many())) == (413, "too-large")
    assert (await put(bytes(1000))).status_code == 201
    objects = world.bucket(world.settings.objects_bucket)
    assert len([entry async for entry in objects.list(on_stray=refuse_stray)]) == 1


async def test_what_is_not_there_is_not_found(world: World) -> None:
    doctor = world.people["doctor"]
    nobody = f"urn:uuid:{uuid4()}"

    assert code(await world.read("nothing", nobody)) == (404, "unknown-object")
    assert code(await world.client.get(f"/subjects/{nobody}/key")) == (404, "unknown-subject")
    verify = await world.client.get(
        "/objects/nothing/verify", params={"patient": nobody}, auth=doctor.signing()
    )
    assert code(verify) == (404, "unknown-object")
    put = await world.client.put("/objects/x", params={"patient": nobody}, content=b"", auth=doctor.signing())
    assert code(put) == (404, "unknown-subject")


@pytest.mark.parametrize(
    ("method", "url"),
    [
        ("PUT", "/objects/a b?patient=urn:uuid:00000000-0000-4000-8000-000000000000"),
        ("PUT", "/objects/x?patient=Mrs%20Miller"),
        ("PUT", "/objects/x"),
        ("GET", "/objects/%2e%2e%20"),
        ("GET", "/subjects/Mrs%20Miller/key"),
    ],
)
async def test_what_does_not_fit_the_schema_is_refused_without_quoting_it(
    world: World, method: str, url: str
) -> None:
    answer = await world.client.request(method, url, auth=world.people["doctor"].signing())

    assert code(answer) == (422, "invalid-request")
    assert "Miller" not in answer.text


async def test_many_registrations_of_one_patient_give_one_key(world: World) -> None:
    nonce, hospital = new_nonce(), world.people["hospital"]

    async def register() -> httpx.Response:
        body = {"nonce": nonce, "steward": hospital.did}
        return await world.client.post("/subjects", json=body, auth=hospital.signing())

    answers = await asyncio.gather(*(register() for _ in range(8)))

    # Case S3: some were 409, and each of those left a private key in the vault.
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["key"] for answer in answers}) == 1
    keys = world.bucket(world.settings.keys_bucket)
    assert len([entry async for entry in keys.list("subjects", on_stray=refuse_stray)]) == 1


async def test_uploads_at_once_do_not_disturb_each_other(world: World) -> None:
    patient = await world.patient()
    contents = {str(uuid4()): bytes([n]) * (n * 100_000) for n in range(8)}
    await asyncio.gather(*(world.store(patient, data, name=name) for name, data in contents.items()))
    answers = await asyncio.gather(*(world.read(name, patient) for name in contents))

    assert [answer.content for answer in answers] == list(contents.values())
    assert sum(isinstance(event, ObjectStored) for event in await world.told(patient)) == 8


async def test_it_says_whether_it_is_ready(world: World) -> None:
    answer = await world.client.get("/readyz")

    assert answer.json()["ready"] is True
    parts = ("kafka", "topics", "database", "fold", "signing-key", "objects", "keys")
    assert dict.fromkeys(parts, "ok").items() <= answer.json()["checks"].items()


async def test_no_health_data_is_on_the_topic(world: World) -> None:
    patient = await world.patient()
    await world.store(patient, b"her diagnosis is private")
    topic = ("salus.storage.events", 0)
    async with Reader(world.parts.kafka_bootstrap, starts={topic: 0}) as reader:
        end = (await reader.end_offsets())[topic]
        values = []
        while await reader.position(*topic) < end:
            values += [r.value for r in await reader.poll(max_records=500, timeout_ms=500)]

    assert not any(b"diagnosis" in value for value in values if value)


async def test_a_missing_key_object_is_not_mistaken_for_an_erasure(world: World) -> None:
    patient = await world.patient()
    name = await world.store(patient, b"content")
    keys = world.bucket(world.settings.keys_bucket)
    (key,) = [entry.key async for entry in keys.list("subjects", on_stray=refuse_stray)]
    await keys.delete(key)

    assert code(await world.read(name, patient)) == (500, "key-missing")
    with pytest.raises(NotFoundError):
        await keys.get(key, bytes_max=1 << 30)
