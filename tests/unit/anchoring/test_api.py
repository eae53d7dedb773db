"""The HTTP face of anchoring, in memory: what is served, what waits, and what a failing part looks like."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry
from tests.unit.anchoring.receipts import receipt_service
from tests.unit.anchoring.world import LOG_SIGNER, World

from salus.anchoring import tracing
from salus.anchoring.api import log_routes, status_routes
from salus.anchoring.cose import CoseIssuer
from salus.anchoring.metrics import Metrics
from salus.anchoring.receipt_api import RECEIPTS_AT_ONCE_MAX, VALUES_MAX, receipt_routes
from salus.anchoring.runner import Runner
from salus.archive.building import BEGIN, TOPIC, SampleRecord, sample_records
from salus.archive.log import LogReader
from salus.archive.receipts import RecordPosition
from salus.devkit.waiting import until
from salus.ledger.block import header_key
from salus.ledger.cose import is_cose, signed_bytes
from salus.ledger.note import NoteSigner
from salus.ledger.receipt import verify_receipt
from salus.messaging import MessagingError
from salus.objects import RefusedError
from salus.runtime.service import create_app
from salus.runtime.settings import ProcessSettings


def sample_from(world: World, *, first: int) -> list[SampleRecord]:
    return sample_records(3, signer=world.chains[0].event_signer, first=first)


@dataclass
class Service:
    """Everything but Kafka and sockets."""

    world: World
    runner: Runner
    registry: CollectorRegistry
    http: httpx.AsyncClient

    async def receipt(self, offset: int, **more: Any) -> httpx.Response:
        params: dict[str, Any] = {"topic": TOPIC, "partition": 0, "offset": offset}
        return await self.http.get("/receipts", params=params | more)


@asynccontextmanager
async def serving(world: World, *, run: bool = True, poll_interval_s: float = 0.01) -> AsyncIterator[Service]:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    runner = Runner(world.anchor(), metrics, poll_interval_s=poll_interval_s, checkpoint_interval_s=0)
    folder = tempfile.mkdtemp(prefix="salus-anchoring-")
    receipts = receipt_service(world, runner, metrics, Path(folder))
    settings = ProcessSettings(service_name="anchoring", http_port=0)
    app = create_app(settings, title="anchoring", checks={}, values_max=VALUES_MAX)
    app.include_router(log_routes(runner, LogReader(world.log)))
    app.include_router(receipt_routes(receipts))
    app.include_router(status_routes(runner))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    running = [asyncio.create_task(work()) for work in (runner.run, receipts.lookup.run)] if run else []
    async with httpx.AsyncClient(transport=transport, base_url="http://anchoring") as http:
        yield Service(world, runner, registry, http)
    for task in running:
        task.cancel()
        await asyncio.wait([task])
    receipts.lookup._index.close()
    shutil.rmtree(folder)


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    async with serving(World(with_bodies=True)) as service:
        yield service


async def test_a_receipt_that_is_asked_for_before_the_record_exists_comes_when_it_is_anchored(
    service: Service,
) -> None:
    waiting = asyncio.create_task(service.receipt(1, wait_s=20))
    await service.world.chains[0].seal_samples(1)
    await service.world.chains[0].seal_samples(1)

    answer = await waiting

    assert verify_receipt(answer.content, service.world.policy).leaf.offset == 1
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["access-control-allow-origin"] == "*"


async def test_a_receipt_comes_in_its_cose_form_and_says_the_same(service: Service) -> None:
    for _ in range(2):
        await service.world.chains[0].seal_samples(1)
    await service.runner.wait_beyond(1)

    text, cose = await service.receipt(1), await service.receipt(1, format="cose")

    assert cose.headers["content-type"] == 'application/cose; cose-type="cose-sign1"'
    assert is_cose(cose.content)
    policy = service.world.policy
    assert verify_receipt(cose.content, policy) == verify_receipt(text.content, policy)
    assert (await service.receipt(1, format="jwt")).status_code == 422


async def test_the_root_of_a_checkpoint_is_signed_once_for_all_cose_receipts(service: Service) -> None:
    signed: list[bytes] = []

    class Recording(NoteSigner):
        def signature_of(self, text: bytes) -> bytes:
            signed.append(text)
            return super().signature_of(text)

    issuer = CoseIssuer(LOG_SIGNER.verifier, Recording(LOG_SIGNER.name, LOG_SIGNER._key))
    for _ in range(2):
        await service.world.chains[0].seal_samples(2)
    published = await service.runner.wait_beyond(1)
    texts = [(await service.receipt(offset)).content for offset in range(4)]
    for text in texts:
        verify_receipt(issuer.receipt(text), service.world.policy)

    assert signed == [signed_bytes(LOG_SIGNER.name, LOG_SIGNER.key_id, published.checkpoint.root)]


async def test_a_log_of_one_block_has_no_cose_receipt_yet(service: Service) -> None:
    await service.world.chains[0].seal_samples(1)
    await service.runner.wait_beyond(0)

    answer = await service.receipt(0, format="cose")

    assert (answer.status_code, answer.json()["code"]) == (409, "log-too-small")


async def test_waiting_ends_with_a_404_that_says_how_far_the_log_is(service: Service) -> None:
    await service.world.chains[0].seal_samples(3)
    await service.runner.wait_beyond(0)

    answer = await service.receipt(3, wait_s=0.05)

    assert answer.status_code == 404
    assert (answer.json()["code"], answer.json()["next_offset"]) == ("not-anchored-yet", 3)


async def test_a_record_older_than_the_ledger_is_told_apart(service: Service) -> None:
    await service.world.chains[0].seal(sample_from(service.world, first=5))
    await service.runner.wait_beyond(0)

    assert (await service.receipt(4)).json()["code"] == "before-the-ledger"
    assert (await service.receipt(5)).status_code == 200


async def test_an_offset_without_a_record_is_told_apart(service: Service) -> None:
    records = sample_from(service.world, first=0)
    await service.world.chains[0].seal([records[0], records[2]])
    await service.runner.wait_beyond(0)

    assert (await service.receipt(1)).json()["code"] == "no-such-record"


async def test_a_damaged_body_is_a_500_with_a_code_and_names_the_block(service: Service) -> None:
    await service.world.chains[0].seal_samples(1)
    await service.runner.wait_beyond(0)
    key = next(k for k in service.world.ledger.objects if "body" in k)
    service.world.ledger.objects[key] = (b"damaged", '"x"')

    answer = await service.receipt(0)

    assert answer.status_code == 500
    assert (answer.json()["code"], answer.json()["height"]) == ("archive-damaged", 0)


async def test_a_store_that_is_away_is_a_503_and_anchoring_goes_on_when_it_is_back(service: Service) -> None:
    await service.world.chains[0].seal_samples(1)
    await service.runner.wait_beyond(0)
    service.world.log.away = service.world.ledger.away = True

    assert (await service.receipt(0)).json()["code"] == "object-store-away"
    assert (await service.http.get("/log/tile/0/000.p/1")).json()["code"] == "object-store-away"
    assert await until(lambda: "away" in str(service.runner.trouble), deadline_s=60)
    assert (await service.http.get("/status")).json()["trouble"].startswith("StoreAwayError")
    # What is in memory is still served.
    assert (await service.http.get("/log/checkpoint")).status_code == 200

    service.world.log.away = service.world.ledger.away = False
    await service.world.chains[0].seal_samples(1)
    await service.runner.wait_beyond(1)
    assert await until(lambda: service.runner.trouble is None, deadline_s=60)


async def test_a_store_that_refuses_us_is_not_said_to_be_away(service: Service) -> None:
    """Case L2: a permanent answer was `object-store-away`, which callers wait for."""
    await service.world.chains[0].seal_samples(1)
    await service.runner.wait_beyond(0)

    async def refused(key: str, *, bytes_max: int) -> bytes:  # noqa: ARG001  # the store's shape
        raise RefusedError(key, "no permission")

    service.world.log.get = service.world.ledger.get = refused  # type: ignore[method-assign]  # lost its rights

    answer = await service.http.get("/log/tile/0/000.p/1")
    assert (answer.status_code, answer.json()["code"]) == (500, "object-store-refused")
    assert (await service.receipt(0)).json()["code"] == "object-store-refused"


async def test_before_the_log_is_loaded_everything_says_so() -> None:
    async with serving(World(), run=False) as service:
        for path in ("/log/checkpoint", "/status"):
            answer = await service.http.get(path)

            assert (answer.status_code, answer.json()["code"]) == (503, "not-started")


async def test_lag_counts_announced_blocks_that_are_not_in_the_log(service: Service) -> None:
    await service.world.chains[0].seal_samples(1)
    await service.runner.wait_beyond(0)

    service.runner.wake(shard=0, height=4)

    assert (await service.http.get("/status")).json()["lag_blocks"] == 4


async def test_a_stalled_chain_is_in_status_and_metrics(service: Service) -> None:
    service.world.ledger.objects[header_key(1, 0)] = (b"not a header", '"x"')
    await service.world.chains[0].seal_samples(1)
    await service.runner.wait_beyond(0)

    status = (await service.http.get("/status")).json()

    assert status["stalled"].keys() == {"1"}
    assert service.registry.get_sample_value("salus_anchoring_stalled_chains") == 1


async def test_another_process_on_the_same_log_is_followed() -> None:
    async with serving(World(), run=False) as service:
        await service.runner.anchor.stand()
        await service.world.chains[0].seal_samples(1)
        await service.world.anchor().append()

        await service.runner.anchor.refresh()

        assert (await service.http.get("/status")).json()["size"] == 1
        assert service.runner.find(RecordPosition(TOPIC, 0, 0)) == 0


@dataclass
class DeafNetwork:
    """Announcements that fail a few times."""

    failures: int
    announced: list[int]

    async def announce(self, *, size: int, checkpoint: str) -> None:
        assert checkpoint
        if self.failures:
            self.failures -= 1
            raise MessagingError("away")
        self.announced.append(size)


async def test_a_checkpoint_that_could_not_be_announced_is_announced_later(service: Service) -> None:
    network = DeafNetwork(failures=2, announced=[])
    announcing = asyncio.create_task(service.runner.announce(network))
    await service.world.chains[0].seal_samples(1)

    assert await until(lambda: 1 in network.announced, deadline_s=60)
    announcing.cancel()

    assert network.announced == sorted(network.announced)


async def test_an_append_is_traced_to_the_blocks_that_woke_it_and_on_to_its_announcement(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    monkeypatch.setattr(tracing, "_tracer", provider.get_tracer("test"))
    traced: list[int] = []

    class Listening(DeafNetwork):
        async def announce(self, *, size: int, checkpoint: str) -> None:
            await super().announce(size=size, checkpoint=checkpoint)
            if size:
                traced.append(trace.get_current_span().get_span_context().trace_id)

    async with serving(World(), poll_interval_s=600) as service:
        assert await until(lambda: service.runner.trouble is None, deadline_s=60)
        announcing = asyncio.create_task(service.runner.announce(Listening(0, [])))
        await service.world.chains[0].seal_samples(1)
        service.runner.wake(shard=0, height=0, traceparent=b"00-%032x-%016x-01" % (7, 8))
        service.runner.wake(shard=0, height=0, traceparent=b"anything")

        assert await until(lambda: bool(traced), deadline_s=60)
    announcing.cancel()
    (span,) = [s for s in spans.get_finished_spans() if s.name == "append to log"]
    assert [link.context.trace_id for link in span.links] == [7]
    assert traced == [span.context.trace_id]


# case F17
@pytest.mark.parametrize("path", ["tile/0/000.p/2", "tile/entries/000.p/2"])
async def test_a_wrong_tile_is_not_served_and_after_the_repair_the_right_one_is(
    service: Service, path: str
) -> None:
    await service.world.chains[0].seal_samples(1)
    await service.world.chains[0].seal_samples(1)
    await service.runner.wait_beyond(1)
    right = service.world.log.objects[path]
    service.world.log.objects[path] = (bytes(len(right[0])), "wrong")
    wrong = await service.http.get(f"/log/{path}")
    service.world.log.objects[path] = right
    repaired = await service.http.get(f"/log/{path}", headers={"Accept-Encoding": "identity"})

    assert (wrong.status_code, wrong.json()["code"]) == (500, "archive-damaged")
    assert "immutable" not in wrong.headers.get("cache-control", "")
    assert repaired.content == right[0]
    assert "immutable" in repaired.headers["cache-control"]


async def test_a_tile_beyond_the_published_checkpoint_is_not_to_be_kept(service: Service) -> None:
    await service.world.chains[0].seal_samples(1)
    await service.runner.wait_beyond(0)
    service.world.log.plant("tile/0/000.p/9", bytes(9 * 32))

    answer = await service.http.get("/log/tile/0/000.p/9")
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-cache")
    service.world.log.objects.pop("tile/0/000.p/9")
    assert (await service.http.get("/log/tile/0/000.p/9")).status_code == 404


# case L3
@pytest.mark.parametrize(
    ("accept_encoding", "coding"),
    [
        ("gzip", "gzip"),
        ("GZIP", "gzip"),
        ("gzip;q=0, identity", None),
        ("x-notgzip", None),
        ("identity", None),
    ],
)
async def test_entries_come_in_the_coding_asked_for_and_both_forms_say_that_they_vary(
    service: Service, accept_encoding: str, coding: str | None
) -> None:
    await service.world.chains[0].seal_samples(1)
    await service.runner.wait_beyond(0)

    entries = await service.http.get(
        "/log/tile/entries/000.p/1", headers={"Accept-Encoding": accept_encoding}
    )
    hashes = await service.http.get("/log/tile/0/000.p/1", headers={"Accept-Encoding": accept_encoding})

    assert entries.headers.get("content-encoding") == coding
    assert entries.headers["vary"] == "Accept-Encoding"
    # Hashes do not shrink, so there is one form of them.
    assert "vary" not in hashes.headers
    assert "content-encoding" not in hashes.headers


async def by_name(service: Service, number: int, **more: Any) -> httpx.Response:
    source = service.world.chains[0].event_signer.verification_method.partition("#")[0]
    params: dict[str, Any] = {"source": source, "id": f"event-{number}", "wait_s": 20}
    return await service.http.get("/receipts", params=params | more)


# case K4
async def test_an_accepted_event_is_found_by_its_source_and_id(service: Service) -> None:
    waiting = asyncio.create_task(by_name(service, 3))
    await service.world.chains[0].seal_samples(2)
    await service.world.chains[0].seal_samples(3)

    answer = await waiting
    leaf = verify_receipt(answer.content, service.world.policy).leaf

    assert (leaf.topic, leaf.partition, leaf.offset) == (TOPIC, 0, 3)
    assert answer.content == (await service.receipt(3)).content
    assert answer.headers["salus-event-time"] == BEGIN.isoformat()
    assert is_cose((await by_name(service, 3, format="cose")).content)


# case K4
async def test_a_rejected_duplicate_leads_to_the_accepted_record(service: Service) -> None:
    chain = service.world.chains[0]
    first = sample_from(service.world, first=0)
    again = [replace(record, offset=record.offset + 3, status="rejected:duplicate") for record in first]
    await chain.seal([*first, *again])

    leaf = verify_receipt((await by_name(service, 1)).content, service.world.policy).leaf

    assert (leaf.offset, leaf.status) == (1, "accepted")


async def test_an_event_that_is_nowhere_is_said_to_be_unknown(service: Service) -> None:
    await service.world.chains[0].seal_samples(1)
    await by_name(service, 0)

    answer = await by_name(service, 7, wait_s=0)

    assert (answer.status_code, answer.json()["code"], answer.json()["indexed"]) == (404, "unknown-event", 1)


@pytest.mark.parametrize(
    "query", ["source=a", "id=b", "topic=t&partition=0", "topic=t&partition=0&offset=0&id=b", ""]
)
async def test_a_record_is_named_in_one_of_two_ways(service: Service, query: str) -> None:
    assert (await service.http.get(f"/receipts?{query}")).status_code == 422


async def test_many_receipts_come_in_one_answer_in_the_order_asked(service: Service) -> None:
    await service.world.chains[0].seal_samples(3)
    source = service.world.chains[0].event_signer.verification_method.partition("#")[0]
    await by_name(service, 2)
    wanted: list[dict[str, Any]] = [
        {"source": source, "id": "event-2"},
        {"topic": TOPIC, "partition": 0, "offset": 9},
        {"topic": TOPIC, "partition": 0, "offset": 0},
        {"source": source, "id": "nobody"},
    ]

    answer = await service.http.post("/receipts", json={"records": wanted})
    lines = [json.loads(line) for line in answer.text.split("\n")[:-1]]

    assert answer.headers["content-type"] == "application/x-ndjson"
    assert [line.get("code") for line in lines] == [None, "not-anchored-yet", None, "unknown-event"]
    offsets = [verify_receipt(lines[n]["receipt"].encode(), service.world.policy).leaf.offset for n in (0, 2)]
    assert offsets == [2, 0]
    assert lines[0] == wanted[0] | {
        "topic": TOPIC,
        "partition": 0,
        "offset": 2,
        "time": BEGIN.isoformat(),
        "receipt": (await service.receipt(2)).text,
    }
    assert (await service.http.post("/receipts", json={"records": wanted * 251})).status_code == 422
    most = {"records": wanted[:2] * (RECEIPTS_AT_ONCE_MAX // 2), "wait_s": 0}
    assert (await service.http.post("/receipts", json=most)).status_code == 200


# red team 5, A2
async def test_of_a_body_of_many_names_nothing_is_parsed(service: Service) -> None:
    body = json.dumps({f"x{number}": 1 for number in range(4 * RECEIPTS_AT_ONCE_MAX + 2)})
    answer = await service.http.post("/receipts", content=body, headers={"Content-Type": "application/json"})

    assert (answer.status_code, answer.json()["detail"]) == (422, "body: it has at most 4000 values")
