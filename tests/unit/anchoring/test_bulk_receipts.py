"""What a request for many receipts takes of the service, and what it leaves to the others."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from tests.unit.anchoring.test_api import Service, by_name, serving
from tests.unit.anchoring.world import World

from salus.anchoring import receipt_api
from salus.anchoring.runner import Runner
from salus.archive.building import TOPIC
from salus.archive.receipts import BLOCKS_AT_ONCE_MAX, ReceiptMaker, RecordPosition
from salus.devkit.waiting import until


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    async with serving(World(with_bodies=True)) as service:
        yield service


# Case LOW 8 of red team B: anybody had a thousand blocks read and decoded by one request.
async def test_one_request_reads_so_many_blocks_and_says_of_the_rest_to_ask_again(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receipt_api, "BULK_BLOCKS_MAX", 2)
    for _ in range(4):
        await service.world.chains[0].seal_samples(1)
    source = service.world.chains[0].event_signer.verification_method.partition("#")[0]
    await by_name(service, 3)
    at = [{"topic": TOPIC, "partition": 0, "offset": offset} for offset in range(4)]
    named = [{"source": source, "id": f"event-{number}"} for number in range(4)]

    answer = await service.http.post("/receipts", json={"records": [*at, *named]})
    codes = [json.loads(line).get("code") for line in answer.text.split("\n")[:-1]]

    assert codes == [None, None, "too-many-blocks", "too-many-blocks"] * 2


async def test_requests_for_many_leave_places_for_requests_for_one(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(4):
        await service.world.chains[0].seal_samples(1)
    assert (await service.receipt(3, wait_s=20)).status_code == 200
    held, go = [], asyncio.Event()
    make = receipt_api._receipt

    async def slowly(runner: Runner, maker: ReceiptMaker, record: RecordPosition, entry: int) -> bytes:
        if record.offset != 3:
            held.append(record.offset)
            await go.wait()
        return await make(runner, maker, record, entry)

    monkeypatch.setattr(receipt_api, "_receipt", slowly)
    asked = [
        asyncio.create_task(
            service.http.post(
                "/receipts", json={"records": [{"topic": TOPIC, "partition": 0, "offset": n % 3}]}
            )
        )
        for n in range(6)
    ]
    assert await until(lambda: len(held) == receipt_api.BULK_AT_ONCE_MAX, deadline_s=60)

    assert (await service.receipt(3)).status_code == 200
    assert len(held) == receipt_api.BULK_AT_ONCE_MAX < BLOCKS_AT_ONCE_MAX
    go.set()
    assert {answer.status_code for answer in await asyncio.gather(*asked)} == {200}
