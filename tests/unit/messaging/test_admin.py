"""Whatever the library raises while topics are asked for is one of our errors, so that callers outlast it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import (
    IncompatibleBrokerVersion,
    KafkaError,
    KafkaTimeoutError,
    NodeNotReadyError,
    RequestTimedOutError,
)

from salus.messaging import BrokerAwayError, MessagingError, RefusedByBrokerError, admin
from salus.runtime.topic_check import TopicCheck


class Client:
    """The library's client, whose broker goes away after the start."""

    closed = 0

    def __init__(self, error: KafkaError) -> None:
        self.error = error

    async def start(self) -> None:
        """Connect."""

    async def close(self) -> None:
        self.closed += 1

    async def describe_topics(self, _: list[str]) -> Any:
        raise self.error


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (NodeNotReadyError(), BrokerAwayError),
        (RequestTimedOutError(), BrokerAwayError),
        (KafkaTimeoutError(), BrokerAwayError),
        (IncompatibleBrokerVersion(), RefusedByBrokerError),
    ],
)
async def test_a_broker_that_goes_away_after_the_start_is_away(
    monkeypatch: pytest.MonkeyPatch, error: KafkaError, ours: type[MessagingError]
) -> None:
    client = Client(error)
    monkeypatch.setattr(admin, "AIOKafkaAdminClient", lambda **_: client)

    with pytest.raises(ours, match=type(error).__name__):
        await admin.describe("kafka:9092", ["t"])
    assert client.closed == 1


async def test_the_check_of_topics_outlasts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    # case B9-1, the process of a sequencer ended when Kafka was busy for some seconds
    monkeypatch.setattr(admin, "AIOKafkaAdminClient", lambda **_: Client(NodeNotReadyError()))
    looks = 0

    def assigned() -> list[tuple[str, int]]:
        nonlocal looks
        looks += 1
        return [("t", 0)]

    monkeypatch.setattr("salus.runtime.topic_check.EVERY_S", 0.0)
    checking = asyncio.create_task(TopicCheck("kafka:9092", assigned).run())
    async with asyncio.timeout(60):
        while looks < 3 and not checking.done():  # noqa: ASYNC110  # a step of the check
            await asyncio.sleep(0)
    assert not checking.done()
    checking.cancel()


class Cluster:
    """The library's client of two brokers that learn of a new topic some questions after it was made."""

    def __init__(self, questions: dict[int, int]) -> None:
        self.until_known = questions

    async def start(self) -> None:
        """Connect."""

    async def close(self) -> None:
        """Disconnect."""

    async def create_topics(self, new: list[Any]) -> Any:
        return SimpleNamespace(topic_errors=[(topic.name, 0, None) for topic in new])

    async def describe_cluster(self) -> dict[str, Any]:
        return {"brokers": [{"node_id": node} for node in (0, 1, 2)]}

    async def _send_request(self, _: Any, node: int) -> Any:
        if node not in self.until_known:
            raise NodeNotReadyError
        self.until_known[node] -= 1
        # First it does not know the topic (3), then not who leads its partition (5).
        code, leader = (3, 0) if self.until_known[node] > 1 else (0, 5 if self.until_known[node] > 0 else 0)
        topic = {"topic": "t", "error_code": code, "partitions": [{"error_code": leader}]}
        return SimpleNamespace(to_object=lambda: {"topics": [topic]})


async def test_a_topic_that_was_made_is_known_to_every_broker_that_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster = Cluster({0: 1, 1: 5})
    monkeypatch.setattr(admin, "AIOKafkaAdminClient", lambda **_: cluster)

    await admin.ensure_topics("kafka:9092", [admin.Topic("t", 1)])

    assert cluster.until_known[1] == 0


async def test_a_broker_that_does_not_learn_of_it_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin, "AIOKafkaAdminClient", lambda **_: Cluster({0: 1_000_000}))
    monkeypatch.setattr(admin, "_LEARNS_WITHIN_S", 0.2)

    with pytest.raises(BrokerAwayError, match="topic t: a broker does not know of it"):
        await admin.ensure_topics("kafka:9092", [admin.Topic("t", 1)])
