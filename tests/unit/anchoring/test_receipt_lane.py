"""The lane past the web framework answers as the app does, and takes nothing that is not its own."""

from __future__ import annotations

from dataclasses import dataclass

import httpx
import pytest
from prometheus_client import CollectorRegistry
from tests.unit.anchoring.test_api import Service, serving
from tests.unit.anchoring.world import SHARD_SIGNERS, World

from salus.anchoring.metrics import Metrics
from salus.anchoring.receipt_lane import ReceiptLane
from salus.archive.blocks import BlockArchive
from salus.archive.building import TOPIC
from salus.archive.log import LogReader
from salus.archive.receipts import ReceiptMaker
from salus.ledger.block import body_key, open_header
from salus.ledger.receipt import verify_receipt

HERE = f"/receipts?topic={TOPIC}&partition=0&offset=1"


class Counted:
    """The app, and how often it was asked."""

    def __init__(self, app):
        self.app = app
        self.asked = 0

    async def __call__(self, scope, receive, send):
        self.asked += 1
        await self.app(scope, receive, send)


@dataclass
class Lane:
    """What is asked through the lane, and the app behind it."""

    http: httpx.AsyncClient
    app: Counted

    async def get(self, path, **more):
        return await self.http.get(path, **more)


@pytest.fixture
async def service():
    async with serving(World(with_bodies=True)) as service:
        yield service


@pytest.fixture
async def lane(service: Service):
    transport = service.http._transport
    assert isinstance(transport, httpx.ASGITransport)
    app = Counted(transport.app)
    maker = ReceiptMaker(
        BlockArchive(service.world.ledger),
        LogReader(service.world.log),
        open_note=lambda shard, note: open_header(note, SHARD_SIGNERS[shard].verifier),
    )
    front = ReceiptLane(app, service.runner, maker, Metrics(CollectorRegistry()))
    transport = httpx.ASGITransport(front, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://anchoring") as http:
        yield Lane(http, app)


async def test_a_receipt_that_is_there_is_the_app_s_own_and_the_app_is_not_asked(service, lane):
    await service.world.chains[0].seal_samples(3)
    await service.runner.wait_beyond(0)

    answer, theirs = await lane.get(HERE), await service.http.get(HERE)

    assert verify_receipt(answer.content, service.world.policy).leaf.offset == 1
    assert (answer.status_code, answer.content) == (theirs.status_code, theirs.content)
    assert dict(answer.headers) == dict(theirs.headers)
    assert lane.app.asked == 0


@pytest.mark.parametrize(
    "path",
    [
        f"/receipts?topic={TOPIC}&partition=0&offset=99",
        f"/receipts?topic={TOPIC}&partition=9&offset=0",
        f"/receipts?topic={TOPIC}&partition=0&offset=-1",
        f"/receipts?topic={TOPIC}&partition=0",
        f"/receipts?topic={'t' * 300}&partition=0&offset=1",
        f"{HERE}&wait_s=0",
        f"{HERE}&format=cose",
        f"{HERE}&offset=2",
        "/receipts",
        "/status",
        "/log/checkpoint",
    ],
)
async def test_whatever_else_is_asked_is_the_app_s_to_answer(service, lane, path):
    await service.world.chains[0].seal_samples(3)
    await service.runner.wait_beyond(0)

    answer, theirs = await lane.get(path), await service.http.get(path)

    assert answer.status_code == theirs.status_code
    if path != "/status":
        assert answer.content == theirs.content
    assert lane.app.asked == 1


async def test_another_method_and_a_traced_request_go_to_the_app(service, lane):
    await service.world.chains[0].seal_samples(3)
    await service.runner.wait_beyond(0)
    trace = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}

    assert (await lane.http.put(HERE)).status_code == 405
    assert (await lane.get(HERE, headers=trace)).status_code == 200
    assert lane.app.asked == 2


async def test_nothing_is_anchored_yet_is_the_app_s_to_say(lane):
    answer = await lane.get(HERE)

    assert answer.json()["code"] == "unknown-partition"


async def test_a_body_that_is_gone_is_told_by_the_app(service, lane):
    await service.world.chains[0].seal_samples(3)
    await service.runner.wait_beyond(0)
    header = service.world.chains[0].headers[0]
    await service.world.ledger.delete(body_key(0, header.height, header.root))

    answer = await lane.get(HERE)

    assert (answer.status_code, answer.json()["code"]) == (500, "archive-object-missing")
    assert lane.app.asked == 1
