"""The real producer is a `Sender`."""

from __future__ import annotations

import uuid

import pytest
from tests.contracts.client.sender import CHECKS, Check

from salus.devkit.addresses import Addresses
from salus.messaging import Position, Reader, RecoveringProducer, Topic, ensure_topics


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("idempotent", [False, True], ids=["as members send", "as services send"])
async def test_the_producer_keeps_the_contract(check: Check, parts: Addresses, *, idempotent: bool) -> None:
    topic = f"sender-{uuid.uuid4().hex}"
    await ensure_topics(parts.kafka_bootstrap, [Topic(topic, 3)])

    async def stored(at: Position) -> tuple[bytes | None, bytes | None, dict[str, bytes]]:
        async with Reader(parts.kafka_bootstrap, starts={(at.topic, at.partition): at.offset}) as reader:
            while not (records := await reader.poll(max_records=1, timeout_ms=1000)):
                pass
        return records[0].key, records[0].value, dict(records[0].headers)

    async with RecoveringProducer(parts.kafka_bootstrap, client_id="test", idempotent=idempotent) as producer:
        await check(producer, topic, stored)
