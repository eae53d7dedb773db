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
from salus.objects import Entry, Stray

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
