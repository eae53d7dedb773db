"""Whatever the library raises while topics are asked for is one of our errors, so that callers outlast it."""

from __future__ import annotations

import asyncio
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
