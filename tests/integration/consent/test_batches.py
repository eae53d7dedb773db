"""Many questions in one request on real Kafka: killed at work, asked again, and while topics stand still."""

from __future__ import annotations

import os
import signal
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from msgspec import structs
from tests.integration.consent.town import Town, founded_town, signing
from tests.integration.replicas import Command, Load, replicas, taken

from salus.devkit.addresses import Addresses
from salus.devkit.kafka_server import KafkaServer
from salus.devkit.narration import PlainNarrator
from salus.devkit.processes import Place
from salus.devkit.waiting import until
from salus.events.contexts.consent import AccessDecided
from salus.ledger.json_reader import read_json

OBJECTS = [f"object-{number}" for number in range(5)]


def batches_of(town: Town) -> Command:
    key = str(uuid.uuid4())
    questions = [town.question(object=name) for name in OBJECTS]
    first: list[dict[str, object]] = []

    async def ask(http: httpx.AsyncClient, url: str) -> str | None:
        try:
            answer = await http.post(
                f"{url}/decisions/batch",
                json={"questions": questions},
                headers={"Idempotency-Key": key},
                auth=signing(town.clinician),
            )
        except httpx.TransportError:
            return None
        if answer.json().get("code") == "batch-incomplete":
            first[:] = [item for item in answer.json()["items"] if item["outcome"] == "applied"]
        if answer.status_code == 409 or not taken(answer):
            return None
        items = answer.json()["items"]
        assert [item["outcome"] for item in items] == ["applied"] * len(OBJECTS)
        assert all(item in items for item in first), "what was answered once is answered so again"
        return ",".join(item["decision"]["decision"] for item in items)

    return ask


async def test_of_a_batch_that_a_crash_cut_off_each_part_is_there_once_and_asked_again_it_is_the_same(
    town: Town, postgres: str
) -> None:
    settings = town.settings(postgres, denials_burst_max=100_000)
    async with town.replica() as client:
        granted = await client.post("/consents", json=town.grant(), auth=signing(town.hospital))
        assert granted.status_code == 201
    async with replicas("salus.consent", settings) as started, httpx.AsyncClient(trust_env=False):
        load = Load(started, lambda: batches_of(town))
        await load.run()
    stated = [event.data for event in await town.events() if isinstance(event.data, AccessDecided)]
    effective: dict[str, AccessDecided] = {}
    for data in stated:
        effective.setdefault(data.decision, data)
    answered = [name for names in load.answered for name in names.split(",")]

    assert Counter(answered) == Counter(dict.fromkeys(effective, 1)), "each is on the topic, and told once"
    for data in stated:
        assert data.item is not None
        assert data.object == OBJECTS[data.item]
        assert data.allowed
        assert data.request.body is not None
        assert len(read_json(data.request.body.encode())["questions"]) == len(OBJECTS)


async def test_one_replica_answers_what_another_decided_and_authzen_asks_the_same(town: Town) -> None:
    questions = [town.question(object=name) for name in OBJECTS[:2]]
    headers, auth = {"Idempotency-Key": "the-same-key"}, signing(town.clinician)
    evaluation = {
        "subject": {"type": "person", "id": town.clinician.did},
        "action": {"name": "read"},
        "context": {"purpose": "TREAT"},
        "evaluations": [
            {"resource": {"type": "record", "id": name, "properties": {"patient": town.pseudonym}}}
            for name in OBJECTS[:3]
        ],
    }
    async with town.replica("a.db") as a, town.replica("b.db") as b:
        await a.post("/consents", json=town.grant(), auth=signing(town.hospital))
        first = await a.post("/decisions/batch", json={"questions": questions}, headers=headers, auth=auth)
        again = await b.post("/decisions/batch", json={"questions": questions}, headers=headers, auth=auth)
        authzen = await b.post("/access/v1/evaluations", json=evaluation, auth=auth)
    stated = [event.data for event in await town.events() if isinstance(event.data, AccessDecided)]

    assert first.status_code == again.status_code == authzen.status_code == 200, authzen.text
    assert first.json() == again.json()
    assert [one["decision"] for one in authzen.json()["evaluations"]] == [True] * 3
    assert [(data.item, data.repeatable) for data in stated] == [
        (0, True),
        (1, True),
        (0, False),
        (1, False),
        (2, False),
    ]
    # AuthZEN wants unknown members ignored: its bodies are not on the ledger, only their digest.
    assert [data.request.body is None for data in stated] == [False, False, True, True, True]


@pytest.fixture
async def broker(session_folder: Path) -> AsyncIterator[KafkaServer]:
    """A broker of this test's own, to be stopped and continued."""
    folder = session_folder / f"stale-{uuid.uuid4().hex[:8]}"
    server = KafkaServer(Place(folder, folder / "logs", detached=False), PlainNarrator())
    await server.start()
    yield server
    signal_to(server, signal.SIGCONT)
    await server.stop()


def signal_to(broker: KafkaServer, which: signal.Signals) -> None:
    assert broker.process is not None
    os.kill(broker.process.pid, which)


async def test_while_topics_stand_still_nothing_is_decided_and_the_age_is_said(
    broker: KafkaServer, parts: Addresses, tmp_path: Path
) -> None:
    town = await founded_town(structs.replace(parts, kafka_bootstrap=broker.bootstrap), tmp_path)
    auth, question = signing(town.clinician), town.question()
    asked = {
        "/decisions": question,
        "/decisions/batch": {"questions": [question]},
        "/access/v1/evaluation": {
            "subject": {"type": "person", "id": town.clinician.did},
            "action": {"name": "read"},
            "resource": {"type": "record", "id": "object-1", "properties": {"patient": town.pseudonym}},
            "context": {"purpose": "TREAT"},
        },
    }
    async with town.replica(state_age_ms_max=500) as client:
        await client.post("/consents", json=town.grant(), auth=signing(town.hospital))
        assert (await client.post("/decisions", json=question, auth=auth)).json()["allowed"]
        signal_to(broker, signal.SIGSTOP)
        refused = {path: await client.post(path, json=body, auth=auth) for path, body in asked.items()}
        signal_to(broker, signal.SIGCONT)

        async def answered() -> bool:
            return (await client.post("/decisions", json=question, auth=auth)).status_code == 200

        assert await until(answered, deadline_s=60), "it goes on by itself"
    for path in ("/decisions", "/decisions/batch"):
        problem = refused[path].json()
        assert (refused[path].status_code, problem["code"]) == (503, "state-stale"), path
        assert problem["age_ms"] >= 500
    assert refused["/access/v1/evaluation"].status_code == 503
    assert refused["/access/v1/evaluation"].json().startswith("state-stale: ")
