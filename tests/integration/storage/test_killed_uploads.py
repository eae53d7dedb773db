"""Storage is killed during an upload: no half object is readable, and repeating the upload settles it.

The bucket is compared with the ledger afterwards, on real Kafka and MinIO.
"""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from tests.asking import NETWORK
from tests.integration.replicas import DEADLINE_S, running
from tests.integration.storage import dying_storage
from tests.integration.storage.conftest import World

from salus.client.auth import RequestSigner
from salus.events.contexts.storage import ObjectStored
from salus.objects import Entry, Stray
from salus.storage.handlers.upload_parts import PART_BYTES, PARTS_FOLDER

MIB = 1024 * 1024
CONTENT = bytes(range(256)) * (32 * MIB // 256)


async def body() -> AsyncIterator[bytes]:
    for start in range(0, len(CONTENT), MIB):
        yield CONTENT[start : start + MIB]


async def put(http: httpx.AsyncClient, world: World, patient: str) -> httpx.Response:
    return await http.put(
        "/objects/scan-1",
        params={"patient": patient},
        content=body(),
        auth=world.people["hospital"].signing(stream=True),
    )


async def objects_of(world: World) -> list[Entry]:
    left: list[Stray] = []
    bucket = world.bucket(world.settings.objects_bucket)
    return [entry async for entry in bucket.list("scan-1", on_stray=left.append)]


async def verification(world: World, after: str = "") -> list[dict[str, Any]]:
    operator = RequestSigner(world.folder.signer("operator"), "storage", network=NETWORK)
    answer = await world.client.get("/verification", params={"after": after}, auth=operator)
    assert answer.status_code == 200, answer.text
    lines = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("step", dying_storage.UPLOAD_STEPS)
async def test_an_upload_that_was_killed_is_repeated_and_leaves_no_half_object(
    world: World, step: str
) -> None:
    patient = await world.patient()
    await world.stop()
    async with running(world.settings, str(dying_storage.__file__), step) as replica:
        async with httpx.AsyncClient(trust_env=False, timeout=DEADLINE_S, base_url=replica.url) as http:
            with pytest.raises(httpx.TransportError):
                await put(http, world, patient)
        assert await asyncio.wait_for(replica.process.wait(), DEADLINE_S) == -signal.SIGKILL
    await world.start()
    before, orphans = await world.read("scan-1", patient), await objects_of(world)
    found = [event["finding"]["kind"] for event in await verification(world) if "finding" in event]
    again = await put(world.client, world, patient)
    read = await world.read("scan-1", patient)

    assert before.status_code == (200 if step == "named" else 404)
    assert len(orphans) == (0 if step == "midway" else 1)
    assert found == (["unnamed"] if step == "stored" else [])
    assert again.status_code == (200 if step == "named" else 201)
    assert read.content == CONTENT


async def test_an_upload_that_resumes_survives_kills_and_goes_on_at_another_replica(world: World) -> None:
    """Killed after a part, and while the object is made; the rest goes to a replica that saw none of it."""
    patient = await world.patient()
    tus, query = {"Tus-Resumable": "1.0.0"}, {"patient": patient, "object": "scan-2"}
    sized = tus | {"Upload-Length": str(len(CONTENT)), "Upload-Metadata": "filetype aW1hZ2UvcG5n"}
    hospital, bucket = world.people["hospital"], world.bucket(world.settings.objects_bucket)
    made = await world.client.post("/uploads", params=query, headers=sized, auth=hospital.signing())
    url = made.headers["location"]

    async def patch(http: httpx.AsyncClient, start: int, end: int, **more: str) -> httpx.Response:
        told = tus | {"Upload-Offset": str(start), "Content-Type": "application/offset+octet-stream"} | more
        sent = hospital.signing(stream=True)
        return await http.patch(url, content=CONTENT[start:end], headers=told, auth=sent)

    async def killed(step: str, start: int) -> int:
        settings = world.settings.model_copy(
            update={"database_url": f"sqlite+aiosqlite:///{world.folder.folder / step}.db"}
        )
        async with running(settings, str(dying_storage.__file__), step) as replica:
            async with httpx.AsyncClient(trust_env=False, timeout=DEADLINE_S, base_url=replica.url) as http:
                with pytest.raises(httpx.TransportError):
                    await patch(http, start, len(CONTENT))
            assert await asyncio.wait_for(replica.process.wait(), DEADLINE_S) == -signal.SIGKILL
        told = await world.client.head(url, headers=tus, auth=hospital.signing())
        return int(told.headers["upload-offset"])

    left: list[Stray] = []
    parted = await killed("parted", 0)
    parts = [entry.key async for entry in bucket.list(PARTS_FOLDER, on_stray=left.append)]
    raw = [await bucket.get(part, bytes_max=2 * PART_BYTES) for part in parts]
    stale = await patch(world.client, 0, MIB)
    wrong = await patch(world.client, parted, parted + 9, **{"Upload-Checksum": f"sha256 {'A' * 43}="})
    midway = await killed("midway", parted)
    found = [event["finding"]["kind"] for event in await verification(world) if "finding" in event]
    before = await world.read("scan-2", patient)
    last = await patch(world.client, midway, len(CONTENT))
    read = await world.read("scan-2", patient)
    kept = [entry.key async for entry in bucket.list(PARTS_FOLDER, on_stray=left.append)]
    stored = [event for event in await world.told(patient) if isinstance(event, ObjectStored)]

    assert made.status_code == 201, made.text
    assert parted == dying_storage.PARTS_BEFORE_DEATH * PART_BYTES
    assert len(parts) == dying_storage.PARTS_BEFORE_DEATH
    assert not any(CONTENT[:256] in part for part in raw), "nothing readable lies there"
    assert (stale.status_code, stale.json()["code"]) == (409, "offset-mismatch")
    assert (wrong.status_code, wrong.json()["code"]) == (460, "checksum-mismatch")
    assert midway == len(CONTENT) - PART_BYTES, "the last bytes are durable with the object"
    assert (found, before.status_code) == ([], 404)
    assert last.status_code == 204, last.text
    assert read.content == CONTENT
    assert read.headers["content-type"] == "image/png"
    assert kept == []
    assert [event.object for event in stored] == ["scan-2"]


async def test_a_bucket_is_compared_with_the_ledger(world: World) -> None:
    patient = await world.patient()
    names = [await world.store(patient, CONTENT[: 2 * MIB]) for _ in range(3)]
    bucket = world.bucket(world.settings.objects_bucket)
    clean = await verification(world)
    left: list[Stray] = []
    places = [entry.key async for entry in bucket.list(on_stray=left.append)]
    damaged, missing = places[0], places[1]
    raw = bytearray(await bucket.get(damaged, bytes_max=1 << 30))
    raw[raw.index(b"\n\n") + 2 + MIB + 9] ^= 1
    await bucket.put(damaged, bytes(raw))
    await bucket.delete(missing)
    await bucket.put("somebody/else", b"x")
    told = await verification(world)
    rest = await verification(world, after=places[1])
    by_doctor = await world.client.get("/verification", auth=world.people["doctor"].signing())

    assert clean[-1] == {"result": "intact", "findings": 0}
    assert {
        event["finding"]["location"]: event["finding"]["kind"] for event in told if "finding" in event
    } == {
        damaged: "damaged",
        missing: "damaged",
        "somebody/else": "unnamed",
    }
    faults = {e["finding"]["location"]: e["finding"].get("faults") for e in told if "finding" in e}
    assert faults[damaged] == [{"part": "segment", "fault": "altered", "segment": 1}]
    assert faults[missing] == [{"part": "object", "fault": "missing"}]
    assert damaged.partition("/")[0] in names
    assert rest[-1] == {"result": "differs", "findings": 1}
    assert by_doctor.json()["code"] == "not-allowed"
